"""The networks, written with Keras layers and `keras.ops` alone: TensorFlow, JAX and PyTorch run them alike."""
