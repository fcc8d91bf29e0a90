"""The report of finished runs.

Bottom-up: `plots` (arrays in, a figure out) < `evaluated_runs`, `diagnostics`, `gallery`, `score_names` < `tables` and
the three sections < `page`.
"""
