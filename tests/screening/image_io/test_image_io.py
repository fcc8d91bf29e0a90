"""Reading pictures: every format a clinic sends, and nothing but a clear error for the rest."""

import errno
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from functools import cache
from pathlib import Path

import cv2
import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from keras_realmnet.errors import MachineFault
from keras_realmnet.screening.image_io import (
    DecompressionBomb,
    FileName,
    UnreadableImage,
    parse_file_name,
    read_header,
    read_image,
)
from tests.screening.image_io.image_files import assert_same, dicom, encoded, scene, transcoded

# ---- formats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 12),
        ("TIFF", {"big_tiff": True}, 0),
        ("JPEG", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0, "restart_marker_blocks": 3}, 12),
    ],
)
def test_colour_files_keep_their_channels(kind: str, options: dict, tolerance: int, tmp_path: Path) -> None:
    image = scene()
    path = tmp_path / "picture.dat"  # typed by content, not by name
    path.write_bytes(encoded(image, kind, **options))
    loaded = read_image(path)
    assert loaded.source.format == kind
    assert (loaded.source.width, loaded.source.height) == (128, 96)
    assert_same(loaded.pixels, image, tolerance)
    assert read_header(path) == loaded.source


def test_grey_palette_alpha_and_16_bits() -> None:
    grey = scene()[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    for kind in ("PNG", "BMP", "TIFF"):
        assert_same(read_image(encoded(grey, kind)).pixels, three)
    assert_same(read_image(encoded(grey, "JPEG", quality=98)).pixels, three, 3)
    deep = grey.astype(np.uint16) * 257
    for kind in (".png", ".tiff"):
        assert_same(read_image(cv2.imencode(kind, deep)[1].tobytes()).pixels, three)
        colour = cv2.imencode(kind, scene()[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        assert_same(read_image(colour).pixels, scene())
    alpha = np.dstack([scene(), np.full((96, 128), 7, np.uint8)])
    for kind in ("PNG", "TIFF"):
        assert_same(read_image(encoded(alpha, kind)).pixels, scene())
    palette = Image.fromarray(scene()).quantize(64)
    file = io.BytesIO()
    palette.save(file, "PNG")
    assert_same(read_image(file.getvalue()).pixels, np.asarray(palette.convert("RGB")))


def test_first_page_of_a_tiff() -> None:
    file = io.BytesIO()
    pages = [Image.fromarray(scene(seed=seed)) for seed in (1, 2)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert_same(read_image(file.getvalue()).pixels, scene(seed=1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), kind, exif=exif, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    upright = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90,
    }[orientation]  # fmt: skip
    loaded = read_image(data)
    assert_same(loaded.pixels, upright(scene()), 12 if kind == "JPEG" else 0)
    assert (loaded.source.height, loaded.source.width) == loaded.pixels.shape[:2]


# ---- DICOM ---------------------------------------------------------------------------------------------------------


def test_one_image_reads_alike_in_every_colour_coding() -> None:
    """RGB, JPEG YBR_FULL_422, JPEG 2000 YBR_RCT and the others: colour is converted once, never twice or not at all."""
    image = scene()
    assert_same(read_image(dicom(image)).pixels, image)
    planar = dicom(image.transpose(2, 0, 1), shape=(96, 128), PlanarConfiguration=1)
    assert_same(read_image(planar).pixels, image)
    ybr = convert_color_space(image, "RGB", "YBR_FULL")
    assert_same(read_image(dicom(ybr, PhotometricInterpretation="YBR_FULL")).pixels, image, 2)
    pairs = ybr.reshape(-1, 2, 3).astype(int)  # Y1 Y2 Cb Cr for each two pixels of a row (PS3.3 C.7.6.3.1.2)
    packed = np.concatenate([pairs[..., 0], pairs[..., 1:].mean(axis=1).round()], axis=1).astype(np.uint8)
    half = dicom(packed, shape=(96, 128), SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    assert_same(read_image(half).pixels, image, 12)
    for subsampling, photometric in ((1, "YBR_FULL_422"), (0, "YBR_FULL"), (2, "YBR_PARTIAL_420")):
        frame = encoded(image, "JPEG", quality=95, subsampling=subsampling)
        data = dicom([frame], JPEGBaseline8Bit, (96, 128), PhotometricInterpretation=photometric)
        assert_same(read_image(data).pixels, image, 12)
        assert_same(read_image(data).pixels, read_image(frame).pixels)
    frame = encoded(image, "JPEG", quality=95, subsampling=0, keep_rgb=True)
    assert_same(read_image(dicom([frame], JPEGBaseline8Bit, (96, 128))).pixels, image, 12)
    for irreversible, photometric, tolerance in ((False, "YBR_RCT", 0), (True, "YBR_ICT", 6)):
        frame = encoded(image, "JPEG2000", no_jp2=True, mct=1, irreversible=irreversible)
        syntax = "1.2.840.10008.1.2.4.91" if irreversible else JPEG2000Lossless
        data = dicom([frame], syntax, (96, 128), PhotometricInterpretation=photometric)
        assert_same(read_image(data).pixels, image, tolerance)
    frame = encoded(image, "JPEG2000", no_jp2=True, mct=0)
    assert_same(read_image(dicom([frame], JPEG2000Lossless, (96, 128))).pixels, image)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_transfer_syntaxes(syntax: str) -> None:
    loaded = read_image(dicom(scene(), syntax))
    assert_same(loaded.pixels, scene())
    assert loaded.source.transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    "syntax",
    [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless,
     gdcm.TransferSyntax.JPEG2000Lossless, gdcm.TransferSyntax.RLELossless],
)  # fmt: skip
@pytest.mark.parametrize("colour", [True, False])
def test_lossless_transfer_syntaxes(syntax: int, colour: bool) -> None:
    image = scene() if colour else scene()[..., 0]
    expected = image if colour else np.repeat(image[..., None], 3, axis=2)
    assert_same(read_image(transcoded(dicom(image), syntax)).pixels, expected)


def test_rle_written_by_pydicom() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(scene())))
    dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file)
    assert_same(read_image(file.getvalue()).pixels, scene())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_without_preamble(syntax: str) -> None:
    assert_same(read_image(dicom(scene(), syntax, file_format=False)).pixels, scene())
    assert_same(read_image(dicom(scene(), syntax)[132:]).pixels, scene())


def test_grey_scales() -> None:
    grey = scene()[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    assert_same(read_image(dicom(grey)).pixels, three)
    assert_same(read_image(dicom(255 - grey, PhotometricInterpretation="MONOCHROME1")).pixels, three)
    frame = encoded(255 - grey, "JPEG", quality=98)
    inverted = dicom([frame], JPEGBaseline8Bit, (96, 128), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME1")
    assert_same(read_image(inverted).pixels, three, 3)
    assert_same(read_image(dicom(grey.astype(np.uint16) << 8)).pixels, three)
    assert_same(read_image(dicom(grey.astype(np.uint16) << 4, BitsStored=12)).pixels, three)
    assert_same(
        read_image(dicom(grey.astype(np.int16) * 16 - 2048, BitsStored=12, PixelRepresentation=1)).pixels, three
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colour(bits: int) -> None:
    lut = np.random.default_rng(0).integers(0, 256, (256, 3))
    index = scene()[..., 0]
    tables = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        values = lut[:, channel].astype(np.uint8) if bits == 8 else (lut[:, channel] * 257).astype("<u2")
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = values.tobytes()
    data = dicom(index, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert_same(read_image(data).pixels, lut[index])


def test_first_frame_of_several() -> None:
    both = np.concatenate([scene(seed=1), scene(seed=2)])
    assert_same(read_image(dicom(both, shape=(96, 128), NumberOfFrames=2)).pixels, scene(seed=1))
    frames = [encoded(scene(seed=seed), "JPEG2000", no_jp2=True, mct=0) for seed in (1, 2)]
    data = dicom(frames, JPEG2000Lossless, (96, 128), NumberOfFrames=2)
    assert_same(read_image(data).pixels, scene(seed=1))


def test_real_dicom_objects(shared: Path) -> None:
    expected = {
        "anterior_colour_jpeg": ((576, 768), "OS", None),
        "blue_uncompressed": ((768, 768), "OD", ("ORIGINAL", "PRIMARY", "", "BLUE")),
        "infrared_jpeg_lossless": ((768, 768), "OD", ("ORIGINAL", "PRIMARY", "", "RED")),
    }
    for name, (shape, eye, image_type) in expected.items():
        loaded = read_image(shared / "fundus" / "dicom" / f"{name}.dcm")
        assert loaded.pixels.shape == (*shape, 3)
        assert loaded.pixels.std() > 10
        assert (loaded.source.eye, loaded.source.eye_source) == (eye, "dicom")
        assert loaded.source.manufacturer == "Heidelberg Engineering"
        assert loaded.source.modality == "OP"
        assert image_type is None or loaded.source.image_type == image_type


# ---- what the file says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P12_OD_2023-06-25_2.jpg", ("P12", "OD", "2023-06-25", 2)),
        ("P12_os_20230625_10.dcm", ("P12", "OS", "2023-06-25", 10)),
        ("clinic_7_OS_2023-06-25_1.tif", ("clinic_7", "OS", "2023-06-25", 1)),
        ("Müller 3_OD.png", ("Müller 3", "OD", None, None)),
        ("P12_OD_2023-13-45_2.jpg", ("P12", "OD", None, 2)),
        ("P12_3.jpg", ("P12", None, None, 3)),
        ("Patient001_L.jpg", None),
        ("OD.jpg", None),
        ("1.2.840.113.dcm", None),
        ("", None),
    ],
)
def test_file_names(name: str, expected: tuple | None) -> None:
    assert parse_file_name(name) == (None if expected is None else FileName(*expected))


def test_own_file_name_pattern() -> None:
    assert parse_file_name("OS-77.jpg", r"(?P<eye>OD|OS)-(?P<patient_id>\d+)") == FileName("77", "OS", None, None)


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_text_is_a_name(name: str) -> None:
    parsed = parse_file_name(name)
    assert parsed is None or parsed.eye in ("OD", "OS", None)


def test_eye_comes_from_dicom_first_and_is_never_guessed() -> None:
    def source(name: str, **elements: object):
        return read_header(dicom(scene(), **elements), name)

    right = source("P1_OS_2023-06-25_1.dcm", ImageLaterality="R")
    assert (right.eye, right.eye_source) == ("OD", "dicom")
    assert right.warnings == ("DICOM says OD, the file name OS: OD is used",)
    left = source("x.dcm", Laterality="L")
    assert (left.eye, left.eye_source, left.warnings) == ("OS", "dicom", ())
    for laterality in ("B", "", "U"):
        named = source("P1_OD_2020-01-02_1.dcm", ImageLaterality=laterality)
        assert (named.eye, named.eye_source, named.study_date) == ("OD", "file name", "2023-06-25")
        unknown = source("x.dcm", ImageLaterality=laterality)
        assert (unknown.eye, unknown.eye_source) == (None, None)
    other = source("P2_OD_2020-01-02_1.dcm", ImageLaterality="R")
    assert other.patient_id == "P1"
    assert "different patient" in other.warnings[0]
    twofold = source("x.dcm", ImageLaterality="R", Laterality="L")
    assert (twofold.eye, twofold.eye_source) == ("OD", "dicom")
    assert "OS of its series" in twofold.warnings[0]
    assert source("x.dcm", ImageLaterality="R", Laterality="R").warnings == ()


def test_what_a_plain_file_does_not_say_is_none(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(scene(), "PNG"))
    source = read_header(path)
    assert len(source.sha256) == 64
    facts = ("patient_id", "eye", "eye_source", "study_date", "manufacturer", "modality", "image_type", "sop_class_uid")
    assert all(getattr(source, fact) is None for fact in facts)


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_no_image_at_all(tmp_path: Path) -> None:
    for name, content in (
        ("report.pdf", b"%PDF-1.7 ..."),
        ("notes.jpg", b"just text"),
        ("page.png", b"<html></html>"),
        ("empty.dcm", b""),
        ("zeros.dcm", bytes(4096)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage, match=f"{name}: .*a JPEG, PNG, TIFF, BMP or DICOM image was expected"):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match="folder"):
        read_image(tmp_path)
    with pytest.raises(UnreadableImage, match="not found"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(UnreadableImage, match=r"cannot be read|not found"):
        read_image("a\0b.jpg")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (MemoryError(), "memory of this machine"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "on this machine: Input/output error"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "on this machine: Stale file handle"),
    ],
)
def test_a_machines_fault_is_not_the_files(tmp_path, monkeypatch, fault, words):
    """While the file is read, its header parsed or its pixels decoded."""

    def fails(*arguments, **options):
        raise fault

    contents = {"png": encoded(scene(), "PNG"), "jpg": encoded(scene(), "JPEG"), "dcm": dicom(scene())}
    decoders = {"png": "PIL.Image.Image.convert", "jpg": "cv2.imdecode", "dcm": "numpy.frombuffer"}
    for kind, patched in decoders.items():
        file = tmp_path / f"P1_OD.{kind}"
        file.write_bytes(contents[kind])
        for place in (patched, "pathlib.Path.read_bytes"):
            with monkeypatch.context() as broken:
                broken.setattr(place, fails)
                with pytest.raises(MachineFault, match=f"{file.name}: .*{words}") as raised:
                    read_image(file)
            assert file.name not in raised.value.problem
        read_image(file)


def test_no_memory_for_opencv_is_the_machines_fault(tmp_path):
    """OpenCV reports it by an error of its own."""
    file = tmp_path / "large.jpg"
    Image.fromarray(np.zeros((6000, 6000, 3), np.uint8)).save(file)
    code = (
        "import resource, sys\n"
        "from keras_realmnet.errors import MachineFault\n"
        "from keras_realmnet.screening.image_io import read_image\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (90 << 20, 90 << 20))\n"
        "try:\n    read_image(sys.argv[1])\n"
        "except MachineFault as fault:\n    print(fault)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout == "large.jpg: the memory of this machine did not suffice to read the file\n"


def test_dicom_without_a_picture() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(scene())))
    del dataset.PixelData
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match=r"report\.dcm: this DICOM object holds no picture"):
        read_image(file.getvalue(), "report.dcm")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "restart_marker_rows": 1}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
    ],
)
def test_a_truncated_picture_is_never_half_shown(kind: str, options: dict) -> None:
    image = scene(240, 320)
    image[:30] = image[-30:] = 0  # a border, so that the last rows look alike in all files
    data = encoded(image, kind, **options)
    for keep in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        cut = data[: int(len(data) * keep)]
        for min_side in (None, 16):
            with pytest.raises(UnreadableImage):
                read_image(cut, min_side=min_side)
        if kind != "TIFF":  # an uncompressed TIFF whose tail is zeros is a valid file with a black part
            with pytest.raises(UnreadableImage):
                read_image(cut + bytes(len(data) - len(cut)) if kind != "BMP" else cut)
        if kind == "JPEG" and "progressive" not in options and keep > 0.2:  # decoders fill in grey up to an end marker
            for min_side in (None, 16):
                with pytest.raises(UnreadableImage, match="missing"):
                    read_image(cut + b"\xff\xd9", min_side=min_side)
    if kind != "TIFF":
        with pytest.raises(UnreadableImage):
            read_image(data[:-2])


