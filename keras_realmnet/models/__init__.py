"""The networks, written with Keras layers and `keras.ops` alone: TensorFlow, JAX and PyTorch run them alike."""

# Importing Keras registers our classes (see keras_realmnet/__init__.py), which imports modules of this package. So
# Keras is imported before any of them: in the middle of one, the others would find it half loaded.
import keras  # noqa: F401
