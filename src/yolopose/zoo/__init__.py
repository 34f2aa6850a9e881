"""Data files that ship with the package: model YAMLs and data set YAMLs. No code but their lookup."""
