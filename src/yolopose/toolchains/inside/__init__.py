"""What runs in the Python of a toolchain, where yolopose is not: plain files that import nothing of ours."""
