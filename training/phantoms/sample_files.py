"""The sample images shipped in `samples/`: phantoms in the formats that clinics send, and files that must be refused.

`samples/colour/` holds photographs of a fundus camera, which is another kind of picture than the rest. Everything is
synthetic (see `phantom` and `photograph`), the patients do not exist, and a directory is written byte for byte the same
each time.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import STRIPBYTECOUNTS, STRIPOFFSETS, TiffImageFile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    OphthalmicPhotography8BitImageStorage,
    generate_uid,
)

from keras_realmnet.tasks.vocabulary import PALM
from training.phantoms.phantom import Phantom, render
from training.phantoms.photograph import ColourPhantom, render_photograph

__all__ = ["COLOUR", "COLOUR_SAMPLES", "SAMPLES", "ColourSample", "Sample", "write_samples"]

STUDY_DATE = "2026-03-02"
COLOUR = "colour"  # folder of the photographs among the samples


@dataclass(frozen=True)
class Sample:
    """One sample file: the phantom it shows, how it is written, and what screening it should lead to.

    `seed` is the eye and `view` the exposure (`phantom.render`); `expected` is the class of outcome that a sound
    screening gives: "result" (refer or negative, whatever the model says), "insufficient", "not analysed" or
    "unreadable".
    """

    file_name: str
    seed: int
    eye: str
    staphyloma: bool
    grade: int
    size: tuple[int, int]
    write: Callable[["Sample", Phantom], bytes]
    shows: str
    view: int = 0
    expected: str = "result"

    @property
    def patient_id(self) -> str:
        return self.file_name.split("_")[0]

    def render(self) -> Phantom:
        """The phantom this file is made from, at the file's own size."""
        width, height = self.size
        return render(
            self.seed,
            width=width,
            height=height,
            staphyloma=self.staphyloma,
            grade=self.grade,
            eye=self.eye,
            view=self.view,
        )


@dataclass(frozen=True)
class ColourSample:
    """One sample photograph, a JPEG file: `seed` is the eye (`photograph.render_photograph`), `label` a code of PALM.

    The ultra-widefield bundle must not analyse it.
    """

    file_name: str
    seed: int
    eye: str
    label: str

    def render(self) -> ColourPhantom:
        """The drawn photograph this file is made from, at the file's own size."""
        return render_photograph(self.seed, width=2000, label=self.label, eye=self.eye, poor=False)


# --- formats --------------------------------------------------------------------------------------------------------


