"""Synthetic ultra-widefield images with exact truth.

Bottom-up: `drawing` (one file for each structure) < `phantom` (one eye) and `files` < `cohorts` < `phantom_study`,
`sample_files`.
"""
