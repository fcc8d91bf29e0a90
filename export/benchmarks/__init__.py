"""What takes how long: run one with `python -m export.benchmarks.NAME`."""
