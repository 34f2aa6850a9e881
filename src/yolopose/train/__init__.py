"""Training: the loop, and the small handles that it calls."""
