"""Fixtures of the tests that train."""

import pytest


@pytest.fixture
def eager():
    """Without graphs of TensorFlow: tracing one takes longer than the few steps of a test."""
    tensorflow = pytest.importorskip("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)
