"""What stands between a network's output and its decision, fitted on validation images: calibration, operating points,
conformal limits; and how true probabilities are. Test images are measured on, never chosen on.
"""
