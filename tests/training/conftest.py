"""Fixtures of the tests that train."""

import pytest

from training.data.files import notices


@pytest.fixture(autouse=True)
def _notices_are_told_anew():
    """A notice is told once in the life of a program: a test must hear one that another test has heard."""
    notices._print_once.cache_clear()


@pytest.fixture
def eager():
    """Without graphs of TensorFlow: tracing one takes longer than the few steps of a test."""
    tensorflow = pytest.importorskip("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)
