"""From trained weights to a deployable bundle, and the proof that the bundle computes what the training model does."""
