"""Proof: of a file that holds several pictures each comes back by its number, or the file is refused whole.

    python -m tests.proofs.files.frames --count 2000

Each file holds 1 to 20 pictures, each of its own colours: DICOM (compressed in JPEG, JPEG 2000 and RLE, with offset
tables that are right, absent or wrong; uncompressed; Number of Frames right, absent or wrong; pictures split over
fragments or joined in one; delimiters missing, items behind them), TIFF and BigTIFF (with previews, masks, SubIFDs, and
pictures that are marked as such), JPEG (MPO, with and without thumbnails; one stream behind another), files of two
formats joined in one. Each is read whole, then once more cut off somewhere.
"""

import argparse
import io
import json
import struct
import sys
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import convert_color_space
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from keras_realmnet.screening.image_io import MAX_PICTURES, UnreadableImage, read_header, read_image

ITEM = b"\xfe\xff\x00\xe0"
LOSSY = 4.0  # mean difference that JPEG may make; different pictures differ by more than 20
Pictures = list[np.ndarray]


@dataclass
class File:
    """`data` holds `pictures`; `refused`: it must be refused whole; `cuts_show`: what is missing of it shows."""

    shape: str
    data: bytes
    pictures: Pictures
    refused: bool = False
    lossless: bool = True
    cuts_show: bool = True


def make(number: int) -> File:
    """File `number`: always the same."""
    rng = np.random.default_rng(number)
    count = int(rng.choice([1, 2, 3, 4, 5, 16, 17, 20], p=[0.15, 0.25, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]))
    size = int(rng.integers(17, 40)), int(rng.integers(17, 40)) * 2  # an even width, for YBR_FULL_422
    pictures = [_picture(rng, *size) for _ in range(count)]
    maker = (_compressed, _compressed, _uncompressed, _tiff, _jpeg, _joined)[number % 6]
    file = maker(rng, pictures)
    file.refused |= count > MAX_PICTURES
    return file


