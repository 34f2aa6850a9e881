"""Errors, files, downloads, settings, logging: used by every other package, imports none of them, and no torch."""
