"""What is known of a picture beside its pixels, and how large it may be."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError

__all__ = [
    "MAX_BYTES",
    "MAX_PICTURES",
    "MAX_PIXELS",
    "RESEND",
    "DecompressionBomb",
    "ImageSource",
    "LoadedImage",
    "Opened",
    "UnreadableImage",
    "too_many",
]

MAX_PIXELS = 100_000_000  # of one picture: six times the largest ultra-widefield one (4000 x 4000)
MAX_BYTES = 512 * 1024**2  # of one file
MAX_PICTURES = 16  # of one file

# What a person can do about a damaged file.
RESEND = "Send or export it again; if that does not help, take the picture again"


@dataclass(frozen=True)
class ImageSource:
    """What a file says about itself and about one of its pictures. None where it does not say.

    `format`: "JPEG", "PNG", "TIFF", "BMP" or "DICOM". `sha256`: of the file's bytes. `width`, `height`: in pixels, as
    displayed; None where there is no picture. `frame`: which picture of the file this is, from 1. `pictures`: how many
    the file holds that can be screened; 0 where it has none, more than MAX_PICTURES, or they cannot be told apart with
    certainty. `patient_name`: as DICOM writes it, `Family^Given`, component groups with `=`. `eye`: "OD" (right), "OS"
    (left) or None, never guessed; `eye_source`: "dicom", "file name" or None. `birth_date`, `study_date`: ISO 8601.
    `sex`: as in DICOM (M, F, O). `warnings`: contradictions an operator should see.
    """

    format: str
    sha256: str
    width: int | None
    height: int | None
    frame: int = 1
    pictures: int = 1
    patient_id: str | None = None
    patient_id_issuer: str | None = None
    patient_name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    accession_number: str | None = None
    eye: str | None = None
    eye_source: str | None = None
    study_date: str | None = None
    manufacturer: str | None = None
    modality: str | None = None
    image_type: tuple[str, ...] | None = None
    series_description: str | None = None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; raises `UnreadableImage` where there is no picture."""
        if self.width is None or self.height is None:
            raise UnreadableImage("the file holds no picture that can be screened", source=self)
        return self.width, self.height


class UnreadableImage(RealMNetError):
    """A file that is not an image, is damaged or truncated, or uses a coding this machine cannot decode.

    `problem`: the sentence for a person, without the file's name; the message is `name: problem`. `source`: what the
    file says about itself, where at least its header could be read, else None.
    """

    def __init__(self, problem: str, name: str | None = None, source: ImageSource | None = None):
        super().__init__(problem if name is None else f"{name}: {problem}")
        self.problem, self.source = problem, source


class DecompressionBomb(UnreadableImage):
    """An image whose header announces more pixels or bytes than the caps allow; nothing of it was decoded."""


@dataclass(frozen=True)
class LoadedImage:
    """`pixels`: uint8 RGB of shape (h, w, 3)."""

    pixels: NDArray[np.uint8]
    source: ImageSource


class Opened(ABC):
    """A file whose header was read, whatever its format.

    `pictures`: how many it holds that can be screened; `problem`: where that is 0, why, in words for a person.
    """

    pictures: int = 1
    problem: str = ""

    @abstractmethod
    def facts(self, frame: int) -> dict[str, Any]:
        """The fields of `ImageSource` that the file fills; `width` and `height` only where there is a picture."""

    @abstractmethod
    def decodes_at_half_size(self, frame: int) -> bool:
        """Whether `pixels` can give half the size, in less time."""

    @abstractmethod
    def pixels(self, frame: int, half: bool) -> NDArray[np.uint8]:
        """RGB of shape (h, w, 3), upright; may raise anything where the data are damaged."""

    def refuse(self, problem: str) -> None:
        """None of its pictures can be screened."""
        self.pictures, self.problem = 0, problem


def too_many(pictures: int) -> str:
    """Why a file with more than MAX_PICTURES is refused."""
    return (
        f"the file holds {pictures} pictures; at most {MAX_PICTURES} are screened: not analysed. Send fewer in one file"
    )