def _picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Four colours in the corners, and smooth between them."""
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3)).astype(np.uint8))
    return np.asarray(corners.resize((width, height), Image.Resampling.BILINEAR))


def _encoded(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


# ---- DICOM ---------------------------------------------------------------------------------------------------------


def _header(picture: np.ndarray, syntax: str, **elements: Any) -> pydicom.Dataset:
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.3"
    header.Rows, header.Columns = picture.shape[:2]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    return header


def _number_of_frames(rng: np.random.Generator, count: int, header: pydicom.Dataset) -> str:
    """Right, absent, too small or too large."""
    said = str(rng.choice(["right", "absent", "small", "large"], p=[0.5, 0.25, 0.15, 0.1]))
    if said == "right":
        header.NumberOfFrames = count
    elif said == "small" and count > 1:
        header.NumberOfFrames = int(rng.integers(1, count))
    elif said == "large":
        header.NumberOfFrames = count + int(rng.choice([1, 3, 2_000_000_000]))
    return said


def _saved(header: pydicom.Dataset) -> bytes:
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _compressed(rng: np.random.Generator, pictures: Pictures) -> File:
    coding = str(rng.choice(["JPEG", "JPEG 2000", "RLE"]))
    header = _header(pictures[0], {"JPEG": JPEGBaseline8Bit, "RLE": RLELossless}.get(coding, JPEG2000Lossless))
    if coding == "JPEG":
        header.PhotometricInterpretation = "YBR_FULL_422"
        frames = [_encoded(picture, "JPEG", quality=97, subsampling=0) for picture in pictures]
        if rng.random() < 0.3:  # with a thumbnail, which is no picture
            thumbnail = b"Exif\0\0" + frames[0][:1000] + frames[0][-2:]
            frames = [f[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + f[2:] for f in frames]
    elif coding == "JPEG 2000":
        mct = int(rng.integers(0, 2))
        header.PhotometricInterpretation = "YBR_RCT" if mct else "RGB"
        frames = [_encoded(picture, "JPEG2000", no_jp2=True, mct=mct) for picture in pictures]
    else:
        about = {"rows": header.Rows, "columns": header.Columns, "samples_per_pixel": 3, "bits_allocated": 8}
        about |= {"bits_stored": 8, "pixel_representation": 0, "photometric_interpretation": "RGB"}
        about |= {"number_of_frames": 1, "planar_configuration": 0}
        frames = [RLELosslessEncoder.encode(picture.tobytes(), **about) for picture in pictures]
    said = _number_of_frames(rng, len(pictures), header)

    layout = str(rng.choice(["one each", "split", "joined"], p=[0.6, 0.25, 0.15]))
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    if layout == "one each":
        fragments = frames if rng.random() < 0.2 else padded  # also of odd length, against the standard
    elif layout == "split":
        fragments = []
        for frame in padded:
            middle = sorted(2 * int(cut) for cut in rng.integers(1, len(frame) // 2, rng.integers(1, 4)))
            middle = [cut for cut in middle if frame[cut : cut + 3] != b"\xff\xd8\xff"]  # where a thumbnail begins
            fragments += [frame[a:b] for a, b in pairwise([0, *middle, len(frame)]) if a < b]
    else:
        fragments = [b"".join(padded)]
    ends = np.cumsum([0, *(8 + len(fragment) for fragment in fragments)])[: len(frames)]
    table = {
        "right": struct.pack(f"<{len(ends)}I", *ends),
        "empty": b"",
        "wrong": rng.bytes(4 * int(rng.integers(1, 6))),
    }[str(rng.choice(["right", "empty", "wrong"]))]
    delimited = rng.random() < 0.8
    trailer = rng.random() < 0.15
    if trailer:
        fragments[-1] += b"trailer \xff\xda\xff\xd9" if coding != "RLE" else b"\0\0"
    items = b"".join(ITEM + struct.pack("<I", len(item)) + item for item in (table, *fragments))
    items += (b"\xfe\xff\xdd\xe0" + bytes(4)) * delimited
    behind = delimited and rng.random() < 0.1
    if behind:
        items += ITEM + struct.pack("<I", len(padded[0])) + padded[0] + b"\xfe\xff\xdd\xe0" + bytes(4)
    data = _saved(header) + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + items
    alone = len(pictures) == 1
    refused = said == "large" or (coding == "RLE" and layout != "one each" and not (alone and layout == "joined"))
    confirmed = delimited or said == "right"
    refused |= not confirmed and max(len(pictures), len(table) // 4) > 1  # more may have followed
    refused |= behind
    shape = f"DICOM {coding}, {layout}" + ", one behind the delimiter" * behind
    return File(shape, data, pictures, refused, coding != "JPEG", said == "right" or delimited)


def _uncompressed(rng: np.random.Generator, pictures: Pictures) -> File:
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    syntax = syntaxes[int(rng.integers(0, 4))]
    colour = str(rng.choice(["RGB", "planar", "YBR_FULL_422", "grey", "deep grey"]))
    header = _header(pictures[0], syntax)
    if colour == "planar":
        header.PlanarConfiguration = 1
        raw = b"".join(picture.transpose(2, 0, 1).tobytes() for picture in pictures)
    elif colour == "YBR_FULL_422":
        header.PhotometricInterpretation = colour
        raw = b""
        for picture in pictures:
            pairs = convert_color_space(picture, "RGB", "YBR_FULL").reshape(-1, 2, 3).astype(int)
            packed = np.concatenate([pairs[..., 0], pairs[..., 1:].mean(axis=1).round()], axis=1)
            raw += packed.astype(np.uint8).tobytes()
    elif colour in ("grey", "deep grey"):
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        cropped = [picture[:, 1:, 0] for picture in pictures]  # of odd size, too
        header.Columns = cropped[0].shape[1]
        pictures = [np.repeat(grey[..., None], 3, axis=2) for grey in cropped]
        kind = np.dtype(np.uint8)
        if colour == "deep grey":
            header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
            kind = np.dtype(">u2" if syntax == ExplicitVRBigEndian else "<u2")
        raw = b"".join((grey.astype(np.uint16) << (8 * kind.itemsize - 8)).astype(kind).tobytes() for grey in cropped)
    else:
        raw = b"".join(picture.tobytes() for picture in pictures)
    said = _number_of_frames(rng, len(pictures), header)
    header.PixelData = raw + b"\0" * (len(raw) % 2)
    header["PixelData"].VR = "OW" if colour == "deep grey" or syntax == ImplicitVRLittleEndian else "OB"
    # So many pictures of reduced colour might as well be fewer of full colour.
    refused = said == "large" or (colour == "YBR_FULL_422" and len(pictures) % 3 == 0 and said != "right")
    return File(f"DICOM {colour}", _saved(header), pictures, refused, colour != "YBR_FULL_422")


# ---- TIFF ----------------------------------------------------------------------------------------------------------


def _tiff(rng: np.random.Generator, pictures: Pictures) -> File:
    if rng.random() < 0.3:
        compression = str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate"]))
        first, *others = map(Image.fromarray, pictures)
        file = io.BytesIO()
        big = bool(rng.integers(0, 2))
        first.save(file, "TIFF", save_all=True, append_images=others, compression=compression, big_tiff=big)
        return File(f"TIFF {compression}", file.getvalue(), pictures)
    order, big = str(rng.choice(["<", ">"])), bool(rng.integers(0, 2))
    extras = str(rng.choice(["none", "previews", "SubIFDs", "masks", "large previews", "colour masks"]))
    loops = rng.random() < 0.1
    data = tiff(pictures, order, big, extras, deflated=bool(rng.integers(0, 2)), loops=loops)
    refused = loops or (big and order == ">")
    if extras in ("large previews", "colour masks"):
        pictures = [page for picture in pictures for page in (picture, picture[::-1])]
        refused |= len(pictures) > MAX_PICTURES
    return File(f"TIFF by hand, {extras}", data, pictures, refused)


def tiff(
    pictures: Pictures,
    order: str = "<",
    big: bool = False,
    extras: str = "none",
    deflated: bool = False,
    loops: bool = False,
) -> bytes:
    """A TIFF of these pictures, one strip each; `extras`: what stands beside each picture without being one.

    "large previews" and "colour masks" are pictures, upside down, that their subfile type alone calls something else.
    """
    offset, count = ("Q", "Q") if big else ("I", "H")
    mark = b"II" if order == "<" else b"MM"
    data = bytearray(mark + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0))))
    link = len(data) - struct.calcsize(offset)  # where the next directory's offset is to be written

    def write(picture: np.ndarray, *tags: tuple[int, int, int]) -> tuple[int, int]:
        """The picture and its directory; where the directory is, and where its successor's offset stands."""
        samples, depth_bits = 1 if picture.ndim == 2 else 3, 1 if picture.dtype == bool else 8
        raw = (np.packbits(picture, axis=1) if picture.dtype == bool else picture).tobytes()
        strip = zlib.compress(raw) if deflated else raw
        at = len(data)
        data.extend(strip + b"\0" * (len(strip) % 2))
        bits = len(data)
        data.extend(struct.pack(order + "3H2x", 8, 8, 8))
        wide, long = struct.calcsize(offset), 16 if big else 4
        depth = struct.pack(order + f"{samples}H", *[depth_bits] * samples)
        entries = {
            256: (4, 1, picture.shape[1]), 257: (4, 1, picture.shape[0]), 259: (3, 1, 8 if deflated else 1),
            258: (3, samples, depth if len(depth) <= wide else bits), 262: (3, 1, 2 if samples == 3 else 1),
            273: (long, 1, at), 277: (3, 1, samples), 278: (4, 1, picture.shape[0]), 279: (long, 1, len(strip)),
            **{tag: (kind, 1, value) for tag, kind, value in tags},
        }  # fmt: skip
        here = len(data)
        data.extend(struct.pack(order + count, len(entries)))
        for tag, (kind, number, value) in sorted(entries.items()):
            if not isinstance(value, bytes):
                inline = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}[kind] if number == 1 else offset
                value = struct.pack(order + inline, value)
            data.extend(struct.pack(order + "HH" + offset, tag, kind, number) + value.ljust(wide, b"\0"))
        data.extend(bytes(wide))
        return here, len(data) - wide

    first = 0
    for picture in pictures:
        tags: list[tuple[int, int, int]] = []
        if extras == "SubIFDs":
            child, _ = write(picture[::2, ::2].copy(), (254, 4, 1))
            tags = [(330, 18 if big else 13, child)]
        pages = [write(picture, *tags)]
        if extras == "previews":
            pages.insert(int(picture[0, 0, 0]) % 2, write(picture[::2, ::2].copy(), (254, 4, 1)))
        elif extras == "masks":
            pages.append(write(picture[..., 0] > 128, (254, 4, 4), (262, 3, 4)))
        elif extras == "large previews":
            pages.append(write(picture[::-1].copy(), (254, 4, 1)))
        elif extras == "colour masks":
            pages.append(write(picture[::-1].copy(), (254, 4, 4)))
        for here, following in pages:
            struct.pack_into(order + offset, data, link, here)
            first, link = first or here, following
    if loops:
        struct.pack_into(order + offset, data, link, first)
    return bytes(data)


