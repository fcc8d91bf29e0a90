"""Data sets of pictures that are drawn here, with exact truth."""
