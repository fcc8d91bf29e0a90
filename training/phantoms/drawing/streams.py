"""The random numbers of an eye and of its exposures: one stream for each subject."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Streams"]

STREAMS = (
    "labels",
    "anatomy",
    "vessels",
    "choroid",
    "texture",
    "macula",
    "atrophy",
    "patches",
    "staphyloma",
    "findings",
    "retinopathy",
    "glaucoma",
)
VIEW_STREAMS = ("gaze", "field", "lids", "exposure", "noise")


class Streams:
    """One independent generator per subject, so that one subject's draws never shift another's."""

    def __init__(self, seed: int | Sequence[int], view: int) -> None:
        entropy = [seed] if isinstance(seed, (int, np.integer)) else list(seed)
        self._entropy = [int(value) for value in entropy]
        self._view = view

    def __getitem__(self, name: str) -> np.random.Generator:
        key = [0, STREAMS.index(name)] if name in STREAMS else [1 + self._view, VIEW_STREAMS.index(name)]
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=key))
