"""Reading an image file: its bytes, its format, its header, its pixels; or one sentence why not."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from keras_realmnet.errors import MachineFault
from keras_realmnet.screening.image_io.dicom import DicomFile
from keras_realmnet.screening.image_io.formats import format_of
from keras_realmnet.screening.image_io.names import DEFAULT_FILE_NAME_PATTERN, FileName, parse_file_name
from keras_realmnet.screening.image_io.plain import PlainFile
from keras_realmnet.screening.image_io.source import (
    MAX_BYTES,
    MAX_PIXELS,
    RESEND,
    DecompressionBomb,
    ImageSource,
    LoadedImage,
    Opened,
    UnreadableImage,
)

__all__ = ["EXTENSIONS", "may_be_image", "named_as_image", "read_header", "read_image"]

# Usual endings, for those who look for images in a folder; reading goes by content.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})

CV2_NO_MEMORY = -4  # cv::Error::StsNoMem
NOT_IMAGES = frozenset({"dicomdir", "license", "makefile", "readme"})


def named_as_image(file: Path) -> bool:
    """Whether the name is an image's. No extension, or digits as the end of a UID, is DICOM's habit."""
    extension = file.suffix.lower()
    return not extension or extension in EXTENSIONS or extension[1:].isdigit()


def may_be_image(file: Path) -> bool:
    """Whether a file found in a folder should be read: a damaged image must not vanish.

    It is passed over only if hidden, or if neither its name nor its contents are an image's.
    """
    if file.name.startswith(".") or file.name.lower() in NOT_IMAGES:
        return False
    if named_as_image(file):
        return True
    try:
        read_header(file)
    except UnreadableImage:
        return False
    except MachineFault:  # it cannot be told now
        return True
    return True


def read_header(
    file: str | Path | bytes,
    name: str | None = None,
    *,
    frame: int = 1,
    file_name_pattern: str | re.Pattern[str] = DEFAULT_FILE_NAME_PATTERN,
) -> ImageSource:
    """What a file (its path or its bytes) says about itself and its picture `frame`, without decoding pixels.

    `name`: stands for the file in messages and is parsed for patient, eye and date; default: the path's own.
    Where no picture can be screened, `pictures` is 0; `UnreadableImage` is raised where not even the header can be
    read or there is no such picture, `DecompressionBomb` above MAX_BYTES or MAX_PIXELS, `MachineFault` where this
    machine failed (no memory, an I/O error) and another attempt may succeed.
    """
    data, name = _contents(file, name)
    return _open(data, name, frame, file_name_pattern)[0]


def read_image(
    file: str | Path | bytes,
    name: str | None = None,
    *,
    frame: int = 1,
    min_side: int | None = None,
    file_name_pattern: str | re.Pattern[str] = DEFAULT_FILE_NAME_PATTERN,
) -> LoadedImage:
    """The whole picture number `frame`, uint8 RGB of shape (h, w, 3), upright by its EXIF orientation.

    16 bits are scaled to 8, alpha is dropped, grey becomes three equal channels. Arguments and errors as for
    `read_header`; a truncated or damaged picture and a file with `pictures == 0` are `UnreadableImage`.

    `min_side`: what the longer side must keep, in pixels. A JPEG at least twice as large, in a file of its own or in a
    DICOM object, is then decoded at half its size (each block's inverse transform gives 4 x 4 pixels, not 8 x 8), in
    less than half of the time: shape (⌊h/2⌋, ⌊w/2⌋, 3), while `source` goes on telling the file's own size. The last
    line of an odd side is left out, so that every pixel stands for 2 x 2 of the file's.
    """
    data, name = _contents(file, name)
    source, opened = _open(data, name, frame, file_name_pattern)
    if source.pictures == 0:
        raise UnreadableImage(opened.problem, name, source)
    width, height = source.size
    half = min_side is not None and max(width, height) >= 2 * min_side and min(width, height) >= 2
    try:
        half = half and opened.decodes_at_half_size(frame)
        pixels = opened.pixels(frame, half)
    except UnreadableImage as error:
        raise type(error)(error.problem, name, source) from error
    except Exception as error:  # the decoders raise whatever their parsers stumble upon
        _check_machine(error, name)
        raise UnreadableImage(
            f"this {source.format} picture is damaged and cannot be decoded. {RESEND}", name, source
        ) from error
    announced = (height // 2, width // 2) if half else (height, width)
    if pixels.shape != (*announced, 3):
        raise UnreadableImage(
            f"the header announces {announced[1]}x{announced[0]} pixels{' at half size' if half else ''}, "
            f"the picture has {pixels.shape[1]}x{pixels.shape[0]}. {RESEND}",
            name,
            source,
        )
    return LoadedImage(np.ascontiguousarray(pixels), source)


# ---- opening: bytes, format, header --------------------------------------------------------------------------------


def _contents(file: str | Path | bytes, name: str | None) -> tuple[bytes, str]:
    if isinstance(file, bytes):
        name, size = name or "image", len(file)
    else:
        file, name = Path(file), name or Path(file).name
        try:
            if not file.is_file():
                problem = (
                    "is a folder" if file.is_dir() else "was not found" if not file.exists() else "is no plain file"
                )
                raise UnreadableImage(f"the file {problem}; an image file was expected", name)
            size = file.stat().st_size
        except OSError as error:
            raise _machine_fault(error, name) from error
        except ValueError as error:  # a NUL, for one
            raise UnreadableImage("the file cannot be read: such a path is not allowed", name) from error
    if size > MAX_BYTES:
        raise DecompressionBomb(f"the file has {size} bytes; at most {MAX_BYTES} are read. Export it smaller", name)
    if isinstance(file, bytes):
        return file, name
    try:
        return file.read_bytes(), name
    except (OSError, MemoryError) as error:
        raise _machine_fault(error, name) from error


def _machine_fault(error: Exception, name: str) -> MachineFault:
    """An error of the machine, in the system's words (without the path)."""
    if isinstance(error, OSError):
        return MachineFault(f"the file cannot be read on this machine: {error.strerror}", name)
    return MachineFault("the memory of this machine did not suffice to read the file", name)


def _check_machine(error: Exception, name: str) -> None:
    """Raises MachineFault for an error that is no decoder's finding: no memory, or the system's own (it has a number).

    Pillow reports damaged pictures as OSError, too, but without a number.
    """
    no_memory = isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == CV2_NO_MEMORY)
    if no_memory or (isinstance(error, OSError) and error.errno is not None):
        raise _machine_fault(error, name) from error


