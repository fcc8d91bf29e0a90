"""The exceptions this project raises on purpose, as one small tree.

Every message names the file or value received and what was expected; the command line prints it as one line.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_realmnet.screening.image_io import ImageSource

__all__ = [
    "BundleMismatch",
    "DataSetError",
    "DecompressionBomb",
    "EngineFailed",
    "MachineFault",
    "RealMNetError",
    "UnreadableImage",
    "WeightsMismatch",
]


class RealMNetError(Exception):
    """Base of every error that is the input's fault rather than a bug."""


class UnreadableImage(RealMNetError):
    """A file that is not an image, is damaged or truncated, or uses a coding this machine cannot decode.

    `problem`: the sentence for a person, without the file's name; the message is `name: problem`. `source`: what the
    file says about itself, where at least its header could be read, else None.
    """

    def __init__(self, problem: str, name: str | None = None, source: "ImageSource | None" = None):
        super().__init__(problem if name is None else f"{name}: {problem}")
        self.problem, self.source = problem, source


class DecompressionBomb(UnreadableImage):
    """An image whose header announces more pixels or bytes than the caps allow; nothing of it was decoded."""


class MachineFault(RealMNetError):
    """A file could not be read since this machine failed (no memory, an I/O error): it is not the file's fault.

    `problem`: the sentence for a person, without the file's name.
    """

    def __init__(self, problem: str, name: str):
        super().__init__(f"{name}: {problem}")
        self.problem = problem


class EngineFailed(RealMNetError):
    """The engine no longer computes the golden output on this machine: nothing it says can be believed."""


class BundleMismatch(RealMNetError):
    """A bundle that is incomplete, was changed after it was made, or no longer gives its golden output."""


class DataSetError(RealMNetError):
    """A data set whose files or labels are not what its format promises."""


class WeightsMismatch(RealMNetError):
    """A checkpoint whose names or shapes do not fit the model."""
