"""The report of finished runs.

Bottom-up: `plots` (arrays in, a figure out) < `diagnostics`, `gallery`, `score_names` < `tables`,
`run_images` < `by_kind` (grades, masks, points) and the sections of labels < `page`.
"""
