"""Formats that are written, and mostly run, in a private environment (`yolopose.toolchains`)."""