# ---- JPEG ----------------------------------------------------------------------------------------------------------


def _jpeg(rng: np.random.Generator, pictures: Pictures) -> File:
    frames = [_encoded(picture, "JPEG", quality=97, subsampling=0) for picture in pictures]
    shape = str(rng.choice(["MPO by Pillow", "MPO", "MPO with thumbnails", "MPO, one missing", "behind one another"]))
    if shape == "MPO by Pillow" and len(pictures) > 1:
        first, *others = map(Image.fromarray, pictures)
        file = io.BytesIO()
        first.save(file, "MPO", save_all=True, append_images=others, quality=97, subsampling=0)
        return File(shape, file.getvalue(), pictures, lossless=False)
    trailer = b"trailer \xff\xda" + rng.bytes(64).replace(b"\xff\xd8", b"") if rng.random() < 0.4 else b""
    if shape == "behind one another" or len(pictures) == 1:
        gap = bytes(int(rng.integers(0, 3)) * 16)
        return File("JPEGs", gap.join(frames) + trailer, pictures, lossless=False, cuts_show=False)
    streams = [(0x020003, frame) for frame in frames]
    if shape == "MPO with thumbnails":
        small = _encoded(pictures[0][::2, ::2], "JPEG")
        streams.insert(int(rng.integers(1, len(streams) + 1)), (0x010001, small))
    missing = shape == "MPO, one missing"
    data = multi_picture(streams, order=str(rng.choice(["<", ">"])))
    if missing:
        data = data[: -len(frames[-1])]
    return File(shape, data + trailer, pictures, refused=missing, lossless=False)