def _open(data: bytes, name: str, frame: int, pattern: str | re.Pattern[str]) -> tuple[ImageSource, Opened]:
    """The header, and the opened file from which the pixels can be decoded."""
    if frame < 1:
        raise ValueError(f"`frame` must be at least 1. Received: {frame!r}")
    expected = "a JPEG, PNG, TIFF, BMP or DICOM image was expected"
    if not data:
        raise UnreadableImage(f"the file is empty; {expected}. {RESEND}", name)
    kind = format_of(data)
    if kind is None:
        raise UnreadableImage(f"the file is no image; {expected}", name)
    try:
        opened = DicomFile(data) if kind == "DICOM" else PlainFile(data, kind)
        # Beyond the last picture, what is said of the first belongs to the error.
        facts = opened.facts(frame if frame <= opened.pictures else 1)
    except UnreadableImage as error:
        raise type(error)(error.problem, name) from error
    except Exception as error:
        _check_machine(error, name)
        raise UnreadableImage(f"the header of this {kind} file is damaged. {RESEND}", name) from error
    sha256 = hashlib.sha256(data).hexdigest()
    source = ImageSource(format=kind, sha256=sha256, frame=frame, pictures=opened.pictures, **facts)
    source = _with_file_name(source, parse_file_name(name, pattern))
    if opened.pictures == 0:
        return source, opened
    if frame > opened.pictures:
        there = "1 picture" if opened.pictures == 1 else f"{opened.pictures} pictures"
        raise UnreadableImage(f"the file holds {there}; there is no picture {frame}", name, source)
    width, height = source.size
    if width < 1 or height < 1:
        raise UnreadableImage(f"the header announces {width}x{height} pixels. {RESEND}", name, source)
    if width * height > MAX_PIXELS:
        raise DecompressionBomb(
            f"the header announces {width}x{height} pixels; at most {MAX_PIXELS} are decoded. Export it smaller",
            name,
            source,
        )
    return source, opened


def _with_file_name(source: ImageSource, parsed: FileName | None) -> ImageSource:
    """Fills from the file name what the file itself does not say; contradictions become warnings."""
    if parsed is None:
        return source
    warnings = [*source.warnings]
    if source.eye and parsed.eye and source.eye != parsed.eye:
        warnings.append(f"DICOM says {source.eye}, the file name {parsed.eye}: {source.eye} is used")
    if source.patient_id and parsed.eye and parsed.patient_id and source.patient_id != parsed.patient_id:
        warnings.append("DICOM and the file name give different patient numbers: that of DICOM is used")
    from_name = source.eye is None and parsed.eye is not None
    return replace(
        source,
        patient_id=source.patient_id or parsed.patient_id,
        eye=parsed.eye if from_name else source.eye,
        eye_source="file name" if from_name else source.eye_source,
        study_date=source.study_date or parsed.date,
        warnings=tuple(warnings),
    )
