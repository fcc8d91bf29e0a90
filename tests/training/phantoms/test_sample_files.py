"""The shipped samples: small, readable where they should be, and still what the code writes."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image

from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.vocabulary import PALM
from training.phantoms.sample_files import COLOUR, COLOUR_SAMPLES, SAMPLES, write_samples

READABLE = [sample for sample in SAMPLES if sample.expected == "result"]
SMALL = [sample for sample in SAMPLES if sample.size[0] <= 1300]
by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)


def pixels_of(data: bytes) -> np.ndarray:
    if data[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(data)).pixel_array
    return np.asarray(Image.open(io.BytesIO(data)))


def test_set_is_small_and_complete(samples):
    files = {path.name for path in samples.iterdir()}
    assert files == {sample.file_name for sample in SAMPLES} | {"README.md", COLOUR}
    colour = {path.name for path in (samples / COLOUR).iterdir()}
    assert colour == {photograph.file_name for photograph in COLOUR_SAMPLES}
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file()) <= 3_000_000
    assert {sample.grade for sample in READABLE} == set(range(5))
    assert (3900, 3072) in {sample.size for sample in READABLE}
    readme = (samples / "README.md").read_text()
    assert all(sample.file_name in readme for sample in (*SAMPLES, *COLOUR_SAMPLES))
    assert {photograph.label for photograph in COLOUR_SAMPLES} == set(PALM.codes)
    eyes = {(sample.patient_id, sample.eye) for sample in SAMPLES}
    assert {("PHANTOM-0001", "OD"), ("PHANTOM-0001", "OS")} <= eyes


@by_name
def test_content(sample, samples):
    """The content by its first bytes, whatever the name says."""
    data = (samples / sample.file_name).read_bytes()
    if sample.file_name.endswith(".dcm"):
        assert data[128:132] == b"DICM"
        return
    magic = {".tif": (b"II*\0", b"MM\0*"), ".png": (b"\x89PNG",), ".jpg": (b"\xff\xd8\xff",)}
    expected = (b"\xff\xd8\xff",) if "named" in sample.shows else magic[sample.file_name[-4:]]
    assert data.startswith(expected)


@pytest.mark.parametrize("sample", READABLE, ids=lambda sample: sample.file_name)
def test_shipped_pixels_are_the_phantom(sample, samples):
    shipped = pixels_of((samples / sample.file_name).read_bytes())
    width, height = sample.size
    assert shipped.shape == (height, width, 3)
    assert shipped.dtype == np.uint8
    if sample in SMALL:
        difference = np.abs(shipped.astype(float) - sample.render().image)
        assert difference.mean() < 6  # JPEG; next to nothing for the lossless formats


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.size[0] < 1000], ids=lambda s: s.file_name)
def test_writing_is_deterministic_and_lossless(sample):
    phantom = sample.render()
    data = sample.write(sample, phantom)
    assert data == sample.write(sample, sample.render())
    assert np.array_equal(pixels_of(data), phantom.image)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.file_name.endswith(".dcm")], ids=lambda s: s.file_name)
def test_dicom_attributes(sample, samples):
    dataset = pydicom.dcmread(samples / sample.file_name)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    assert (dataset.Modality, dataset.Manufacturer) == ("OP", "OPTOS")
    assert "RG" in dataset.ImageType
    assert dataset.ImageLaterality == ("R" if sample.eye == "OD" else "L")
    assert dataset.PatientID == sample.patient_id
    assert dataset.BurnedInAnnotation == "NO"
    assert len(dataset.AcquisitionDeviceTypeCodeSequence) == 1
    assert (dataset.Columns, dataset.Rows) == sample.size
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    assert dataset.LossyImageCompression == ("01" if compressed else "00")
    assert dataset.PhotometricInterpretation == ("YBR_FULL_422" if compressed else "RGB")


def test_refusals_are_what_they_claim(samples):
    refused = {sample.expected: sample for sample in SAMPLES if sample.expected != "result"}
    assert set(refused) == {"not analysed", "insufficient", "unreadable"}
    with Image.open(samples / refused["not analysed"].file_name) as grey:
        assert grey.mode == "L"
    dark = np.asarray(Image.open(samples / refused["insufficient"].file_name))
    assert dark.mean() < 8
    with Image.open(samples / refused["unreadable"].file_name) as cut, pytest.raises(OSError, match="truncated"):
        cut.load()


@pytest.mark.parametrize("photograph", COLOUR_SAMPLES, ids=lambda photograph: photograph.file_name)
def test_colour_samples_are_the_drawn_photographs(photograph, samples):
    """What they show is there whole, and no model of ultra-widefield pictures is asked about them."""
    shipped = pixels_of((samples / COLOUR / photograph.file_name).read_bytes())
    drawn = photograph.render()
    assert np.abs(shipped.astype(float) - drawn.image).mean() < 3  # JPEG
    assert drawn.shows(drawn.fovea)
    assert np.argwhere(drawn.disc_mask).mean(axis=0)[::-1] == pytest.approx(drawn.disc_centre, abs=0.5)
    assert f"_{photograph.eye}_" in photograph.file_name
    assert assess(shipped, None, "colour_fundus").verdict == "gradable"
    assert assess(shipped, None, "uwf_red_green").verdict == "not_analysed"


@pytest.mark.slow
def test_everything_is_written(tmp_path):
    paths = write_samples(tmp_path)
    assert [path.name for path in paths] == [sample.file_name for sample in (*SAMPLES, *COLOUR_SAMPLES)]
    assert (tmp_path / "README.md").is_file()
