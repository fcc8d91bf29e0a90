"""Damaged and odd files: the picture where it is certain, else one sentence that says what a person can do."""

import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from keras_realmnet.screening.image_io import UnreadableImage, may_be_image, read_header, read_image
from tests.proofs.files.frames import multi_picture, tiff
from tests.screening.image_io.image_files import (
    DELIMITER,
    ITEM,
    assert_same,
    dicom,
    encoded,
    even,
    scene,
    with_items,
    with_pixels,
    without,
)

SHAPE = (96, 128)
JPEG = even(encoded(scene(), "JPEG", quality=95, subsampling=0))
JPEG_2000 = encoded(scene(), "JPEG2000", no_jp2=True, mct=1)


def jpeg_dicom(**elements: object) -> bytes:
    about = {"PhotometricInterpretation": "YBR_FULL_422", "ImageLaterality": "L"} | elements
    return dicom([JPEG], JPEGBaseline8Bit, SHAPE, **about)


def rle_dicom() -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(scene())))
    dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def assert_refused(data: bytes, *words: str) -> None:
    """Patient, eye and study are known all the same."""
    source = read_header(data)
    assert source.patient_id == "P1"
    assert source.study_date == "2023-06-25"
    with pytest.raises(UnreadableImage) as raised:
        read_image(data, "x.dcm")
    assert all(word in raised.value.problem for word in words), raised.value.problem
    assert raised.value.source.patient_id == "P1"


# ---- JPEG: a trailer -----------------------------------------------------------------------------------------------

TRAILERS = {
    "scan marker": b"MotionPhoto_Data\xff\xda\0\x22" + bytes(300),
    "end marker": b"\xff\xd9",
    "both": b"\xff\xda\xff\xd9\xff\xda",
    "zeros": bytes(1000),
    "fill": b"\xff" * 40,
    "like a JPEG by chance": b"..\xff\xd8\xff\xd3 no more than that",
}


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_trailer_behind_a_jpeg(trailer: bytes, progressive: bool) -> None:
    whole = encoded(scene(), "JPEG", quality=95, progressive=progressive)
    expected = read_image(whole).pixels
    assert_same(read_image(whole + trailer).pixels, expected)
    data = dicom([whole], JPEGBaseline8Bit, SHAPE, PhotometricInterpretation="YBR_FULL_422")
    for fragment in (whole + trailer, whole + trailer + b"\0"):  # within the last fragment, of odd length, too
        with_trailer = with_items(data, [fragment])
        assert_same(read_image(with_trailer).pixels, expected)
        assert read_header(with_trailer).pictures == 1


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_trailer_does_not_make_a_cut_jpeg_whole(keep: float) -> None:
    cut = JPEG[: int(len(JPEG) * keep)]
    for trailer in TRAILERS.values():
        for data in (cut + trailer, with_items(jpeg_dicom(), [even(cut + trailer)])):
            with pytest.raises(UnreadableImage):
                read_image(data)


# ---- DICOM: no usable pixels ---------------------------------------------------------------------------------------


def test_without_pixels_patient_eye_and_study_are_known() -> None:
    elements = {"PatientName": "Family^Given", "StudyInstanceUID": "1.2.3", "AccessionNumber": "A1"}
    whole = jpeg_dicom(**elements)
    for data in (
        without(whole, "PixelData"),
        without(whole, "PixelData", "Rows", "Columns", "SamplesPerPixel"),
        whole[: whole.rindex(b"\xe0\x7f\x10\x00")],  # cut off before its pixels
        whole[: whole.rindex(b"\xe0\x7f\x10\x00") + 6],
        with_items(whole, []),
        with_pixels(whole, b"", 0xFFFFFFFF),
        with_pixels(whole, b""),
    ):
        source = read_header(data, "x.dcm")
        assert (source.pictures, source.width, source.height) == (0, None, None)
        assert (source.eye, source.patient_name, source.study_instance_uid) == ("OS", "Family^Given", "1.2.3")
        assert source.accession_number == "A1"
        assert_refused(data, "take the picture again")


def test_a_header_that_is_cut_off_or_damaged_further_on_keeps_what_came_before(tmp_path: Path) -> None:
    whole = jpeg_dicom(ReferencedImageSequence=[pydicom.Dataset()])
    at = whole.index(b"\x08\x00\x40\x11SQ")  # Referenced Image Sequence, before the patient
    eye = whole.index(b"\x20\x00\x62\x00")
    assert read_header(whole[: eye + 4]).patient_id == "P1"
    assert read_header(whole[: eye + 4]).eye is None
    damaged = whole[:eye] + b"\x20\x00\x60\x00SQ\0\0\xff\xff\xff\xff" + b"no item" * 3 + whole[eye:]
    source = read_header(damaged)
    assert (source.patient_id, source.pictures) == ("P1", 0)
    assert_refused(damaged, "holds no picture")
    for start in (b"", whole[:at][-40:]):
        nothing = tmp_path / "nothing.data"
        nothing.write_bytes(bytes(128) + b"DICM" + start)
        with pytest.raises(UnreadableImage, match="header"):
            read_header(nothing)
        assert not may_be_image(nothing)


