"""Formats that are written, and run, in a private environment (`yolopose.toolchains`)."""
