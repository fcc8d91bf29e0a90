"""In which regions of an eye annotators saw a finding: their records, on disk, made of masks, and simulated."""
