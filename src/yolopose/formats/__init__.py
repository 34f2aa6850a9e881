"""One file per file format that a network can be loaded from or exported to."""
