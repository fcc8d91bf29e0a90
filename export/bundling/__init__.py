"""A run becomes a bundle; a bundle gets further artifacts."""
