"""What takes how long: run one with `python -m training.benchmarks.NAME`."""
