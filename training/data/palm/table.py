"""The pictures of PALM with their truth, and the native size of a small copy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.files.mask_codings import BinaryCoding
from training.data.files.mask_files import MaskFiles, MaskTruth
from training.data.files.notices import Notice
from training.data.files.points import fractions

__all__ = ["BACKGROUND", "CODING", "NATIVE_SIZES", "STRUCTURE", "STRUCTURES", "PalmTable", "native_size_of_copy"]

NATIVE_SIZES = ((2124, 2056), (1444, 1444))  # width and height, of the two cameras
STRUCTURES = {"disc": "Disc Masks", "atrophy": "Lesion Masks/Atrophy", "detachment": "Lesion Masks/Detachment"}
STRUCTURE, BACKGROUND = 0, 255
CODING = BinaryCoding(background=BACKGROUND, structure=STRUCTURE)

LIT = 12  # of 255, in the brightest channel: more than what JPEG makes of black
# Of the width of a copy, lit in its first or last row. Of the 599 copies at 224 px 520 have .25 and more, 79 have .17
# and less, and none is between.
FLAT, ROUND = 0.22, 0.18


@dataclass(frozen=True)
class PalmTable:
    """n pictures of one split.

    `labels`: float32 (n, 3) in the order of PALM's codes (N, H, P): 1, 0, NaN = unknown. `fovea`: float32 (n, 1, 3): x
    and y in pixels of the native picture, and visible (`training.data.files.points`). `sizes`: width and height of each
    file. `native_sizes`: those of the picture it was made from, None where that is not known; a fovea is of use only
    where it is. `masks`: by structure (`STRUCTURES`), those that this layout has, in native pixels.
    """

    split: str
    paths: tuple[Path, ...]
    labels: NDArray[np.float32]
    fovea: NDArray[np.float32]
    sizes: tuple[tuple[int, int], ...]
    native_sizes: tuple[tuple[int, int] | None, ...]
    masks: Mapping[str, MaskFiles] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.paths)

    def fovea_fractions(self) -> NDArray[np.float32]:
        """(n, 1, 3): the foveas in fractions of the picture's width and height; unknown where its native size is."""
        return fractions(self.fovea, self.native_sizes)

    def fovea_in_files(self) -> NDArray[np.float32]:
        """(n, 1, 3): the foveas in pixels of the files at `paths`; unknown where the native size is."""
        points = self.fovea_fractions()
        points[..., :2] = points[..., :2] * np.array(self.sizes, np.float32).reshape(-1, 1, 2) - 0.5
        return points

    def mask_truth(self, *structures: str) -> MaskTruth:
        """The masks of structures, in this order; they may overlap. Raises KeyError: this layout has no such masks."""
        return MaskTruth(tuple(self.masks[name] for name in structures), CODING, exclusive=False)


def native_size_of_copy(pixels: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Width and height of the picture of which this is a copy, squeezed into a square; None where it does not show.

    PALM's fovea list is in native pixels, and a copy does not say which. But it shows: of 2124 x 2056 the field is cut
    off above and below, so that a quarter of the first and last row is lit (a chord of 533 pixels in a field of 2124),
    while 1444 x 1444 holds the whole circle, which touches its four sides.

    Args:
        pixels: uint8 (height, width, 3). What is not square or has a native size is taken for no copy.
    """
    height, width = pixels.shape[:2]
    if (width, height) in NATIVE_SIZES:
        return width, height
    if width != height:
        return None
    lit = pixels.max(axis=-1) > LIT
    band = max(1, round(width / 224))  # in a larger copy the field may end just before the last row
    top, bottom, left, right = lit[:band], lit[-band:], lit[:, :band], lit[:, -band:]
    edge = max(top.any(axis=0).sum(), bottom.any(axis=0).sum()) / width
    if edge >= FLAT:
        return NATIVE_SIZES[0]
    touched = sum(bool(side.any()) for side in (top, bottom, left, right))
    return NATIVE_SIZES[1] if edge <= ROUND and touched >= 3 else None  # a side may be dark
