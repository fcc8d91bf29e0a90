"""Reading: bytes, format, header, pixels."""

import hashlib
import io
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    RLELossless,
)

from keras_realmnet.errors import DecompressionBomb, UnreadableImage
from keras_realmnet.screening.image_io.names import DEFAULT_FILE_NAME_PATTERN, FileName, iso_date, parse_file_name
from keras_realmnet.screening.image_io.source import MAX_BYTES, MAX_PIXELS, ImageSource, LoadedImage

__all__ = ["EXTENSIONS", "may_be_image", "read_header", "read_image"]

GDCM_SECONDS = 60  # 16 megapixels of JPEG lossless take about one

# Usual endings, for those who look for images in a folder; reading goes by content.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})

NOT_IMAGES = frozenset({"dicomdir", "license", "makefile", "readme"})

# Values reach the caller as they came; pydicom's warnings about them would put patient data on stderr.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def may_be_image(file: Path) -> bool:
    """Whether a file found in a folder should be read: a damaged image must not vanish.

    It is passed over only if hidden, or if neither its name nor its contents are an image's. No extension, or digits as
    the end of a UID, is DICOM's habit.
    """
    if file.name.startswith(".") or file.name.lower() in NOT_IMAGES:
        return False
    extension = file.suffix.lower()
    if not extension or extension in EXTENSIONS or extension[1:].isdigit():
        return True
    try:
        read_header(file)
    except (UnreadableImage, OSError):
        return False
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
    read or there is no such picture, `DecompressionBomb` above MAX_BYTES or MAX_PIXELS.
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
    if source.width is None or source.height is None:
        raise UnreadableImage("this DICOM object holds no picture", name, source)
    sides = source.width, source.height
    half = min_side is not None and max(sides) >= 2 * min_side and min(sides) >= 2
    try:
        if isinstance(opened, ImageFile):
            half = half and _is_plain_jpeg(opened)
            pixels = _upright(_decode_file(opened, data, half), _orientation(opened))
        else:
            half = half and _holds_plain_jpeg(opened)
            pixels = _decode_dicom(opened, data, half)
    except UnreadableImage as error:
        raise type(error)(error.problem, name, source) from error
    except Exception as error:  # the decoders raise whatever their parsers stumble upon
        raise UnreadableImage(
            f"this {source.format} picture cannot be decoded: {_first_line(error)}", name, source
        ) from error
    announced = (source.height // 2, source.width // 2) if half else (source.height, source.width)
    if pixels.shape != (*announced, 3):
        raise UnreadableImage(
            f"the header announces {announced[1]}x{announced[0]} pixels{' at half size' if half else ''}, "
            f"the picture has {pixels.shape[1]}x{pixels.shape[0]}",
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
                raise UnreadableImage(f"{problem}; an image file was expected", name)
            size = file.stat().st_size
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"cannot be read: {_first_line(error)}", name) from error
    if size > MAX_BYTES:
        raise DecompressionBomb(f"{size} bytes; at most {MAX_BYTES} are read", name)
    if isinstance(file, bytes):
        return file, name
    try:
        return file.read_bytes(), name
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {_first_line(error)}", name) from error


def _format(data: bytes) -> str | None:
    if data[128:132] == b"DICM":
        return "DICOM"
    for magic, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),  # BigTIFF
        (b"MM\x00+", "TIFF"),
        (b"BM", "BMP"),
        (b"\x02\x00\x00\x00UL", "DICOM"),  # file meta information without a preamble
    ):
        if data.startswith(magic):
            return name
    # A bare DICOM data set begins with group 0008 (at an element not above 0018, SOP Instance UID).
    if data[:2] == b"\x08\x00" and len(data) > 16 and data[2] <= 0x18 and data[3] == 0:
        return "DICOM"
    return None


