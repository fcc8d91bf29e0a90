"""From images to batches, augmented."""