def test_dicom_objects_are_looked_at_whatever_their_name(tmp_path: Path) -> None:
    """One without a picture must not vanish from a folder: somebody may wait for its result."""
    file = tmp_path / "export.data"
    file.write_bytes(without(jpeg_dicom(), "PixelData"))
    assert may_be_image(file)
    file.write_bytes(b"\x08\x00\x05\x00" + b"by chance" * 10)
    assert not may_be_image(file)


# ---- DICOM: odd, but certain ---------------------------------------------------------------------------------------


def test_encapsulated_pixels_against_the_standard() -> None:
    data, expected = jpeg_dicom(), read_image(JPEG).pixels
    odd = JPEG.rstrip(b"\0") + (b"" if len(JPEG.rstrip(b"\0")) % 2 else b"\0\0\0")
    assert len(odd) % 2 == 1
    undefined = ITEM + b"\xff\xff\xff\xff" + JPEG
    item = ITEM + struct.pack("<I", len(JPEG)) + JPEG
    empty = ITEM + bytes(4)
    for name, odd_one in {
        "no delimiter": with_items(data, [JPEG], delimiter=b""),
        "another element in its place": with_items(data, [JPEG], delimiter=b"\xfc\xff\xfc\xffOB\0\0" + bytes(4)),
        "garbage behind": with_items(data, [JPEG], delimiter=DELIMITER + b"garbage"),
        "wrong offset table": with_items(data, [JPEG], struct.pack("<I", 1234)),
        "offset table of other length": with_items(data, [JPEG], b"\x01\x02\x03"),
        "no offset table": with_pixels(data, item + DELIMITER, 0xFFFFFFFF),
        "odd fragment": with_items(data, [odd]),
        "odd fragment, padded outside": with_pixels(
            data, empty + ITEM + struct.pack("<I", len(odd)) + odd + b"\0" + DELIMITER, 0xFFFFFFFF
        ),
        "item of undefined length": with_pixels(data, empty + undefined + DELIMITER, 0xFFFFFFFF),
        "item and its delimiter": with_pixels(
            data, empty + undefined + b"\xfe\xff\x0d\xe0" + bytes(4) + DELIMITER, 0xFFFFFFFF
        ),
        "length stated": with_pixels(data, empty + item + DELIMITER),
        "no items at all": with_pixels(data, JPEG),
        "empty fragments": with_items(data, [b"", JPEG, b""]),
        "last padding byte lost": with_items(data, [JPEG + b"\0\0"], delimiter=b"")[:-1],
    }.items():
        source = read_header(odd_one)
        assert source.pictures == 1, name
        assert_same(read_image(odd_one).pixels, expected)
        assert read_image(odd_one, min_side=64).pixels.shape == (48, 64, 3), name


