"""Scores with intervals, of images, eyes and patients; and comparisons.

Bottom-up: `statistics`, of arrays alone < `by_kind`, of each kind of output < `thresholds`, `tables`, `printing` <
`evaluate`, of a network or a run < `folds`; and `clinic`, what a box's users would see.
"""
