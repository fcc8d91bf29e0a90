"""A Keras network in, artifacts out: one file per format and one per way of quantizing it."""
