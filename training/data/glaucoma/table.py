"""Pictures of which disc and cup, fovea or glaucoma are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.files.mask_files import MaskTruth, MaskVotes
from training.data.files.notices import Notice

__all__ = ["GlaucomaTable"]


@dataclass(frozen=True)
class GlaucomaTable:
    """n pictures.

    `names`: paths below their folder, with slashes. `sets`: "train", "validation", "test"; None where nobody gave any.
    `glaucoma`: float32 (n,), 1, 0, NaN = unknown. `fovea`: float32 (n, 1, 3), x and y in pixels of the picture, and
    visible (`training.data.files.points`). `masks`: of disc, which the cup is a part of, and cup.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    sets: tuple[str, ...] | None
    glaucoma: NDArray[np.float32]
    fovea: NDArray[np.float32]
    masks: MaskTruth | MaskVotes
    notices: tuple[Notice, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)
