"""What there is before a network sees it: label lists, splits, resampling, files made ready."""
