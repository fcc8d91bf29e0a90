"""Public data with masks of the lesions of diabetic retinopathy: what they mark, and where it lies."""
