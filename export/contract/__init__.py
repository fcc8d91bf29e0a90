"""Whether an artifact still does what the network does."""
