"""Data sets: YAML, label files and their cache, image decoding, validation batches."""
