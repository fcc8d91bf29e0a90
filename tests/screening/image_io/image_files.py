"""Small image files for tests: a scene, encoded in whatever a clinic may send."""

import io
import struct
import tempfile
import warnings
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

OPHTHALMIC_8_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


def scene(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """A smooth red/green picture, gentle enough for lossy coding."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.uniform(30, 220, (4, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    image[..., 2] *= 0.1
    return image.clip(0, 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def dicom(
    pixels: np.ndarray | list[bytes],
    syntax: str = ExplicitVRLittleEndian,
    shape: tuple[int, int] | None = None,
    file_format: bool = True,
    **elements: object,
) -> bytes:
    """A Part 10 file around an array of shape (h, w), (h, w, 3), (3, h, w) or around compressed frames."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = OPHTHALMIC_8_BIT, generate_uid(entropy_srcs=["test"])
    dataset.Modality, dataset.Manufacturer, dataset.PatientID, dataset.StudyDate = "OP", "OPTOS", "P1", "20230625"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "COLOR"]
    dataset.Rows, dataset.Columns = shape or pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if isinstance(pixels, list) or pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if dataset.SamplesPerPixel == 3 else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 if isinstance(pixels, list) else pixels.dtype.itemsize * 8
    dataset.PixelRepresentation, dataset.PlanarConfiguration = 0, 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    big = syntax == ExplicitVRBigEndian
    if isinstance(pixels, list):
        dataset.PixelData = encapsulate(pixels)
    else:
        raw = (pixels.astype(pixels.dtype.newbyteorder(">")) if big else pixels).tobytes()
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file_format:
            dataset.save_as(file, enforce_file_format=True)
        else:
            del dataset.file_meta
            dataset.save_as(file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return file.getvalue()


def transcoded(data: bytes, syntax: int) -> bytes:
    """The same object in another transfer syntax, by gdcm (an encoder independent of what reads it back)."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/in.dcm", f"{folder}/out.dcm"
        Path(source).write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(source)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(target)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return Path(target).read_bytes()


def assert_same(pixels: np.ndarray, expected: np.ndarray, tolerance: float = 0) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)


def with_items(data: bytes, fragments: list[bytes], table: bytes = b"", delimiter: bytes = DELIMITER) -> bytes:
    """A DICOM file with these fragments as they are, whatever the standard says, in place of its compressed pixels."""
    items = b"".join(ITEM + struct.pack("<I", len(item)) + item for item in (table, *fragments))
    return with_pixels(data, items + delimiter, 0xFFFFFFFF)


def with_pixels(data: bytes, value: bytes, length: int | None = None) -> bytes:
    """A DICOM file (Explicit VR Little Endian) with another value of Pixel Data, of any stated length."""
    head = data[: data.rindex(b"\xe0\x7f\x10\x00O") + 8]
    return head + struct.pack("<I", len(value) if length is None else length) + value


def without(data: bytes, *keywords: str) -> bytes:
    """A DICOM file without these elements."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword in keywords:
        del dataset[keyword]
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def even(frame: bytes) -> bytes:
    return frame + b"\0" * (len(frame) % 2)
