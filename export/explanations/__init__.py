"""Whether the class maps of a bundle lie on the lesion, say what the network used, and come from what it learned."""
