"""What the box, training, evaluation and export share. NumPy, OpenCV, Pillow and pydicom only: never Keras."""
