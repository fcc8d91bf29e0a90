"""The figures of a clinic: of records of the box, or of a run's test pictures."""
