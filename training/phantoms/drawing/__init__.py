"""How a synthetic eye is drawn: its random numbers, its canvas, and each structure that is painted on it."""
