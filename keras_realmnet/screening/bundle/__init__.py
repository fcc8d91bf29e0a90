"""A model and all that belongs to it, in one folder: read, checked, written."""
