"""What a folder of prepared images says of itself: how they were made, and which of them a raw frame became."""

import json
from pathlib import Path
from typing import Any

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import EXTENSIONS
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = ["ENDINGS", "STAMP", "frame_stem", "read_stamp", "stamp_of"]

STAMP = "preprocess.json"
ENDINGS = ("jpg", "png")


def read_stamp(folder: str | Path) -> PreprocessSpec | None:
    """How the images in a folder were prepared; None where nothing says that they were.

    Raises:
        DataSetError: the stamp is damaged.
        BundleMismatch: another version of the preprocessing made them.
    """
    stamp = stamp_of(folder)
    return None if stamp is None else PreprocessSpec.from_dict(stamp["spec"])


def stamp_of(folder: str | Path) -> dict[str, Any] | None:
    """The stamp as it was written: "spec", "format" (one of `ENDINGS`) and more. Raises DataSetError: damaged."""
    path = Path(folder).expanduser() / STAMP
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stamp["spec"], dict) or stamp["format"] not in ENDINGS:
            raise ValueError(f"format {stamp['format']!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetError(f"{path}: damaged ({error}); expected what the prepare command wrote") from error
    return stamp


def frame_stem(name: str) -> str:
    """A frame's name without folders and an image's ending; the digits that end a DICOM UID are none."""
    path = Path(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name