def _open(
    data: bytes, name: str, frame: int, pattern: str | re.Pattern[str]
) -> tuple[ImageSource, ImageFile | pydicom.Dataset]:
    """The header, and the opened file from which the pixels can be decoded."""
    if frame < 1:
        raise ValueError(f"`frame` must be at least 1. Received: {frame!r}")
    expected = "a JPEG, PNG, TIFF, BMP or DICOM image was expected"
    if not data:
        raise UnreadableImage(f"the file is empty; {expected}", name)
    kind = _format(data)
    if kind is None:
        raise UnreadableImage(f"the file begins with {data[:8]!r}; {expected}", name)
    opened: ImageFile | pydicom.Dataset
    try:
        if kind == "DICOM":
            opened = _open_dicom(data)
            facts = _dicom_facts(opened)
        else:
            readers = {"JPEG": JpegImageFile, "PNG": PngImageFile, "TIFF": TiffImageFile, "BMP": BmpImageFile}
            opened = readers[kind](io.BytesIO(data))
            width, height = opened.size
            if kind != "TIFF" and _orientation(opened) >= 5:  # Pillow's TIFF size is already the upright one
                width, height = height, width
            facts = {"width": width, "height": height}
    except UnreadableImage as error:
        raise type(error)(error.problem, name) from error
    except Exception as error:
        raise UnreadableImage(f"the header of this {kind} file is damaged: {_first_line(error)}", name) from error
    source = ImageSource(format=kind, sha256=hashlib.sha256(data).hexdigest(), frame=frame, **facts)
    source = _with_file_name(source, parse_file_name(name, pattern))
    if source.width is None or source.height is None:
        return source, opened
    if frame > source.pictures:
        raise UnreadableImage(f"holds {source.pictures} picture(s); there is no picture {frame}", name, source)
    if source.width < 1 or source.height < 1:
        raise UnreadableImage(f"the header announces {source.width}x{source.height} pixels", name, source)
    if source.width * source.height > MAX_PIXELS:
        raise DecompressionBomb(
            f"the header announces {source.width}x{source.height} pixels; at most {MAX_PIXELS} are decoded",
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


# ---- JPEG, PNG, TIFF, BMP ------------------------------------------------------------------------------------------


def _is_plain_jpeg(image: ImageFile) -> bool:
    return isinstance(image, JpegImageFile) and image.mode in ("RGB", "L")


def _decode_file(image: ImageFile, data: bytes, half: bool) -> NDArray[np.uint8]:
    if _is_plain_jpeg(image):
        return _decode_jpeg(data, half)
    if isinstance(image, PngImageFile):
        _check_png(data)
    image.load()
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
        raise UnreadableImage(f"pixels of the kind {image.mode!r}; grey or colour of 8 or 16 bits was expected")
    return np.asarray(image.convert("RGB"))


def _decode_jpeg(data: bytes, half: bool) -> NDArray[np.uint8]:
    """RGB of a whole JPEG stream, twice as fast as Pillow, or of half its size; orientation is left to the caller.

    Decoders paint missing data in mid-grey and go on. So grey blocks at the right edge (where each row of blocks ends)
    are suspicious: stuffing put at the end of the data is skipped when they are complete, and fills the gap when not.
    """
    _check_jpeg_end(data)
    pixels = _imdecode(data, half)
    block = 4 if half else 8
    grey = (pixels[:, -block:] == 128).all(axis=(1, 2))
    if len(grey) < block or np.convolve(grey, np.ones(block), "valid").max() == block:
        scan = data.rfind(b"\xff\xda") + 2
        stuffed = re.sub(rb"\xff[\xd0-\xd7\xd9]", lambda marker: b"\x5a" * 256 + marker[0], data[scan:])
        if not np.array_equal(pixels, _imdecode(data[:scan] + stuffed, half)):
            raise UnreadableImage("a part of the JPEG data is missing")
    if half:
        width, height = JpegImageFile(io.BytesIO(data)).size
        pixels = pixels[: height // 2, : width // 2]
    return pixels


def _imdecode(data: bytes, half: bool) -> NDArray[np.uint8]:
    # REDUCED_GRAYSCALE_2 is the bit "half size" alone: REDUCED_COLOR_2 is that and the order BGR.
    size = cv2.IMREAD_REDUCED_GRAYSCALE_2 if half else 0
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), size | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadableImage("the JPEG data are damaged or end before the picture does")
    return np.asarray(pixels, np.uint8)


def _check_jpeg_end(data: bytes) -> None:
    """The end marker must follow the last scan (an embedded thumbnail has an end marker of its own)."""
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise UnreadableImage("the JPEG data end before the picture does (truncated file)")


def _check_png(data: bytes) -> None:
    """Every chunk whole and with its checksum, down to the end chunk (Pillow lets some damage pass)."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableImage("a part of the PNG data is damaged (checksum)")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise UnreadableImage("the PNG data end before the picture does (truncated file)")


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1 to 8 (1: upright). Pillow turns TIFF by itself."""
    if isinstance(image, TiffImageFile):
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the EXIF orientation (EXIF 2.32, tag 0112)."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# ---- DICOM ---------------------------------------------------------------------------------------------------------


def _open_dicom(data: bytes) -> pydicom.Dataset:
    syntax = str(DeflatedExplicitVRLittleEndian).encode()
    if data[128:132] == b"DICM" and syntax in data[132:2048]:
        # pydicom inflates the whole data set at once; 512 MiB of zeros come from 0.5 MiB.
        start = 144 + int.from_bytes(data[140:144], "little")
        inflate, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
        while rest:
            size += len(inflate.decompress(rest, 2**26))
            rest = inflate.unconsumed_tail
            if size > MAX_BYTES:
                raise DecompressionBomb(f"the deflated data set has more than {MAX_BYTES} bytes")
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if getattr(dataset.file_meta, "TransferSyntaxUID", None) is None:
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = plain
    if not any(keyword in dataset for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Rows")):
        raise UnreadableImage("this file begins like a DICOM object, but holds none")
    return dataset


def _dicom_facts(dataset: pydicom.Dataset) -> dict[str, Any]:
    def text(keyword: str) -> str | None:
        value = dataset.get(keyword)
        return str(value).strip().strip("\x00") or None if value is not None else None

    image_type = dataset.get("ImageType")
    if image_type is not None:
        parts = [image_type] if isinstance(image_type, str) else image_type
        image_type = tuple(str(part).strip() for part in parts)
    # Image Laterality belongs to the image, Laterality to its series; B (both) and empty name no eye.
    eyes = {"R": "OD", "L": "OS"}
    of_image, of_series = (text(keyword) or "" for keyword in ("ImageLaterality", "Laterality"))
    eye, other = eyes.get((of_image or of_series).upper()), eyes.get(of_series.upper())
    contradiction = f"DICOM says {eye} of the image, {other} of its series: {eye} is used"
    picture = "PixelData" in dataset and "Rows" in dataset and "Columns" in dataset
    return {
        "width": int(dataset.Columns) if picture else None,
        "height": int(dataset.Rows) if picture else None,
        "pictures": 1 if picture else 0,
        "patient_id": text("PatientID"),
        "patient_id_issuer": text("IssuerOfPatientID"),
        "patient_name": text("PatientName"),
        "birth_date": iso_date(text("PatientBirthDate")),
        "sex": text("PatientSex"),
        "accession_number": text("AccessionNumber"),
        "eye": eye,
        "eye_source": "dicom" if eye else None,
        "study_date": iso_date(text("StudyDate")) or iso_date((text("AcquisitionDateTime") or "")[:8]),
        "manufacturer": text("Manufacturer"),
        "modality": text("Modality"),
        "image_type": image_type,
        "series_description": text("SeriesDescription"),
        "sop_class_uid": text("SOPClassUID"),
        "sop_instance_uid": text("SOPInstanceUID"),
        "study_instance_uid": text("StudyInstanceUID"),
        "photometric_interpretation": text("PhotometricInterpretation"),
        "transfer_syntax_uid": str(dataset.file_meta.TransferSyntaxUID),
        "warnings": (contradiction,) if eye and other and eye != other else (),
    }


def _holds_plain_jpeg(dataset: pydicom.Dataset) -> bool:
    """Not with RGB without a colour transform, which libjpeg cannot know."""
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    return dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit and photometric != "RGB"


def _decode_dicom(dataset: pydicom.Dataset, data: bytes, half: bool) -> NDArray[np.uint8]:
    """The first frame. pydicom turns YBR into RGB, OpenJPEG the JPEG 2000 transforms, libjpeg its own: once each."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    frame = b""
    if syntax.is_encapsulated:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames", 1) or 1))
        _check_frame(frame, dataset)
    if _holds_plain_jpeg(dataset):
        pixels = _decode_jpeg(frame, half)
        return 255 - pixels if photometric == "MONOCHROME1" else pixels
    if syntax == JPEGBaseline8Bit:
        _check_jpeg_end(frame)
    values: NDArray[Any]
    if not syntax.is_encapsulated or syntax == RLELossless:
        values = np.asarray(pixel_array(dataset, index=0))
    elif syntax in (JPEGBaseline8Bit, *JPEG2000TransferSyntaxes) and dataset.BitsStored <= 8:
        values = np.asarray(pixel_array(dataset, index=0, decoding_plugin="pillow"))
    else:  # JPEG-LS, JPEG lossless, more than 8 bits
        values = _decode_apart(data)
    bits = int(dataset.BitsStored)
    if photometric == "PALETTE COLOR":
        bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        values = apply_color_lut(values, dataset)
    elif dataset.get("PixelRepresentation", 0) == 1:  # signed
        values = values.astype(np.int64) + (1 << (bits - 1))
    if bits > 8:
        values = values >> (bits - 8)
    elif bits < 8:
        values = values.astype(np.uint16) * 255 // ((1 << bits) - 1)
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    if photometric == "MONOCHROME1":  # 0 is white
        pixels = 255 - pixels
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _decode_apart(data: bytes) -> NDArray[Any]:
    """pydicom's first frame, decoded by gdcm in a process of its own: damaged data crash that library."""
    code = "from keras_realmnet.screening.image_io.reading import _decode_with_gdcm; _decode_with_gdcm()"
    try:
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            input=data,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=GDCM_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableImage(f"decoding took more than {GDCM_SECONDS} s and was stopped") from error
    if child.returncode != 0:
        last = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UnreadableImage(f"the decoder failed on the picture's data: {last}")
    return np.asarray(np.load(io.BytesIO(child.stdout), allow_pickle=False))


def _decode_with_gdcm() -> None:
    """The child of `_decode_apart`: a DICOM file on stdin, its first frame as .npy on stdout."""
    values = pixel_array(_open_dicom(sys.stdin.buffer.read()), index=0, decoding_plugin="gdcm")
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    sys.stdout.buffer.write(file.getvalue())


def _check_frame(frame: bytes, dataset: pydicom.Dataset) -> None:
    """A compressed frame must announce what the data set does: the size cap was checked on that one."""
    announced = None
    if frame[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SIZ follows the start marker (ISO 15444-1 A.5.1)
        right, lower, left, upper = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        announced = (right - left, lower - upper, int.from_bytes(frame[40:42], "big"), (frame[42] & 0x7F) + 1)
    elif frame[:2] == b"\xff\xd8":  # JPEG, JPEG-LS: the first frame header SOFn (ITU T.81 B.2.2, T.87 C.2.2)
        at = 2
        while announced is None and at + 10 <= len(frame) and frame[at] == 0xFF:
            marker = frame[at + 1]
            if marker == 0xFF:  # fill byte
                at += 1
            elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
                height, width = (int.from_bytes(frame[at + n : at + n + 2], "big") for n in (5, 7))
                announced = (width, height, frame[at + 9], frame[at + 4])
            else:
                at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    else:  # RLE has no header of this kind; JPEG 2000 in a JP2 box is Pillow's to judge
        return
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    expected = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if announced is None or announced[:3] != expected or not stored <= announced[3] <= allocated:
        raise UnreadableImage(
            f"the compressed picture announces {announced} (width, height, samples, bits), the DICOM header "
            f"{expected} and {stored} to {allocated} bits"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
