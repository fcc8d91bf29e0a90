"""The data sets that a recipe names: images ready for the network, with their truth."""
