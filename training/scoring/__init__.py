"""Scores with intervals, of images, eyes and patients; and comparisons.

Bottom-up: `arrays` < `bootstrap`, `cases`, `ranking` < `scores` < `levels`, `significance`, `thresholds` < `tables`,
`printing` < `evaluate`, the only one that needs Keras.
"""
