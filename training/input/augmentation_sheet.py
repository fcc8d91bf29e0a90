"""What the augmentation does to images, on one page: each operation by itself, then all together, then mixing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.contact_sheet import contact_sheet
from training.input.augmentation import OPERATIONS, Augmentation, augment, cutmix, mixup

__all__ = ["augmentation_sheet"]

TOGETHER = 4  # columns with all operations at their own probabilities


def augmentation_sheet(
    images: Sequence[NDArray[np.uint8]], settings: Augmentation, seed: int = 0, side: int = 192
) -> NDArray[np.uint8]:
    """A contact sheet with a row for each image of shape (size, size, 3), all of one size.

    The columns: as it is; each operation of `settings` by itself, always; all of them at their own probabilities, drawn
    four times; mixed with the other images by MixUp and by CutMix, always. Nothing is shown of what `settings` leaves
    out (probability 0).

    Returns:
        uint8 RGB.
    """
    alone = [name for name in OPERATIONS if getattr(settings, name) > 0]
    mixing = [(f, alpha) for f, p, alpha in _mixing(settings) if p > 0 and len(images) > 1]
    batch = np.stack(images).astype(np.float32)
    mixed = [f(batch, {}, np.random.default_rng((seed, 9)), alpha)[0] for f, alpha in mixing]
    columns = ["as it is", *alone, *["all, by chance"] * TOGETHER, *(f.__name__ for f, _ in mixing)]
    cells: list[NDArray[Any]] = []
    for row, image in enumerate(images):
        cells.append(image)
        for k, name in enumerate(alone):
            only: dict[str, Any] = {**dict.fromkeys((*OPERATIONS, "mixup", "cutmix"), 0.0), name: 1.0}
            cells.append(augment(image, np.random.default_rng((seed, row, k)), replace(settings, **only))[0])
        cells += [augment(image, np.random.default_rng((seed, row, 100 + k)), settings)[0] for k in range(TOGETHER)]
        cells += [batch[row] for batch in mixed]
    return contact_sheet(cells, columns * len(images), columns=len(columns), side=side)


def _mixing(settings: Augmentation):
    yield mixup, settings.mixup, settings.mixup_alpha
    yield cutmix, settings.cutmix, settings.cutmix_alpha
