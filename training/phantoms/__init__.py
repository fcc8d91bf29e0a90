"""Synthetic ultra-widefield images and colour fundus photographs with exact truth.

Bottom-up: `drawing` (one file for each structure) < `phantom` (one eye) and `files` < `photograph` (one eye before a
fundus camera), `cohorts` < `phantom_study`, `sample_files`.
"""
