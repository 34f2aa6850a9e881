"""Validation: matching, average precision, the metrics object, plots."""
