"""Scores with intervals, of images, eyes and patients; and comparisons.

Bottom-up: `statistics`, of arrays alone < `by_kind`, of each kind of output < `thresholds`, `tables`, `evaluated_runs`,
`printing` < `comparison` < `evaluate`, of a network or a run < `pooled` < `folds`; and `clinic`, what a box's users
would see.
"""