def multi_picture(streams: list[tuple[int, bytes]], order: str = "<") -> bytes:
    """JPEG streams, each with its type code, behind one another; the first names them all in an MP index."""
    size = 4 + 4 + 8 + 2 + 12 + 4 + 16 * len(streams)  # marker and length, "MPF", header, directory, entries
    table = b"II*\0" + struct.pack("<I", 8) if order == "<" else b"MM\0*" + struct.pack(">I", 8)
    table += struct.pack(order + "HHHIII", 1, 0xB002, 7, 16 * len(streams), 26, 0)
    at = 0
    for number, (kind, stream) in enumerate(streams):
        length = len(stream) + (size if number == 0 else 0)
        table += struct.pack(order + "IIIHH", kind, length, at - (2 + 8) if number else 0, 0, 0)
        at += length
    first = streams[0][1]
    index = b"\xff\xe2" + struct.pack(">H", size - 2) + b"MPF\0" + table
    return first[:2] + index + first[2:] + b"".join(stream for _, stream in streams[1:])


# ---- one file behind another -------------------------------------------------------------------------------------


def _joined(rng: np.random.Generator, pictures: Pictures) -> File:
    """A second picture behind the end of the first, in any format; two JPEGs are `_jpeg`'s."""
    formats = ["JPEG", "PNG", "TIFF", "BMP", "JPEG2000", "DICOM"]
    first = str(rng.choice([name for name in formats if name != "JPEG2000"]))  # which is read inside of DICOM only
    second = str(rng.choice([name for name in formats if (first, name) != ("JPEG", "JPEG")]))
    pictures = [pictures[0], pictures[-1]]
    parts = []
    for kind, picture in zip((first, second), pictures, strict=True):
        if kind == "DICOM":
            header = _header(picture, ExplicitVRLittleEndian)
            header.PixelData = picture.tobytes()
            header["PixelData"].VR = "OB"
            parts.append(_saved(header))
        elif kind == "TIFF":
            options = {"order": str(rng.choice(["<", ">"])), "extras": str(rng.choice(["none", "masks", "SubIFDs"]))}
            parts.append(tiff([picture], **options, deflated=bool(rng.integers(0, 2))))
        else:
            parts.append(_encoded(picture, kind))
    padding = (b"", bytes(int(rng.integers(1, 600))), b"\xff" * 16, b"\r\n")[int(rng.integers(0, 4))]
    return File(f"{first} + {second}", padding.join(parts), pictures, refused=True, lossless=False, cuts_show=False)


