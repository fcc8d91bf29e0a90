"""Drawn eyes, one picture each, as the images of a split: what the data sets of drawn photographs share."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_realmnet.screening.preprocessing import PreprocessSpec
from training.datasets.cache import cached_images
from training.datasets.data_set import SPLITS, check_split
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared

__all__ = ["drawn_eyes"]


def drawn_eyes(
    data: Any,
    split: str,
    spec: PreprocessSpec,
    cache: Path,
    *,
    title: str,
    code: Any,
    render: Callable[[tuple[int, ...]], Prepared],
) -> ImageSet | None:
    """The images of a split, each eye a patient of its own; None where the split has no eye.

    Args:
        data: the data set, with `seed`, `task` and SPLIT_eyes, how many eyes each split has.
        title: of the cache, before the split's name.
        code: the hash, or hashes, of all code that draws.
        render: from (seed of the data, number of the split, number of the eye) to its picture with its truth.

    Raises:
        ValueError: there is no such split.
    """
    check_split(split)
    eyes = getattr(data, f"{split}_eyes")
    if not eyes:
        return None
    names = tuple(f"{split}-drawn-{data.seed}-{k}" for k in range(eyes))
    return cached_images(
        f"{title}-{split}",
        render,
        [(data.seed, SPLITS.index(split), k) for k in range(eyes)],
        identity={**asdict(data), "split": split, "code": code},
        task=data.task,
        truth={},
        names=names,
        patients=names,
        spec=spec,
        cache=cache,
    )
