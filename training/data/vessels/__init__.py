"""Public data with masks of the retina's vessels: what they mark, and where it lies."""
