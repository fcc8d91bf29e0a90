"""Networks that are only timed: of others, cut from ours, of presets with random weights."""
