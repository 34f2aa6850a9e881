"""Prediction: sources, suppression, and the pipeline that joins them."""
