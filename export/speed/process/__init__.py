"""What is timed runs in a process of its own: as the benchmark holds it, and what the process does."""
