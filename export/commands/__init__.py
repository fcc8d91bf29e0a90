"""The commands of `python -m export`: options in, one call of the part that does the work, tables and lines out."""
