"""What the networks are made of: heads, blocks, normalization, and points by maps."""
