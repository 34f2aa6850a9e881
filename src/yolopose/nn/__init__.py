"""Networks: blocks, heads, and the way from a model YAML to a network."""
