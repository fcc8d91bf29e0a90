"""Several pictures in one file: each is read by its number, or none is and a sentence says why."""

import io
import struct
import time
import zlib
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from keras_realmnet.screening.image_io import MAX_PICTURES, DecompressionBomb, UnreadableImage, read_header, read_image
from tests.proofs.files.frames import multi_picture, tiff
from tests.screening.image_io.image_files import (
    DELIMITER,
    ITEM,
    assert_same,
    dicom,
    encoded,
    even,
    scene,
    transcoded,
    with_items,
    with_pixels,
)

SHAPE = (96, 128)


def assert_holds(data: bytes, pictures: list[np.ndarray], tolerance: float = 0) -> None:
    """Each picture by its number, and none beyond the last."""
    for number, picture in enumerate(pictures, 1):
        loaded = read_image(data, frame=number)
        assert_same(loaded.pixels, picture, tolerance)
        assert (loaded.source.frame, loaded.source.pictures) == (number, len(pictures))
        assert read_header(data, frame=number) == loaded.source
    for read in (read_header, read_image):
        beyond = len(pictures) + 1
        with pytest.raises(UnreadableImage, match=rf"^x: the file holds .*; there is no picture {beyond}") as raised:
            read(data, "x", frame=beyond)
        assert raised.value.source.pictures == len(pictures)


def assert_refused(data: bytes, *words: str) -> None:
    """The header is read; no picture is, whichever is asked for; `words` are in the sentence."""
    source = read_header(data)
    assert (source.pictures, source.width, source.height) == (0, None, None)
    for number in (1, 2, 50):
        with pytest.raises(UnreadableImage) as raised:
            read_image(data, "x", frame=number)
        assert str(raised.value) == f"x: {raised.value.problem}"
        assert all(word in raised.value.problem for word in words)
        assert raised.value.source == read_header(data, "x", frame=number)


def jpegs(*seeds: int) -> list[bytes]:
    return [encoded(scene(seed=seed), "JPEG", quality=98, subsampling=0) for seed in seeds]


def jpeg_dicom(frames: list[bytes], **elements: object) -> bytes:
    return dicom(frames, JPEGBaseline8Bit, SHAPE, PhotometricInterpretation="YBR_FULL_422", **elements)


# ---- DICOM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("announced", [{}, {"NumberOfFrames": 1}, {"NumberOfFrames": 3}])
def test_uncompressed_frames(syntax: str, announced: dict) -> None:
    """The length of the data tells how many there are, also where the number of frames is absent or too small."""
    pictures = [scene(seed=seed) for seed in (1, 2, 3)]
    assert_holds(dicom(np.concatenate(pictures), syntax, SHAPE, **announced), pictures)


def test_uncompressed_frames_of_odd_size() -> None:
    pictures = [scene(7, 9, seed)[..., 0] for seed in (1, 2, 3)]
    three = [np.repeat(picture[..., None], 3, axis=2) for picture in pictures]
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian):
        data = dicom(np.concatenate(pictures), syntax, (7, 9), NumberOfFrames=3)
        assert_holds(data, three)
    swapped = pydicom.dcmread(io.BytesIO(dicom(np.concatenate(pictures), ExplicitVRBigEndian, (7, 9))))
    value = np.frombuffer(swapped.PixelData, np.uint16).byteswap().tobytes()
    swapped.add_new("PixelData", "OW", value)
    file = io.BytesIO()
    swapped.save_as(file)
    assert_holds(file.getvalue(), three)


def test_more_uncompressed_frames_announced_than_are_there() -> None:
    both = dicom(np.concatenate([scene(seed=1), scene(seed=2)]), shape=SHAPE, NumberOfFrames=3)
    assert_refused(both, "announces 3 pictures, but holds 2")
    assert_refused(dicom(scene(), NumberOfFrames=2_000_000_000), "announces 2000000000 pictures, but holds 1")


