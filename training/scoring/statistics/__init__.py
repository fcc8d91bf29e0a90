"""Scores with intervals from arrays of what was said and what is true, and comparisons: no network, no run.

Bottom-up: `arrays` < `bootstrap`, `cases`, `ranking` < `scores` < `levels`, `significance`.
"""