def _encoded(pixels: np.ndarray, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def _jpeg(sample: Sample, phantom: Phantom) -> bytes:
    quality = 60 if sample.size[0] > 2000 else 85
    return _encoded(phantom.image, "JPEG", quality=quality, subsampling="4:2:2")


def _png(sample: Sample, phantom: Phantom) -> bytes:
    return _encoded(phantom.image, "PNG", optimize=True)


def _tiff(sample: Sample, phantom: Phantom) -> bytes:
    data = _encoded(phantom.image, "TIFF", compression="tiff_adobe_deflate")
    # libtiff starts its directory at an even byte, and leaves whatever was in memory in the one before.
    directory = int.from_bytes(data[4:8], "little")
    tags = TiffImageFile(io.BytesIO(data)).tag_v2
    end = max(start + length for start, length in zip(tags[STRIPOFFSETS], tags[STRIPBYTECOUNTS], strict=True))
    return data[:end] + bytes(directory - end) + data[directory:]


def _truncated_jpeg(sample: Sample, phantom: Phantom) -> bytes:
    data = _jpeg(sample, phantom)
    return data[: len(data) * 2 // 5]


def _dark_jpeg(sample: Sample, phantom: Phantom) -> bytes:
    dark = np.round(phantom.image * 0.05).astype(np.uint8)
    return _encoded(dark, "JPEG", quality=85)


def _angiogram_jpeg(sample: Sample, phantom: Phantom) -> bytes:
    """Grey, with bright vessels on a dark fundus, as in the venous phase of a fluorescein angiogram."""
    fundus = phantom.image[..., 1].astype(np.float32)
    grey = 0.3 * fundus + 12 * phantom.field_mask
    grey[phantom.disc_mask] *= 0.8
    grey[phantom.artery_mask] += 115
    grey[phantom.vein_mask] += 135
    grey[phantom.lesion_masks["hemorrhage"]] *= 0.4
    return _encoded(np.clip(grey, 0, 255).astype(np.uint8), "JPEG", quality=85)


def _dicom(sample: Sample, phantom: Phantom, jpeg: bool) -> bytes:
    """An Ophthalmic Photography 8 Bit instance (DICOM PS3.3 A.41), uncompressed RGB or JPEG baseline YBR_FULL_422."""
    height, width = phantom.image.shape[:2]

    def uid(*what: str) -> UID:
        return generate_uid(entropy_srcs=["phantom sample", *what])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    meta.MediaStorageSOPInstanceUID = uid(sample.file_name)
    meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")

    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = f"Synthetic^{sample.patient_id}"
    dataset.PatientID = sample.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.StudyInstanceUID = uid(sample.patient_id, "study")
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = STUDY_DATE.replace("-", "")
    dataset.StudyTime = dataset.ContentTime = "101500"
    dataset.AcquisitionDateTime = f"{dataset.StudyDate}101500"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesInstanceUID = uid(sample.patient_id, sample.eye, "series")
    dataset.SeriesNumber = "1"
    dataset.SeriesDescription = "Synthetic RG"
    dataset.Modality = "OP"
    dataset.Manufacturer = "OPTOS"
    dataset.ManufacturerModelName = "Synthetic phantom"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "0"
    dataset.SynchronizationTrigger = "NO TRIGGER"
    dataset.AcquisitionTimeSynchronized = "N"
    dataset.SynchronizationFrameOfReferenceUID = uid(sample.patient_id, "synchronization")
    dataset.InstanceNumber = "1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "RG"]
    dataset.ImageLaterality = "R" if sample.eye == "OD" else "L"
    dataset.PatientEyeMovementCommanded = "NO"
    dataset.HorizontalFieldOfView = 200.0
    dataset.RefractiveStateSequence = []
    dataset.EmmetropicMagnification = None
    dataset.IntraOcularPressure = None
    dataset.PupilDilated = "NO"
    device = Dataset()
    device.CodeValue, device.CodingSchemeDesignator, device.CodeMeaning = codes.cid4202.ScanningLaserOphthalmoscope[:3]
    dataset.AcquisitionDeviceTypeCodeSequence = [device]
    for keyword in (
        "AnatomicRegionSequence",
        "IlluminationTypeCodeSequence",
        "LightPathFilterTypeStackCodeSequence",
        "ImagePathFilterTypeStackCodeSequence",
        "LensesCodeSequence",
        "AcquisitionContextSequence",
    ):
        setattr(dataset, keyword, [])
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "5665001", "SCT", "Retina"
    dataset.AnatomicRegionSequence = [region]
    dataset.BurnedInAnnotation = "NO"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.SamplesPerPixel = 3
    dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames = 1
    dataset.Rows, dataset.Columns = height, width
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    if jpeg:
        data = _encoded(phantom.image, "JPEG", quality=85, subsampling="4:2:2")
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{phantom.image.nbytes / len(data):.2f}"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.PixelData = encapsulate([data])
        dataset["PixelData"].is_undefined_length = True
    else:
        data = phantom.image.tobytes()
        dataset.PhotometricInterpretation = "RGB"
        dataset.LossyImageCompression = "00"
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dicom_rgb(sample: Sample, phantom: Phantom) -> bytes:
    return _dicom(sample, phantom, jpeg=False)


def _dicom_jpeg(sample: Sample, phantom: Phantom) -> bytes:
    return _dicom(sample, phantom, jpeg=True)


# --- the set --------------------------------------------------------------------------------------------------------


def _name(number: int, eye: str, index: int, suffix: str) -> str:
    return f"PHANTOM-{number:04d}_{eye}_{STUDY_DATE}_{index}.{suffix}"


FULL, HALF, SMALL, SQUARE = (3900, 3072), (1300, 1024), (390, 307), (1000, 1000)

SAMPLES = (
    Sample(_name(1, "OD", 1, "jpg"), 9101, "OD", False, 1, FULL, _jpeg, "JPEG at the device's full size"),
    Sample(_name(1, "OD", 2, "jpg"), 9101, "OD", False, 1, HALF, _jpeg, "the same eye, second exposure", view=1),
    Sample(_name(1, "OS", 1, "jpg"), 9102, "OS", False, 1, HALF, _jpeg, "the patient's other eye"),
    Sample(_name(2, "OD", 1, "tif"), 9103, "OD", False, 0, SMALL, _tiff, "TIFF (deflate)"),
    Sample(_name(2, "OS", 1, "png"), 9104, "OS", False, 0, SMALL, _png, "PNG"),
    Sample(_name(3, "OD", 1, "jpg"), 9105, "OD", True, 1, HALF, _jpeg, "JPEG"),
    Sample(_name(3, "OS", 1, "jpg"), 9106, "OS", True, 2, SQUARE, _jpeg, "JPEG, square export"),
    Sample(_name(4, "OD", 1, "dcm"), 9107, "OD", True, 3, SMALL, _dicom_rgb, "DICOM OP 8 bit, uncompressed RGB"),
    Sample(_name(5, "OS", 1, "dcm"), 9108, "OS", True, 4, HALF, _dicom_jpeg, "DICOM OP 8 bit, JPEG YBR_FULL_422"),
    Sample(_name(6, "OS", 1, "png"), 9109, "OS", True, 2, HALF, _jpeg, "JPEG inside, named .png"),
    Sample(
        *(_name(7, "OD", 1, "jpg"), 9110, "OD", False, 1, HALF, _angiogram_jpeg),
        shows="grey, like a fluorescein angiogram: not a red/green image",
        expected="not analysed",
    ),
    Sample(
        *(_name(8, "OS", 1, "jpg"), 9111, "OS", True, 2, HALF, _dark_jpeg),
        shows="far too dark",
        expected="insufficient",
    ),
    Sample(
        *(_name(9, "OD", 1, "jpg"), 9112, "OD", False, 0, HALF, _truncated_jpeg),
        shows="JPEG cut off after two fifths of its bytes",
        expected="unreadable",
    ),
)

COLOUR_SAMPLES = (
    ColourSample(_name(10, "OD", 1, "jpg"), 9239, "OD", "N"),
    ColourSample(_name(11, "OS", 1, "jpg"), 9419, "OS", "H"),
    ColourSample(_name(12, "OD", 1, "jpg"), 9412, "OD", "P"),
)


def write_samples(directory: str | Path) -> list[Path]:
    """Write the samples and their README.md into a directory (made if absent); returns the paths of the images."""
    directory = Path(directory)
    (directory / COLOUR).mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in SAMPLES:
        path = directory / sample.file_name
        path.write_bytes(sample.write(sample, sample.render()))
        paths.append(path)
    for photograph in COLOUR_SAMPLES:
        path = directory / COLOUR / photograph.file_name
        path.write_bytes(_encoded(photograph.render().image, "JPEG", quality=85, subsampling="4:2:0"))
        paths.append(path)
    (directory / "README.md").write_text(_readme(), encoding="utf-8")
    return paths


def _readme() -> str:
    rows = "\n".join(
        f"| `{sample.file_name}` | {sample.shows} | {sample.size[0]} × {sample.size[1]} "
        f"| {'S1' if sample.staphyloma else 'S0'}, A{sample.grade} | {sample.expected} |"
        for sample in SAMPLES
    )
    meanings = {label.code: label.meaning for label in PALM.labels}
    colour_rows = "\n".join(
        f"| `{COLOUR}/{photograph.file_name}` | {photograph.eye} | {meanings[photograph.label]} |"
        for photograph in COLOUR_SAMPLES
    )
    return f"""# Sample images

Synthetic red/green ultra-widefield images and colour fundus photographs (`training/phantoms/`). No patient was
photographed: patients, dates and findings are invented, and the pictures are evidence of nothing but that the software
runs. Not for clinical use.

`python -m training samples --out samples` writes them again, byte for byte.

| file | what it is | pixels | drawn labels | expected |
|---|---|---|---|---|
{rows}

*Drawn labels*: S1 posterior staphyloma; A0..A4 META-PM category of the myopic maculopathy.
*Expected* is the class of outcome, not the model's answer: `result` = screened (refer or negative), `insufficient` =
an image of the right kind that shows too little, `not analysed` = another kind of image, `unreadable` = a damaged
file. The last three must never appear as negative.

## Colour fundus photographs

Three photographs as of a fundus camera of 45 to 50 degrees, 2000 pixels wide, for models of such pictures. A model of
ultra-widefield pictures must not analyse them: another kind of picture is never negative.

| file | eye | drawn class |
|---|---|---|
{colour_rows}
"""