def test_what_the_header_leaves_out_and_the_picture_tells() -> None:
    description = (
        "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
        "PhotometricInterpretation", "Rows", "Columns",
    )  # fmt: skip
    expected = read_image(JPEG).pixels
    j2k = dicom([JPEG_2000], JPEG2000Lossless, SHAPE, PhotometricInterpretation="YBR_RCT")
    grey = encoded(scene()[..., 0], "JPEG", quality=95)
    for left_out in (*((keyword,) for keyword in description), description):
        assert_same(read_image(without(jpeg_dicom(), *left_out)).pixels, expected)
        assert_same(read_image(without(j2k, *left_out)).pixels, scene())
        one = dicom([grey], JPEGBaseline8Bit, SHAPE, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")
        assert_same(read_image(without(one, *left_out)).pixels, read_image(grey).pixels)
    for keyword in ("SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"):
        assert_same(read_image(without(dicom(scene()), keyword)).pixels, scene())
        assert_same(read_image(without(rle_dicom(), keyword)).pixels, scene())


def test_what_the_header_leaves_out_and_nothing_tells() -> None:
    for keyword, words in {
        "PhotometricInterpretation": "colours are coded",
        "Rows": "how large",
        "Columns": "how large",
        "BitsAllocated": "description",
    }.items():
        assert_refused(without(dicom(scene()), keyword), words)
    assert_refused(without(rle_dicom(), "PhotometricInterpretation"), "colours are coded")
    untransformed = encoded(scene(), "JPEG2000", no_jp2=True, mct=0)
    data = without(dicom([untransformed], JPEG2000Lossless, SHAPE), "PhotometricInterpretation")
    assert_refused(data, "colours are coded")


def test_without_a_planar_configuration() -> None:
    """Colours that come pixel by pixel show it; planes are not taken for pixels."""
    assert_same(read_image(without(dicom(scene()), "PlanarConfiguration")).pixels, scene())
    planes = dicom(scene().transpose(2, 0, 1), shape=SHAPE, PlanarConfiguration=1)
    assert_refused(without(planes, "PlanarConfiguration"), "in which order its colours come")
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    assert_refused(without(dicom(noise), "PlanarConfiguration"), "in which order its colours come")


def test_a_transfer_syntax_that_contradicts_the_bytes() -> None:
    """What is inside tells its own coding, also its colours, or is refused."""
    from_jpeg = read_image(JPEG).pixels
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        for photometric in ("RGB", "YBR_FULL_422", "YBR_RCT"):
            data = dicom([JPEG], syntax, SHAPE, PhotometricInterpretation=photometric)
            assert_same(read_image(data).pixels, from_jpeg)
    for syntax in (JPEGBaseline8Bit, JPEGLSLossless, RLELossless):
        for photometric in ("RGB", "YBR_FULL_422"):
            data = dicom([JPEG_2000], syntax, SHAPE, PhotometricInterpretation=photometric)
            assert_same(read_image(data).pixels, scene())
    boxed = encoded(scene(), "JPEG2000", mct=1)  # in the boxes of a JP2 file
    assert_same(
        read_image(dicom([boxed], JPEG2000Lossless, SHAPE, PhotometricInterpretation="YBR_RCT")).pixels, scene()
    )
    uncompressed = jpeg_dicom().replace(
        str(JPEGBaseline8Bit).encode(), str(ExplicitVRLittleEndian).encode() + b"\0\0\0"
    )
    items = ITEM + bytes(4) + ITEM + struct.pack("<I", len(JPEG)) + JPEG
    for data in (uncompressed, with_pixels(uncompressed, JPEG), with_pixels(uncompressed, items)):
        assert_same(read_image(data).pixels, from_jpeg)
    rle = pydicom.dcmread(io.BytesIO(rle_dicom()))
    rle.file_meta.TransferSyntaxUID = JPEGLSLossless
    file = io.BytesIO()
    rle.save_as(file)
    assert_same(read_image(file.getvalue()).pixels, scene())
    untransformed = encoded(scene(), "JPEG2000", no_jp2=True, mct=0)
    data = dicom([untransformed], JPEGBaseline8Bit, SHAPE, PhotometricInterpretation="YBR_FULL_422")
    assert_refused(data, "different colour codings")
    raw = jpeg_dicom()
    assert_refused(with_pixels(raw, scene().tobytes()), "cannot be read here")


def test_jpeg_2000_transforms_its_colours_itself() -> None:
    """Whatever the header calls them, they are converted once."""
    for photometric in ("YBR_RCT", "YBR_FULL", "YBR_FULL_422", "RGB"):
        data = dicom([JPEG_2000], JPEG2000Lossless, SHAPE, PhotometricInterpretation=photometric)
        assert_same(read_image(data).pixels, scene())


# ---- the sentences -------------------------------------------------------------------------------------------------


def damaged_files() -> Iterator[tuple[str, bytes]]:
    """Files of all formats, damaged in many ways; most cannot be read."""
    two = [scene(seed=1), scene(seed=2)]
    formats = {
        "a.jpg": JPEG,
        "b.jpg": encoded(scene(), "JPEG", progressive=True),
        "mpo.jpg": multi_picture([(0x020003, JPEG), (0x020003, JPEG)]),
        "a.png": encoded(scene(), "PNG"),
        "a.tif": encoded(scene(), "TIFF"),
        "b.tif": encoded(scene(), "TIFF", compression="tiff_lzw"),
        "c.tif": tiff(two),
        "a.bmp": encoded(scene(), "BMP"),
        "a.dcm": dicom(scene()),
        "b.dcm": jpeg_dicom(),
        "c.dcm": dicom([JPEG_2000], JPEG2000Lossless, SHAPE, PhotometricInterpretation="YBR_RCT"),
        "d.dcm": rle_dicom(),
        "e.dcm": dicom(scene(), DeflatedExplicitVRLittleEndian),
        "f.dcm": dicom(scene(), ImplicitVRLittleEndian),
        "g.dcm": dicom(np.concatenate(two), shape=SHAPE, NumberOfFrames=2),
        "h.dcm": dicom(scene()[..., 0].astype(np.uint16) << 8),
    }
    rng = np.random.default_rng(0)
    for name, data in formats.items():
        for keep in (5, 140, len(data) // 4, len(data) // 2, len(data) - 20):
            yield name, data[:keep]
        for _ in range(12):
            damaged = bytearray(data)
            for _ in range(int(rng.integers(1, 30))):
                damaged[int(rng.integers(0, min(len(data), 1200)))] = int(rng.integers(0, 256))
            yield name, bytes(damaged)
    elements = {"a.dcm": dicom(scene()), "b.dcm": jpeg_dicom(), "c.dcm": formats["c.dcm"], "d.dcm": rle_dicom()}
    for name, data in elements.items():
        for keyword in (
            "Rows",
            "SamplesPerPixel",
            "BitsAllocated",
            "BitsStored",
            "PhotometricInterpretation",
            "PixelData",
        ):
            yield name, without(data, keyword)
        for keyword, value in (("BitsAllocated", 12), ("SamplesPerPixel", 7), ("BitsStored", 40), ("Rows", 3)):
            dataset = pydicom.dcmread(io.BytesIO(data))
            setattr(dataset, keyword, value)
            file = io.BytesIO()
            dataset.save_as(file)
            yield name, file.getvalue()
        for syntax in ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110", "1.2.3.4", str(JPEGLSLossless)):
            dataset = pydicom.dcmread(io.BytesIO(data))
            dataset.file_meta.TransferSyntaxUID = UID(syntax)
            if not isinstance(dataset.PixelData, bytes):
                continue
            file = io.BytesIO()
            try:
                dataset.save_as(file)
            except ValueError:  # pydicom does not write uncompressed data under a compressed syntax
                continue
            yield name, file.getvalue()
    junk = with_items(jpeg_dicom(), [b"\xff\xd8\xff\xdb" + rng.bytes(400)])
    yield "junk.dcm", junk
    yield "video.dcm", with_items(jpeg_dicom(), [b"\0\0\x01\xb3" + rng.bytes(400)])
    yield "lossless.dcm", with_items(jpeg_dicom(), [JPEG.replace(b"\xff\xc0", b"\xff\xc3", 1)])
    yield "jls.dcm", with_items(jpeg_dicom(), [JPEG.replace(b"\xff\xc0", b"\xff\xf7", 1)])
    yield "empty.jpg", b""
    yield "text.jpg", b"<html>"
    yield "huge.dcm", dicom(np.zeros((8, 8, 3), np.uint8), shape=(60000, 60000))


def test_every_sentence_is_for_a_person() -> None:
    """One line that names no library, no exception, no UID and says what to do."""
    foreign = re.compile(
        r"pydicom|pillow|\bPIL\b|opencv|\bcv2\b|gdcm|libjpeg|libtiff|numpy|codec|[a-z]Error|\bError\b|exception|traceback"
        r"|NoneType|object has no|<class|b'|\bNone\b|\b0x[0-9a-f]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|ndarray|index out",
        re.IGNORECASE,
    )
    to_do = re.compile(r"[Ss]end|[Ee]xport|was expected|there is no picture")
    sentences, names = set(), set()
    for name, data in damaged_files():
        for frame in (1, 2):
            try:
                read_image(data, name, frame=frame)
            except UnreadableImage as error:
                sentences.add(error.problem)
                names.add(str(error) == f"{name}: {error.problem}")
    assert names == {True}
    assert len(sentences) > 20
    for sentence in sentences:
        assert not foreign.search(sentence), sentence
        assert to_do.search(sentence), sentence
        assert "\n" not in sentence
        assert sentence.isprintable()
        assert len(sentence) < 250, sentence


def test_the_trials(shared: Path) -> None:
    folder = shared / "trials"
    trailer = read_image(folder / "TRAIL_OD_2026-05-01_1.jpg")
    assert (trailer.source.pictures, trailer.source.eye) == (1, "OD")
    assert trailer.pixels.std() > 10
    undelimited = read_image(folder / "no_seq_delim2.dcm")
    assert undelimited.source.patient_id == "NOSD2"
    assert_same(undelimited.pixels, trailer.pixels)
    empty = read_header(folder / "no_pixel.dcm")
    assert (empty.pictures, empty.patient_id, empty.eye, empty.study_date) == (0, "NOPX", "OD", "2026-04-01")
    assert (empty.patient_name, empty.birth_date, empty.sex) == ("Test^Pat", "1960-01-01", "F")
    with pytest.raises(UnreadableImage, match="holds no picture"):
        read_image(folder / "no_pixel.dcm")
    assert read_header(folder / "pdf_of_a_study.dcm").pictures == 0