def test_uncompressed_data_that_do_not_add_up() -> None:
    data = dicom(np.concatenate([scene(seed=1), scene(seed=2)]), shape=SHAPE)
    value = data[data.rindex(b"\xe0\x7f\x10\x00O") + 12 :]
    assert_refused(with_pixels(data, value[:-100]), "more data than its pictures fill")
    assert_refused(with_pixels(data, value)[:-100], "truncated")
    assert_refused(data[: -len(value) // 2], "truncated")  # between two frames
    padded = with_pixels(data, value + bytes(512))  # some devices fill a block with zeros
    assert_holds(padded, [scene(seed=1), scene(seed=2)])


def test_reduced_colour_is_not_told_from_fewer_pictures_of_full_colour() -> None:
    packed = np.random.default_rng(0).integers(0, 256, 6 * SHAPE[0] * SHAPE[1]).astype(np.uint8)
    about = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}
    ambiguous = dicom(packed.reshape(-1, SHAPE[1]), shape=SHAPE, **about)  # three of 2 bytes per pixel, or two of 3
    assert_refused(ambiguous, "cannot be told apart")
    assert read_header(dicom(packed.reshape(-1, SHAPE[1]), shape=SHAPE, NumberOfFrames=3, **about)).pictures == 3


@pytest.mark.parametrize("announced", [{}, {"NumberOfFrames": 2}, {"NumberOfFrames": 3}])
@pytest.mark.parametrize("table", ["right", "empty", "wrong"])
def test_compressed_frames(announced: dict, table: str) -> None:
    """Their own start and end markers tell frames apart, whatever the number of frames and the offset table say."""
    frames = [even(frame) for frame in jpegs(1, 2, 3)]
    pictures = [read_image(frame).pixels for frame in frames]
    offsets = np.cumsum([0, *(8 + len(frame) for frame in frames[:-1])])
    tables = {"right": struct.pack("<3I", *offsets), "empty": b"", "wrong": struct.pack("<2I", 4, 99999)}
    data = with_items(jpeg_dicom(frames, **announced), frames, tables[table])
    assert_holds(data, pictures)
    for number in (1, 2, 3):  # at half size, too
        half = read_image(data, frame=number, min_side=64)
        assert_same(half.pixels, read_image(frames[number - 1], min_side=64).pixels)
        assert half.pixels.shape == (48, 64, 3)


def test_one_frame_split_over_fragments() -> None:
    first, second = map(even, jpegs(1, 2))
    parts = [first[:200], first[200:1000], first[1000:], second[:400], second[400:]]
    data = with_items(jpeg_dicom([first]), parts)
    assert_holds(data, [read_image(frame).pixels for frame in (first, second)])
    assert_holds(with_items(data, parts[:3]), [read_image(first).pixels])
    assert_holds(with_items(data, [first + second]), [read_image(frame).pixels for frame in (first, second)])


@pytest.mark.parametrize(
    "syntax",
    [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless,
     gdcm.TransferSyntax.JPEG2000Lossless, gdcm.TransferSyntax.RLELossless],
)  # fmt: skip
def test_frames_of_lossless_codings(syntax: int) -> None:
    pictures = [scene(seed=seed) for seed in (1, 2)]
    data = transcoded(dicom(np.concatenate(pictures), shape=SHAPE, NumberOfFrames=2), syntax)
    assert_holds(data, pictures)


def test_more_compressed_frames_announced_than_are_there() -> None:
    assert_refused(jpeg_dicom(jpegs(1, 2), NumberOfFrames=3), "announces 3 pictures, but holds 2", "missing")


def test_rle_frames_that_cannot_be_told_apart() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(scene())))
    dataset.compress(RLELossless)
    frame = bytes(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    file = io.BytesIO()
    dataset.save_as(file)
    data = file.getvalue()
    assert_holds(with_items(data, [frame, frame]), [scene(), scene()])
    assert_refused(with_items(data, [frame[:500], frame[500:]]), "cannot be told apart")
    assert_refused(with_items(data, [frame + frame]), "cannot be told apart")


def test_a_file_that_may_have_held_more() -> None:
    """Cut off between two frames, with nothing that says how many there were."""
    frames = [even(frame) for frame in jpegs(1, 2, 3)]
    assert_refused(with_items(jpeg_dicom(frames), frames[:2], delimiter=b""), "cannot be told apart")
    table = struct.pack("<2I", 0, 8 + len(frames[0]))
    assert_refused(with_items(jpeg_dicom(frames), frames[:1], table, delimiter=b""), "cannot be told apart")
    begun = with_items(jpeg_dicom(frames), frames[:1], delimiter=ITEM + struct.pack("<I", 5000))
    assert_refused(begun, "truncated")
    assert_refused(begun + b"\xff\xd8", "truncated")


def test_one_frame_cut_off_is_told_and_the_others_are_read() -> None:
    frames = [even(frame) for frame in jpegs(1, 2, 3)]
    data = with_items(jpeg_dicom(frames, NumberOfFrames=3), [frames[0], frames[1][:-800], frames[2]])
    for number in (1, 3):
        assert_same(read_image(data, frame=number).pixels, read_image(frames[number - 1]).pixels)
    with pytest.raises(UnreadableImage, match="incomplete"):
        read_image(data, frame=2)


def test_a_thumbnail_is_not_taken_for_the_frame_whose_header_is_cut_off() -> None:
    first, second = jpegs(1, 2)
    thumbnail = b"Exif\0\0" + encoded(scene(seed=9), "JPEG")  # as large as the picture
    second = second[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + second[2:]
    assert len(thumbnail) + 300 < len(second)
    for data in (first + second[: len(thumbnail) + 100], jpeg_dicom([first, second[: len(thumbnail) + 100]])):
        assert read_header(data).pictures == 2
        assert_same(read_image(data, frame=1).pixels, read_image(first).pixels)
        with pytest.raises(UnreadableImage, match="incomplete"):
            read_image(data, frame=2)


def test_pictures_that_do_not_count() -> None:
    """Icon images and the thumbnails inside of a JPEG's header."""
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.add_new("PixelData", "OB", bytes(64))
    assert_holds(dicom(scene(), IconImageSequence=[icon]), [scene()])
    file = io.BytesIO()
    exif = b"Exif\0\0" + jpegs(5)[0]
    Image.fromarray(scene()).save(file, "JPEG", quality=98, exif=exif)
    for data in (file.getvalue(), jpeg_dicom([file.getvalue()])):
        assert read_header(data).pictures == 1
        assert_same(read_image(data).pixels, scene(), 12)


def test_at_most_sixteen_pictures() -> None:
    many = [scene(8, 8, seed) for seed in range(MAX_PICTURES + 1)]
    assert_holds(dicom(np.concatenate(many[:16]), shape=(8, 8), NumberOfFrames=16), many[:16])
    sentence = "holds 17 pictures; at most 16 are screened: not analysed"
    assert_refused(dicom(np.concatenate(many), shape=(8, 8), NumberOfFrames=17), sentence)
    frames = [encoded(picture, "JPEG") for picture in many]
    assert_refused(dicom(frames, JPEGBaseline8Bit, (8, 8), PhotometricInterpretation="YBR_FULL_422"), sentence)
    assert_refused(b"".join(frames), sentence)
    assert_refused(tiff(many), sentence)


def test_only_the_picture_asked_for_is_decoded() -> None:
    """Sixteen frames, of which all but one cannot be decoded."""
    frames = [encoded(scene(seed=seed), "JPEG2000", no_jp2=True, mct=0) for seed in range(16)]
    broken = [
        frame[:180] + bytes(len(frame) - 200) + frame[-20:] if n != 7 else frame for n, frame in enumerate(frames)
    ]
    data = dicom(broken, JPEG2000Lossless, SHAPE, NumberOfFrames=16)
    assert read_header(data).pictures == 16
    assert_same(read_image(data, frame=8).pixels, scene(seed=7))


def test_the_eye_of_each_frame() -> None:
    def groups(laterality: str) -> Dataset:
        anatomy, group = Dataset(), Dataset()
        anatomy.FrameLaterality = laterality
        group.FrameAnatomySequence = [anatomy]
        return group

    both = np.concatenate([scene(seed=1), scene(seed=2)])
    each = {"PerFrameFunctionalGroupsSequence": [groups("R"), groups("L")], "NumberOfFrames": 2}
    data = dicom(both, shape=SHAPE, **each)
    assert [read_header(data, frame=n).eye for n in (1, 2)] == ["OD", "OS"]
    assert read_header(data).eye_source == "dicom"
    against = dicom(both, shape=SHAPE, ImageLaterality="R", **each)
    assert read_header(against, frame=1).warnings == ()
    assert read_header(against, frame=2).eye == "OS"
    assert read_header(against, frame=2).warnings == ("DICOM says OS of the frame, OD of its image: OS is used",)
    shared = dicom(both, shape=SHAPE, SharedFunctionalGroupsSequence=[groups("L")], NumberOfFrames=2)
    assert [read_header(shared, frame=n).eye for n in (1, 2)] == ["OS", "OS"]
    unpaired = dicom(both, shape=SHAPE, SharedFunctionalGroupsSequence=[groups("U")], ImageLaterality="R")
    assert read_header(unpaired).eye is None
    # Of three entries for two frames none is certain.
    three = dicom(both, shape=SHAPE, PerFrameFunctionalGroupsSequence=[groups(side) for side in "RLR"])
    assert read_header(three).eye is None


# ---- TIFF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_of_a_tiff(compression: str, big: bool) -> None:
    file = io.BytesIO()
    pictures = [scene(seed=1), scene(60, 80, seed=2), scene(seed=3)]  # pages may differ in size
    first, *others = map(Image.fromarray, pictures)
    first.save(file, "TIFF", save_all=True, append_images=others, compression=compression, big_tiff=big)
    assert_holds(file.getvalue(), pictures)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extras", ["previews", "SubIFDs", "masks"])
def test_previews_and_masks_are_no_pictures(order: str, extras: str) -> None:
    pictures = [scene(seed=seed) for seed in (1, 2)]
    assert_holds(tiff(pictures, order, extras=extras), pictures)
    assert_holds(tiff(pictures[:1], order, extras=extras), pictures[:1])


def test_pictures_in_sub_directories() -> None:
    """As raw camera files have it: a preview in the main list, the picture below it."""
    data = bytearray(tiff([scene(seed=1)], extras="SubIFDs"))
    entries = [at for at in range(8, len(data) - 12) if data[at : at + 8] == struct.pack("<HHI", 254, 4, 1)]
    assert len(entries) == 1
    data[entries[0] + 8] = 0  # the one below is a picture, too
    assert_holds(bytes(data), [scene(seed=1), scene(seed=1)[::2, ::2]])


def test_a_preview_alone_is_the_picture() -> None:
    file = io.BytesIO()
    Image.fromarray(scene()).save(file, "TIFF", tiffinfo={254: 1})
    assert_holds(file.getvalue(), [scene()])


def test_a_big_endian_bigtiff_is_refused_in_words() -> None:
    assert_refused(tiff([scene()], ">", big=True), "BigTIFF", "Export")


def test_a_damaged_list_of_pages() -> None:
    pictures = [scene(8, 8, seed) for seed in (1, 2)]
    assert_refused(tiff(pictures, loops=True), "list of pages is damaged")
    whole = bytearray(tiff(pictures))
    link = whole.rindex(bytes(4))
    for beyond in (len(whole) + 10, 2**32 - 1, len(whole) - 3):
        assert_refused(bytes(whole[:link]) + struct.pack("<I", beyond), "list of pages is damaged")


def test_absurd_lists_of_pages_cost_little() -> None:
    entries = struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<HHII", 257, 4, 1, 8)
    page = struct.pack("<H", 2) + entries
    size = len(page) + 4
    many = b"II*\0" + struct.pack("<I", 8)
    many += b"".join(page + struct.pack("<I", 8 + size * (n + 1)) for n in range(100_000)) + page + bytes(4)
    wide = b"II*\0" + struct.pack("<I", 8)
    wide += b"".join(
        struct.pack("<H", 65535) + bytes(12 * 65535) + struct.pack("<I", 8 + 786426 * n) for n in (1, 2, 3)
    )
    started = time.process_time()
    assert_refused(many, "more than 1000 pages")
    assert_refused(wide, "list of pages is damaged")
    assert_refused(dicom(np.zeros((1, 2), np.uint8), NumberOfFrames=2**31 - 1), "announces")
    assert_refused(tiff_of_large_lists(), "no picture")
    empty_items = with_items(jpeg_dicom(jpegs(1)), [b""] * 200_000)
    assert_refused(empty_items, "cannot be told apart")
    starts = jpegs(1)[0] + b"\xff\xd8\xff\xe0\0\x10JFIF" * 200_000
    assert_refused(starts, "cannot be told apart")
    assert_refused(png_of_chunks(300_000), "too many parts")
    # Each of a thousand beginnings reaches far, and is none.
    reaching = b"".join(b"\xff\xd8\xff\xe0" + struct.pack(">H", 20000 - 8 * n) + b"xx" for n in range(1, 1000))
    tile = b"\xff\x4f\xff\x51\0\x2f" + bytes(45) + b"\xff\x90\0\x0a" + bytes(8)  # of no stated length
    for rest in (bytes(20_000_000), b"\xff" * 20_000_000, b"\xff\xe0\0\2" * 1_000_000, tile * 100_000):
        read_header(jpegs(1)[0] + b"\xff\xd8" * (rest[:2] == b"\xff\xe0") + reaching * (rest[0] % 255 == 0) + rest)
    assert time.process_time() - started < 20


def tiff_of_large_lists() -> bytes:
    """A thousand masks, each of 100000 strips, and directories of metadata below each, of 60000 entries."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + 400_000 + 60_000 * 12))
    data += struct.pack("<I", 60_000) * 100_000 + struct.pack("<H", 60_000) * 6 * 60_000
    for number in range(1000):
        below = 8 + 12 * number
        entries = [(254, 4, 1, 4), (256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 100_000, 8), (279, 4, 100_000, 8)]
        entries += [(324, 4, 100_000, 8), (325, 4, 100_000, 8), (34665, 4, 1, below), (34853, 4, 1, below + 4)]
        data += struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        data += struct.pack("<I", (len(data) + 4) * (number < 999))
    return bytes(data)


def png_of_chunks(number: int) -> bytes:
    data = encoded(scene(8, 8), "PNG")
    chunk = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return data[:33] + chunk * number + data[33:]


def test_the_pixel_cap_holds_for_each_picture() -> None:
    data = bytearray(tiff([scene(8, 8, 1), scene(8, 8, 2)]))
    for tag in (256, 257):
        at = data.rindex(struct.pack("<HHII", tag, 4, 1, 8))
        data[at + 8 : at + 12] = struct.pack("<I", 60000)
    assert_same(read_image(bytes(data), frame=1).pixels, scene(8, 8, 1))
    for read in (read_header, read_image):
        with pytest.raises(DecompressionBomb, match="60000x60000") as raised:
            read(bytes(data), frame=2)
        assert raised.value.source.frame == 2


def test_a_page_as_large_as_the_picture_is_no_preview() -> None:
    """Whatever its subfile type says: a preview is smaller."""
    first, second = scene(seed=1), scene(seed=2)
    assert_holds(tiff([first], extras="large previews"), [first, first[::-1]])
    for size, pictures in (((96, 60), 2), ((60, 128), 2), ((90, 120), 2), ((48, 64), 1), ((72, 96), 1)):
        marked = [tiff_page(first), tiff_page(scene(*size, 2), 1)]
        assert read_header(tiff_of(marked)).pictures == pictures, size
        assert read_header(tiff_of(marked[::-1])).pictures == pictures, size
    old = tiff_of([tiff_page(first), tiff_page(second, 2, tag=255)])  # the subfile type of older files
    assert_holds(old, [first, second])


def test_a_mask_has_one_bit() -> None:
    first = scene(seed=1)
    assert_holds(tiff([first], extras="masks"), [first])
    assert_holds(tiff([first], extras="colour masks"), [first, first[::-1]])
    grey = scene(seed=2)[..., 0]
    assert_holds(tiff_of([tiff_page(first), tiff_page(grey, 4)]), [first, np.repeat(grey[..., None], 3, axis=2)])


def tiff_page(picture: np.ndarray, kind: int = 0, tag: int = 254) -> tuple[Image.Image, dict[int, int]]:
    return Image.fromarray(picture), {tag: kind}


def tiff_of(pages: list[tuple[Image.Image, dict[int, int]]]) -> bytes:
    file = io.BytesIO()
    with AppendingTiffWriter(file) as writer:
        for image, tags in pages:
            image.save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    return file.getvalue()


# ---- one file behind another ---------------------------------------------------------------------------------------

FIRST = {
    "JPEG": lambda: jpegs(1)[0],
    "PNG": lambda: encoded(scene(), "PNG"),
    "TIFF": lambda: encoded(scene(), "TIFF"),
    "TIFF, compressed": lambda: encoded(scene(), "TIFF", compression="jpeg"),
    "TIFF, many strips": lambda: encoded(scene(), "TIFF", compression="tiff_lzw", strip_size=300),
    "TIFF, no length": lambda: encoded(scene(), "TIFF").replace(
        struct.pack("<HHI", 279, 4, 1), b"\x17\xff\4\0\1\0\0\0"
    ),
    "TIFF, two pages": lambda: tiff([scene(seed=1), scene(seed=2)]),
    "BigTIFF": lambda: tiff([scene()], big=True),
    "BMP": lambda: encoded(scene(), "BMP"),
    "DICOM": lambda: dicom(scene()),
    "DICOM, deflated": lambda: dicom(scene(), DeflatedExplicitVRLittleEndian),
    "DICOM, compressed": lambda: jpeg_dicom(jpegs(1)),
}
SECOND = {
    "JPEG": lambda: jpegs(2)[0],
    "PNG": lambda: encoded(scene(seed=2), "PNG"),
    "TIFF": lambda: encoded(scene(seed=2), "TIFF"),
    "big-endian TIFF": lambda: tiff([scene(seed=2)], ">"),
    "BMP": lambda: encoded(scene(seed=2), "BMP"),
    "JPEG 2000": lambda: encoded(scene(seed=2), "JPEG2000"),
    "JPEG 2000 codestream": lambda: encoded(scene(seed=2), "JPEG2000", no_jp2=True),
    "DICOM": lambda: dicom(scene(seed=2)),
    "DICOM without a preamble": lambda: dicom(scene(seed=2))[132:],
    "DICOM data set": lambda: dicom(scene(seed=2), file_format=False),
}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST)
def test_a_picture_behind_the_end_of_another(first: str, second: str) -> None:
    """It is counted, or the file is refused: never passed over."""
    data = FIRST[first]()
    alone = read_header(data)
    assert alone.pictures == (2 if first == "TIFF, two pages" else 1)
    read_image(data)
    for padding in (b"", bytes(512), b"\xff" * 7, b"\r\n"):
        joined = data + padding + SECOND[second]()
        if first == second == "JPEG":
            assert read_header(joined).pictures == 2
        else:
            assert_refused(joined, "picture", "not analysed", "on its own" if "DICOM" in first else "xport each")


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize(
    "trailer",
    [
        bytes(1000), b"\xff" * 40, b"BMW, made by a scanner" + bytes(40), b"II, and MM, too" + bytes(40), b"\xff\xd9",
        b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1680000000000" + bytes(60) + b"SEFT", b"\x08\0\x10\0trailer" + bytes(40),
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(100), b"CANON OPTIONAL DATA\0" + b"II*\0" + bytes(40),
    ],
)  # fmt: skip
def test_a_trailer_that_is_no_picture(first: str, trailer: bytes) -> None:
    data = FIRST[first]()
    assert read_header(data + trailer).pictures == read_header(data).pictures
    assert_same(read_image(data + trailer).pixels, read_image(data).pixels)


def test_a_picture_behind_a_trailer() -> None:
    for first in ("PNG", "TIFF", "BMP"):
        assert_refused(FIRST[first]() + b"trailer" + jpegs(2)[0], "behind")
        assert_refused(
            FIRST[first]() + b"trailer" + encoded(scene(), "PNG"), "several pictures" if first == "PNG" else "behind"
        )
    first, second = jpegs(1, 2)
    assert_refused(first + b"trailer" + encoded(scene(), "PNG"), "behind")
    assert_refused(first + encoded(scene(), "PNG") + second, "behind")


def test_a_picture_behind_what_exif_refers_to() -> None:
    """Directories that hold no page belong to the file, too."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = jpegs(5)[0]  # a maker note may be anything
    file = io.BytesIO()
    Image.fromarray(scene()).save(file, "TIFF", exif=exif)
    assert_holds(file.getvalue(), [scene()])
    assert_refused(file.getvalue() + jpegs(2)[0], "behind")


def test_an_item_behind_the_delimiter() -> None:
    frames = [even(frame) for frame in jpegs(1, 2)]
    item = ITEM + struct.pack("<I", len(frames[1])) + frames[1]
    for announced in ({}, {"NumberOfFrames": 1}):
        data = jpeg_dicom(frames[:1], **announced)
        for gap in (b"", b"\0\0", DELIMITER):
            assert_refused(with_items(data, frames[:1], delimiter=DELIMITER + gap + item + DELIMITER), "told apart")
        assert_refused(with_items(data, frames[:1], delimiter=DELIMITER + item), "told apart")
        assert_refused(with_items(data, frames[:1], delimiter=b"\0\0" + item + DELIMITER), "told apart")
        again = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + ITEM + bytes(4) + item + DELIMITER
        assert_refused(with_items(data, frames[:1], delimiter=DELIMITER + again), "told apart")
    raw = dicom(scene())
    assert_refused(raw + b"\xe0\x7f\x10\0OB\0\0" + struct.pack("<I", scene().size) + scene().tobytes(), "told apart")
    signature = b"\xfa\xff\xfa\xffSQ\0\0\xff\xff\xff\xff" + ITEM + struct.pack("<I", 8) + bytes(8) + DELIMITER
    for data in (raw, jpeg_dicom(frames[:1])):
        assert_same(read_image(data + signature).pixels, read_image(data).pixels)


# ---- JPEG, PNG -----------------------------------------------------------------------------------------------------


def test_multi_picture_jpeg() -> None:
    pictures = [scene(seed=seed) for seed in (1, 2, 3)]
    file = io.BytesIO()
    first, *others = map(Image.fromarray, pictures)
    first.save(file, "MPO", save_all=True, append_images=others, quality=98, subsampling=0)  # its offsets are wrong
    assert_holds(file.getvalue(), [read_image(frame).pixels for frame in jpegs(1, 2, 3)])
    frames = [(0x020003, frame) for frame in jpegs(1, 2)]
    for order in "<>":
        assert_holds(multi_picture(frames, order), [read_image(frame).pixels for _, frame in frames])


def test_thumbnails_of_a_multi_picture_jpeg_are_no_pictures() -> None:
    frame, thumbnail = jpegs(1)[0], encoded(scene()[::2, ::2], "JPEG")
    for kind in (0x010001, 0x010002):
        for order in "<>":
            assert_holds(multi_picture([(0x030000, frame), (kind, thumbnail)], order), [read_image(frame).pixels])
    # Whoever cut the thumbnail off left the picture whole.
    kept = multi_picture([(0x030000, frame), (0x010001, thumbnail)])[: -len(thumbnail)]
    assert_holds(kept, [read_image(frame).pixels])


def test_a_multi_picture_jpeg_that_lost_a_picture() -> None:
    frames = [(0x020003, frame) for frame in jpegs(1, 2)]
    assert_refused(multi_picture(frames)[: -len(frames[1][1])], "announces 2 pictures")


@pytest.mark.parametrize("gap", [b"", bytes(64), b"\xff" * 3, b"Samsung trailer \xff\xda\xff\xd9"])
def test_one_jpeg_behind_another(gap: bytes) -> None:
    frames = jpegs(1, 2)
    assert_holds(gap.join(frames), [read_image(frame).pixels for frame in frames])


def test_several_pictures_in_one_png() -> None:
    file = io.BytesIO()
    Image.fromarray(scene()).save(
        file, "PNG", save_all=True, append_images=[Image.fromarray(scene(seed=1))], duration=100
    )
    assert_refused(file.getvalue(), "several pictures in one PNG")
    assert_refused(encoded(scene(), "PNG") * 2, "several pictures in one PNG")
    still = encoded(scene(), "PNG")
    control = b"acTL" + struct.pack(">II", 1, 0)  # an animation of one picture
    chunk = struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control))
    assert_holds(still[:33] + chunk + still[33:], [scene()])


# ---- the interface -------------------------------------------------------------------------------------------------


def test_pictures_are_counted_from_one() -> None:
    for read in (read_header, read_image):
        with pytest.raises(ValueError, match=r"`frame` must be at least 1. Received: 0"):
            read(encoded(scene(), "PNG"), frame=0)


def test_a_source_without_a_picture_has_no_size() -> None:
    source = read_header(tiff([scene(8, 8)], loops=True))
    with pytest.raises(UnreadableImage, match="no picture"):
        _ = source.size
    assert read_header(encoded(scene(), "PNG")).size == (128, 96)


def test_two_frames_of_a_trial(shared: Path) -> None:
    path = shared / "trials" / "multiframe_jpeg_neg_then_ref.dcm"
    first, second = (read_image(path, frame=number) for number in (1, 2))
    assert first.source.pictures == second.source.pictures == 2
    assert np.abs(first.pixels.astype(int) - second.pixels).mean() > 1
    for number, whole in ((1, first), (2, second)):
        half = read_image(path, frame=number, min_side=512).pixels
        assert np.abs(half.astype(int) - whole.pixels[::2, ::2]).mean() < 4
