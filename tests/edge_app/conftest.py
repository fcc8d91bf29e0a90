"""Pictures to screen with the small bundle of tests/tiny_bundle.py, which calls a bright patch an atrophy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.phantom import render


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """One picture per outcome, uint8 RGB of shape (h, w, 3)."""
    healthy = render(5, width=780, staphyloma=False, grade=0, eye="OD").image
    patch = healthy.copy()
    patch[200:320, 350:480] = (235, 225, 40)  # larger than a cell of the network's 8 x 8
    return {
        "negative": healthy,
        "refer": patch,
        "insufficient": (healthy * 0.06).astype(np.uint8),
        "not_analysed": np.repeat(healthy[..., 1:2], 3, axis=-1),  # grey, like an angiogram
    }


@pytest.fixture(scope="session")
def save(pictures: dict[str, np.ndarray]) -> Callable[[Path, str], Path]:
    """save(path, outcome) writes the picture of that outcome, losslessly unless it is a JPEG, and returns the path."""

    def write(path: Path, outcome: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[outcome]).save(path, quality=95)
        return path

    return write
