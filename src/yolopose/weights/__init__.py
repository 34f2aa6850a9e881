"""Checkpoints: our format, and restricted reading of foreign ones."""