# ---- checking ------------------------------------------------------------------------------------------------------


def check(file: File) -> str | None:
    """What does not hold of a file that is whole."""
    try:
        found = read_header(file.data).pictures
    except UnreadableImage as error:
        return f"no header: {error}"
    if found != (0 if file.refused else len(file.pictures)):
        return f"{found} pictures found, {len(file.pictures)} are there, to be refused: {file.refused}"
    for number in range(1, len(file.pictures) + 2):
        outcome = _outcome(file, file.data, number)
        expected = "refused" if file.refused or number > len(file.pictures) else "right"
        if outcome != expected:
            return f"picture {number} of {len(file.pictures)}: {outcome}, but {expected} was expected"
    return None


def check_cut(file: File, kept: int) -> str | None:
    """What does not hold of the file's first bytes: what is missing must be told."""
    data = file.data[:kept]
    try:
        found = read_header(data).pictures
    except UnreadableImage:
        return None
    outcomes = [_outcome(file, data, number) for number in range(1, found + 1)]
    if "wrong" in outcomes or found > len(file.pictures):
        return f"cut to {kept} bytes: {outcomes}"
    if file.data[kept : kept + 4] == ITEM:  # between two items nothing shows, where nothing states how many
        return None
    if found and file.cuts_show and found < len(file.pictures) and "refused" not in outcomes:
        return f"cut to {kept} bytes: {found} of {len(file.pictures)} pictures without a word"
    return None


def _outcome(file: File, data: bytes, number: int) -> str:
    try:
        loaded = read_image(data, frame=number)
    except UnreadableImage:
        return "refused"
    if number > len(file.pictures) or loaded.pixels.shape != file.pictures[number - 1].shape:
        return "wrong"
    difference = np.abs(loaded.pixels.astype(int) - file.pictures[number - 1])
    same = loaded.source.frame == number and difference.mean() <= (0 if file.lossless else LOSSY)
    return "right" if same else "wrong"


def run(count: int, first: int = 0) -> dict[str, Any]:
    """Checks `count` files; returns how many there were of each shape, their pictures and what went wrong."""
    shapes: Counter[str] = Counter()
    pictures, refused, faults = 0, 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(first, first + count):
            file = make(number)
            shapes[file.shape] += 1
            pictures, refused = pictures + len(file.pictures), refused + file.refused
            kept = int(np.random.default_rng([number, 1]).integers(1, len(file.data)))
            for fault in (check(file), check_cut(file, kept)):
                if fault:
                    faults.append(f"file {number} ({file.shape}): {fault}")
                    print(faults[-1], file=sys.stderr)
    shapes = Counter(dict(sorted(shapes.items())))
    return {"files": count, "pictures": pictures, "refused whole": refused, "shapes": dict(shapes), "faults": faults}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    found = run(parser.parse_args().count)
    print(json.dumps(found, indent=2))
    return bool(found["faults"])


if __name__ == "__main__":
    sys.exit(main())
