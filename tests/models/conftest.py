import keras
import pytest


@pytest.fixture(autouse=True)
def _the_same_weights_every_time():
    """Initial weights follow Keras' global generator: without a seed each run would test another network."""
    keras.utils.set_random_seed(5)
