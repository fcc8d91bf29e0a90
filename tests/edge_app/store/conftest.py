"""An empty store, and the steps of a box's life."""

import sys
from pathlib import Path

import pytest

from edge_app.store.store import Store

sys.path.append(str(Path(__file__).parent))  # for store_steps.py


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "data")
    yield store
    store.close()
