"""The figures of a report: arrays in, one figure out; nothing is read, computed twice or written here."""
