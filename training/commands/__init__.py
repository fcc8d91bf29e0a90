"""The commands of `python -m training`: options in, one call of the part that does the work, a few lines out."""
