"""What is fitted on validation images and stands between a network's output and the rule. NumPy only, for the box."""
