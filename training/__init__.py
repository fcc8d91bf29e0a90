"""Training: data preparation, fitting, evaluation and the synthetic images that exercise them."""