def test_a_truncated_dicom_picture() -> None:
    plain = dicom(scene())
    frames = {
        JPEGBaseline8Bit: encoded(scene(240, 320), "JPEG", quality=90),
        JPEG2000Lossless: encoded(scene(240, 320), "JPEG2000", no_jp2=True, mct=1),
    }
    with pytest.raises(UnreadableImage):
        read_image(plain[: len(plain) // 2])
    for syntax, frame in frames.items():
        for photometric in ("YBR_FULL_422", "RGB"):
            whole = dicom([frame], syntax, (240, 320), PhotometricInterpretation=photometric)
            read_image(whole)
            half = dicom([frame[: len(frame) // 2]], syntax, (240, 320), PhotometricInterpretation=photometric)
            for data in (whole[: len(whole) - len(frame) // 2], half):
                with pytest.raises(UnreadableImage):
                    read_image(data)


def test_mid_grey_is_a_colour_too() -> None:
    """Missing JPEG data are told from a picture that is really grey there."""
    grey = np.full((64, 80, 3), 128, np.uint8)
    for options in ({}, {"restart_marker_blocks": 2}, {"progressive": True}):
        data = encoded(grey, "JPEG", quality=90, **options)
        assert_same(read_image(data).pixels, grey)
        assert_same(read_image(data, min_side=40).pixels, grey[::2, ::2])


def halved(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@settings(max_examples=40)
@given(
    height=st.integers(100, 300),
    width=st.integers(100, 300),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
    in_dicom=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_large_jpeg_is_decoded_at_half_its_size(
    height: int, width: int, subsampling: str, progressive: bool, in_dicom: bool, seed: int
) -> None:
    data = encoded(scene(height, width, seed), "JPEG", quality=95, subsampling=subsampling, progressive=progressive)
    if in_dicom:
        data = dicom([data], JPEGBaseline8Bit, (height, width), PhotometricInterpretation="YBR_FULL_422")
    whole, half = read_image(data), read_image(data, min_side=max(height, width) // 2)
    assert half.source == whole.source
    assert half.pixels.shape == (height // 2, width // 2, 3)
    expected = halved(whole.pixels[: height // 2 * 2, : width // 2 * 2])
    assert np.abs(half.pixels.astype(int) - expected).mean() < 1.5
    assert_same(read_image(data, min_side=max(height, width) // 2 + 1).pixels, whole.pixels)


def test_other_pictures_are_always_decoded_whole() -> None:
    image = scene()
    for kind in ("PNG", "TIFF", "BMP"):
        assert_same(read_image(encoded(image, kind), min_side=16).pixels, image)
    assert_same(read_image(dicom(image), min_side=16).pixels, image)
    frame = encoded(image, "JPEG", quality=95)
    without_transform = dicom([frame], JPEGBaseline8Bit, (96, 128), PhotometricInterpretation="RGB")
    assert read_image(without_transform, min_side=16).pixels.shape == image.shape


def test_half_size_keeps_grey_orientation_and_inversion() -> None:
    image = scene(97, 128)
    upright = Image.fromarray(image)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        upright.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
        whole, half = read_image(file.getvalue()), read_image(file.getvalue(), min_side=64)
        assert half.pixels.shape[:2] == (whole.source.height // 2, whole.source.width // 2)
        # The file's last row is left out, wherever it lies on the upright picture.
        first = whole.source.height % 2 * (orientation in (3, 4)), whole.source.width % 2 * (orientation in (6, 7))
        kept = whole.pixels[first[0] :, first[1] :]
        expected = halved(kept[: kept.shape[0] // 2 * 2, : kept.shape[1] // 2 * 2])
        assert np.abs(half.pixels.astype(int) - expected).mean() < 1.5
    grey = encoded(image[..., 0], "JPEG", quality=95)
    pixels = read_image(grey, min_side=64).pixels
    assert np.abs(pixels.astype(int) - halved(read_image(grey).pixels[:96])).mean() < 1
    options = {"PhotometricInterpretation": "MONOCHROME1", "SamplesPerPixel": 1}
    inverted = dicom([grey], JPEGBaseline8Bit, (97, 128), **options)
    assert_same(read_image(inverted, min_side=64).pixels, 255 - pixels)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )


def test_decompression_bombs_are_refused_on_their_header() -> None:
    small = encoded(np.zeros((8, 8, 3), np.uint8), "TIFF")
    page = Image.open(io.BytesIO(small))
    tiff = bytearray(small)
    for tag in (256, 257):  # ImageWidth, ImageLength: a 12-byte directory entry, the value in its last four
        at = tiff.find(struct.pack("<H", tag), page.tag_v2.offset if hasattr(page.tag_v2, "offset") else 8)
        tiff[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60000)
    jpeg = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    bmp = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "BMP"))
    bmp[18:26] = struct.pack("<II", 60000, 60000)
    for name, data in {
        "a.png": png_header(60000, 60000),
        "a.tif": bytes(tiff),
        "a.jpg": bytes(jpeg),
        "a.bmp": bytes(bmp),
        "a.dcm": dicom(np.zeros((8, 8, 3), np.uint8), shape=(60000, 60000)),
    }.items():
        for read in (read_header, read_image):
            with pytest.raises(DecompressionBomb, match=f"{name}: the header announces 60000x60000 pixels"):
                read(data, name)


def test_bombs_inside_of_dicom() -> None:
    """A small DICOM header around a huge compressed frame, and a data set that inflates without end."""
    jpeg = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 60000, 60000)
    j2k = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG2000", no_jp2=True))
    j2k[8:16] = struct.pack(">II", 60000, 60000)
    for frame, syntax in ((jpeg, JPEGBaseline8Bit), (j2k, JPEG2000Lossless)):
        with pytest.raises(UnreadableImage, match=r"60000x60000 pixels .* announces 8x8 pixels"):
            read_image(dicom([bytes(frame)], syntax, (8, 8), PhotometricInterpretation="YBR_FULL_422"))


@pytest.mark.slow
def test_a_deflated_data_set_that_never_ends() -> None:
    deflated = dicom(np.zeros((8, 8, 3), np.uint8), DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(deflated[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"".join(packer.compress(bytes(2**20)) for _ in range(600)) + packer.flush()
    with pytest.raises(DecompressionBomb, match="deflated"):
        read_header(deflated[:start] + zeros)


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(513 * 1024**2)  # sparse: takes no room on disk
    with pytest.raises(DecompressionBomb, match="bytes"):
        read_image(path)


# ---- fuzz ----------------------------------------------------------------------------------------------------------


@cache
def seeds() -> tuple[bytes, ...]:
    image = scene(24, 32)
    return (
        encoded(image, "JPEG", quality=80),
        encoded(image, "JPEG", quality=80, progressive=True),
        encoded(image, "PNG"),
        encoded(image, "TIFF"),
        encoded(image, "TIFF", compression="tiff_lzw"),
        encoded(image, "BMP"),
        dicom(image),
        dicom(image, ImplicitVRLittleEndian, file_format=False),
        dicom(image, DeflatedExplicitVRLittleEndian),
        dicom([encoded(image, "JPEG")], JPEGBaseline8Bit, (24, 32), PhotometricInterpretation="YBR_FULL_422"),
        dicom([encoded(image, "JPEG2000", no_jp2=True)], JPEG2000Lossless, (24, 32)),
        transcoded(dicom(image), gdcm.TransferSyntax.RLELossless),
    )


@settings(max_examples=50)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_a_clear_error(data: st.DataObject) -> None:
    for original in seeds():
        mutated = bytearray(original)
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(mutated) - 1))
            mutated[at] = data.draw(st.integers(0, 255))
        if data.draw(st.integers(0, 3)) == 0:
            start = data.draw(st.integers(0, len(mutated) - 1))
            del mutated[start : start + data.draw(st.integers(1, 200))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                min_side = data.draw(st.sampled_from([None, 8]))
                loaded = read_image(bytes(mutated), "fuzz", min_side=min_side)
            except UnreadableImage as error:
                message = str(error)
            else:
                message = "fuzz: "
                assert loaded.pixels.dtype == np.uint8
                height, width = loaded.source.height, loaded.source.width
                half = (height // 2, width // 2, 3)
                assert loaded.pixels.shape in ((height, width, 3), *([half] if min_side else []))
        assert message.startswith("fuzz: ")
        assert "\n" not in message
