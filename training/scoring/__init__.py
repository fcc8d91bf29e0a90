"""Scores with intervals, of images, eyes and patients; and comparisons."""
