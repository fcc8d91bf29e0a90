"""The pictures inside of a DICOM object's Pixel Data: how many, where each begins and ends, and its pixels.

What the bytes say by themselves is certain; Number of Frames, offset tables and even the transfer syntax are not. So
compressed pictures are found by their own start and end markers, uncompressed ones by their size. Where these leave a
doubt, the object is refused whole, never read in part.
"""

import io
import os
import signal
import struct
import subprocess
import sys
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from keras_realmnet.screening.arrays import HEADER_PARSING
from keras_realmnet.screening.image_io.formats import picture_behind
from keras_realmnet.screening.image_io.plain import INCOMPLETE, decode_jpeg, other_kind_between
from keras_realmnet.screening.image_io.source import RESEND, UnreadableImage
from keras_realmnet.screening.image_io.streams import Stream, TooManyStreams, find_streams, starts_stream

__all__ = ["PixelData"]

GDCM_SECONDS = 60  # 16 megapixels of JPEG lossless take about one

ITEM, ITEM_DELIMITER, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
PIXEL_DATA = (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")  # its tag, in both byte orders
UNDEFINED = 0xFFFFFFFF
# Each coding's transfer syntaxes; the last one stands for it where the object states another.
SYNTAXES = {
    "JPEG": (JPEGExtended12Bit, JPEGBaseline8Bit),
    "JPEG lossless": (JPEGLossless, JPEGLosslessSV1),
    "JPEG-LS": (JPEGLSNearLossless, JPEGLSLossless),
    "JPEG 2000": (JPEG2000Lossless, JPEG2000),
}
SAMPLES = {"RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3, "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}
# What a decoder needs beside the pixels.
DESCRIPTION = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
)
MAX_FRAGMENTS = 100_000
NOT_TOLD_APART = "the pictures in this file cannot be told apart with certainty: not analysed. Export each on its own"
TRUNCATED = f"the pictures are incomplete (truncated file): not analysed. {RESEND}"
DAMAGED = f"the picture's data are damaged. {RESEND}"


class _NotScreenable(Exception):
    """Why no picture is certain, in words for a person."""


class _Items(NamedTuple):
    """What the items of encapsulated Pixel Data hold.

    `offsets`: how many the offset table in the first item names. `missing`: by how many bytes the last item is longer
    than the file. `ended`: whether the sequence delimiter is there, so that nothing more was to follow. `behind`: what
    follows it or, without one, the last item.
    """

    fragments: list[bytes]
    offsets: int = 0
    missing: int = 0
    ended: bool = True
    behind: bytes = b""


class PixelData:
    """Pixel Data's value (as far as the file goes), its VR, its stated length, the header before it, the bytes behind.

    `count`: how many pictures there are; `problem`: why none can be screened, else empty. `rows`, `columns`: of each.
    """

    def __init__(self, header: pydicom.Dataset, value: bytes, vr: bytes, length: int, behind: bytes):
        self.count, self.problem, self.rows, self.columns = 0, "", 0, 0
        self._syntax = UID(header.file_meta.TransferSyntaxUID)
        self._value, self._vr, self._size = value, "OW" if vr == b"OW" else "OB", 0
        self._streams: list[Stream] = []
        self._rle: list[bytes] = []
        self._about = pydicom.Dataset()
        try:
            for keyword in DESCRIPTION:
                if header.get(keyword) is not None:
                    self._about[keyword] = header[keyword]
            self._find(length, _announced(header))
            if _pixels_follow(behind):
                raise _NotScreenable(NOT_TOLD_APART)
            self.rows, self.columns = int(self._about.Rows), int(self._about.Columns)
        except _NotScreenable as error:
            self.problem = str(error)
        except TooManyStreams:
            self.problem = NOT_TOLD_APART
        except MemoryError:
            raise
        except Exception:  # whatever pydicom stumbles upon
            self.problem = f"the header's description of the picture is damaged: not analysed. {RESEND}"

    def decodes_at_half_size(self, frame: int) -> bool:
        """A JPEG that libjpeg decodes by itself."""
        return bool(self._streams) and self._is_plain(self._streams[frame - 1])

    def decode(self, frame: int, half: bool) -> NDArray[np.uint8]:
        """RGB of one picture. pydicom turns YBR into RGB, OpenJPEG its own transforms, libjpeg its own: once each."""
        if self._streams:
            stream = self._streams[frame - 1]
            if not stream.whole:
                raise UnreadableImage(INCOMPLETE)
            self._check(stream)
            data = self._value[stream.start : stream.end]
            if self._is_plain(stream):
                pixels = decode_jpeg(data, stream.scan - stream.start, half)
                return 255 - pixels if self._photometric == "MONOCHROME1" else pixels
            syntax, photometric = self._actual_coding(stream)
            return self._to_rgb(self._single_picture(encapsulate([data]), syntax, photometric), stream)
        if self._rle:
            return self._to_rgb(
                self._single_picture(encapsulate([self._rle[frame - 1]]), RLELossless, self._photometric)
            )
        data = self._value[(frame - 1) * self._size : frame * self._size]
        if len(data) < self._size:
            raise UnreadableImage(INCOMPLETE)
        return self._to_rgb(self._single_picture(data + b"\0" * (len(data) % 2), self._syntax, self._photometric))

    # ---- finding -----------------------------------------------------------------------------------------------------

    @property
    def _photometric(self) -> str:
        return str(self._about.get("PhotometricInterpretation", "")).strip()

    def _default(self, **values: Any) -> None:
        """What the header leaves out but is certain otherwise."""
        for keyword, value in values.items():
            if keyword not in self._about:
                setattr(self._about, keyword, value)

    def _find(self, length: int, announced: int | None) -> None:
        native = not self._syntax.is_encapsulated and length != UNDEFINED
        if native:
            try:
                self._find_uncompressed(length, announced)
            except _NotScreenable:
                if not self._value.startswith(ITEM) and not starts_stream(self._value):
                    raise
                native = False  # compressed all the same
        if not native:
            self._find_compressed(announced)
        if announced is not None and self.count < announced:
            raise _NotScreenable(
                f"the file announces {announced} pictures, but holds {self.count}: not analysed, a part is missing. "
                f"{RESEND}"
            )

    def _find_uncompressed(self, length: int, announced: int | None) -> None:
        if "Rows" not in self._about or "Columns" not in self._about:
            raise _NotScreenable(f"the file does not say how large its picture is: not analysed. {RESEND}")
        if self._photometric not in SAMPLES:
            raise _NotScreenable(f"the file does not say how its colours are coded: not analysed. {RESEND}")
        self._default(SamplesPerPixel=SAMPLES[self._photometric])
        if "BitsStored" not in self._about and "HighBit" in self._about:
            self._default(BitsStored=self._about.HighBit + 1)
        if self._about.BitsAllocated == 8:
            self._default(BitsStored=8, PixelRepresentation=0)
        self._default(HighBit=self._about.BitsStored - 1)
        bits = self._about.Rows * self._about.Columns * self._about.SamplesPerPixel * self._about.BitsAllocated
        whole = -(-bits // 8)
        size = whole * 2 // 3 if self._photometric == "YBR_FULL_422" else whole  # Y Y Cb Cr for two pixels
        if size < 1 or (bits % 8 and announced not in (None, 1)):
            raise _NotScreenable(NOT_TOLD_APART)
        swapped = self._syntax == ExplicitVRBigEndian and self._vr == "OW" and self._about.BitsAllocated == 8
        if swapped and len(self._value) % 2 == 0:
            self._value, self._vr = np.frombuffer(self._value, np.uint16).byteswap().tobytes(), "OB"
        available = len(self._value)
        self._size, self.count = size, max(available // size, 1)
        if available < size:  # a part of one picture, which is told when it is read
            if self._value.startswith(ITEM) or starts_stream(self._value):
                raise _NotScreenable(TRUNCATED)
            return
        if length - available > 1:
            raise _NotScreenable(TRUNCATED)
        if self._value[self.count * size :].strip(b"\0"):
            raise _NotScreenable(f"the file holds more data than its pictures fill: not analysed. {RESEND}")
        if size != whole and self.count != announced and available // whole * whole + 1 >= available:
            raise _NotScreenable(NOT_TOLD_APART)  # so many pictures of reduced colour, or fewer of full colour
        if self._about.SamplesPerPixel == 3 and "PlanarConfiguration" not in self._about:
            if not _is_interleaved(self._value[:size]):
                raise _NotScreenable(f"the file does not say in which order its colours come: not analysed. {RESEND}")
            self._default(PlanarConfiguration=0)

    def _find_compressed(self, announced: int | None) -> None:
        items = _items(self._value) if self._value.startswith(ITEM) else _Items([self._value])
        fragments = items.fragments
        if _pixels_follow(items.behind):
            raise _NotScreenable(NOT_TOLD_APART)
        if not any(fragments):
            raise _NotScreenable(f"the picture's data are missing in this DICOM object: not analysed. {RESEND}")
        self._default(PixelRepresentation=0, PlanarConfiguration=0)
        if starts_stream(b"".join(fragment[:12] for fragment in fragments[:12])):  # the first may hold two bytes
            self._find_streams(fragments)
        else:
            self._find_rle(items)
        confirmed = items.ended or (announced is not None and announced >= self.count)
        if not confirmed and max(self.count, items.offsets) > 1:
            raise _NotScreenable(NOT_TOLD_APART)  # more may have followed
        if items.missing > 1 and announced != self.count:  # one byte may be padding
            raise _NotScreenable(TRUNCATED)

    def _find_streams(self, fragments: list[bytes]) -> None:
        self._value = fragments[0] if len(fragments) == 1 else b"".join(fragments)
        self._streams = find_streams(self._value)
        starts, at = {stream.start for stream in self._streams}, 0
        if 0 not in starts:
            raise _NotScreenable(DAMAGED)
        for fragment in fragments:
            if starts_stream(fragment) and at not in starts:
                raise _NotScreenable(NOT_TOLD_APART)
            at += len(fragment)
        if other_kind_between(self._value, self._streams):
            raise _NotScreenable(NOT_TOLD_APART)
        self.count = len(self._streams)
        first = self._streams[0]
        self._default(
            Rows=first.height,
            Columns=first.width,
            SamplesPerPixel=first.samples,
            BitsAllocated=8 if first.bits <= 8 else 16,
            BitsStored=first.bits,
        )
        self._default(HighBit=self._about.BitsStored - 1)
        if not self._photometric:
            if first.samples == 1:
                self._about.PhotometricInterpretation = "MONOCHROME2"
            elif first.coding == "JPEG":
                self._about.PhotometricInterpretation = "YBR_FULL_422"  # libjpeg knows by the stream's own markers
            elif first.transformed:
                self._about.PhotometricInterpretation = "YBR_RCT"
            else:
                raise _NotScreenable(f"the file does not say how its colours are coded: not analysed. {RESEND}")

    def _find_rle(self, items: _Items) -> None:
        """One fragment is one picture (PS3.5 A.4.2)."""
        fragments = items.fragments
        if not all(map(_starts_rle, fragments)):
            if any(map(_starts_rle, fragments)) or self._syntax == RLELossless:
                raise _NotScreenable(NOT_TOLD_APART)
            raise _NotScreenable(
                "the pictures are compressed in a way that cannot be read here, or damaged: not analysed. "
                "Export them as JPEG or uncompressed"
            )
        if items.missing:
            raise _NotScreenable(TRUNCATED)
        if self._photometric not in SAMPLES:
            raise _NotScreenable(f"the file does not say how its colours are coded: not analysed. {RESEND}")
        if any(map(_holds_another_rle, fragments)):
            raise _NotScreenable(NOT_TOLD_APART)
        self._default(SamplesPerPixel=SAMPLES[self._photometric])
        planes = int.from_bytes(fragments[0][:4], "little")
        self._default(BitsAllocated=8 * planes // self._about.SamplesPerPixel)
        if self._about.BitsAllocated == 8:
            self._default(BitsStored=8)
        self._default(HighBit=self._about.BitsStored - 1)
        self._rle, self.count = fragments, len(fragments)

    # ---- decoding ----------------------------------------------------------------------------------------------------

    def _is_plain(self, stream: Stream) -> bool:
        """Not RGB without a colour transform, which libjpeg cannot know, nor what still needs a palette."""
        if stream.coding != "JPEG" or stream.bits != 8:
            return False
        return self._photometric not in ("RGB", "PALETTE COLOR") or self._states_its_colours(stream)

    def _states_its_colours(self, stream: Stream) -> bool:
        """A JPEG under another coding's transfer syntax: the header's colours are that one's, its own are marked."""
        head = self._value[stream.start : stream.scan]
        own = b"JFIF\0" in head or b"Adobe" in head
        return self._syntax not in SYNTAXES["JPEG"] and self._photometric == "RGB" and own

    def _actual_coding(self, stream: Stream) -> tuple[UID, str]:
        """The transfer syntax by what the stream is, and the photometric interpretation of what its decoder gives."""
        syntaxes, photometric = SYNTAXES[stream.coding], self._photometric
        if stream.coding == "JPEG":
            syntax = JPEGBaseline8Bit if stream.bits == 8 else JPEGExtended12Bit
        else:
            syntax = self._syntax if self._syntax in syntaxes else syntaxes[-1]
        if stream.transformed and stream.samples == 3:
            return syntax, "YBR_RCT"  # decoded, it is RGB
        if self._syntax not in syntaxes and (photometric.startswith("YBR") or stream.coding == "JPEG"):
            raise UnreadableImage(f"the header and the picture name different colour codings. {RESEND}")
        return syntax, photometric

    def _check(self, stream: Stream) -> None:
        """A compressed picture must announce what the header does: the size cap was checked on that one."""
        about = self._about
        stored, allocated = int(about.BitsStored), int(about.BitsAllocated)
        announced = (int(about.Columns), int(about.Rows), int(about.SamplesPerPixel))
        if (stream.width, stream.height, stream.samples) != announced or not stored <= stream.bits <= allocated:
            raise UnreadableImage(
                f"the picture is {stream.width}x{stream.height} pixels of {stream.samples} x {stream.bits} bits, but "
                f"the header announces {announced[0]}x{announced[1]} pixels of {announced[2]} x {stored} bits. {RESEND}"
            )

    def _single_picture(self, value: bytes, syntax: UID, photometric: str) -> pydicom.Dataset:
        """One picture as an object of its own."""
        single = pydicom.Dataset()
        single.update(self._about)
        single.PhotometricInterpretation = photometric
        single.NumberOfFrames = 1
        single.add_new("PixelData", "OB" if syntax.is_encapsulated else self._vr, value)
        single.file_meta = FileMetaDataset()
        single.file_meta.TransferSyntaxUID = syntax
        return single

    def _to_rgb(self, single: pydicom.Dataset, stream: Stream | None = None) -> NDArray[np.uint8]:
        photometric, bits = str(single.PhotometricInterpretation), int(single.BitsStored)
        values: NDArray[Any]
        if stream is None:
            values = np.asarray(pixel_array(single, index=0))
        elif stream.coding in ("JPEG", "JPEG 2000") and bits <= 8 and stream.bits <= 8:
            values = np.asarray(pixel_array(single, index=0, decoding_plugin="pillow"))
        else:  # JPEG-LS, JPEG lossless, more than 8 bits
            values = _decode_apart(single)
        if photometric == "PALETTE COLOR":
            bits = int(single.RedPaletteColorLookupTableDescriptor[2])
            values = apply_color_lut(values, single)
        elif single.PixelRepresentation == 1:  # signed
            values = values.astype(np.int64) + (1 << (bits - 1))
        if bits > 8:
            values = values >> (bits - 8)
        elif bits < 8:
            values = values.astype(np.uint16) * 255 // ((1 << bits) - 1)
        pixels = np.clip(values, 0, 255).astype(np.uint8)
        if photometric == "MONOCHROME1":  # 0 is white
            pixels = 255 - pixels
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _announced(header: pydicom.Dataset) -> int | None:
    """Number of Frames; None where there is none."""
    try:
        return int(header.NumberOfFrames) or None
    except Exception:  # absent, empty, no number
        return None


def _items(value: bytes) -> _Items:
    """Neither the sequence delimiter nor even lengths are relied upon."""
    items: list[bytes] = []
    at = 0
    while value[at : at + 4] == ITEM:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        start = at + 8
        if length == UNDEFINED:  # against the standard: up to the next delimiter, whichever
            end = len(value)
            for tag in (ITEM_DELIMITER, DELIMITER):
                found = value.find(tag + bytes(4), start, end)
                end = found if found >= 0 else end
            length = end - start
        at = start + length
        items.append(value[start:at])
        if length % 2 and value[at + 1 : at + 5] in (ITEM, DELIMITER):
            at += 1
        if value[at : at + 4] == ITEM_DELIMITER:
            at += 8
        if len(items) > MAX_FRAGMENTS:
            raise _NotScreenable(NOT_TOLD_APART)
    table = items.pop(0) if not _starts_picture(items[0]) else b""
    if at < len(value) < at + 8 and ITEM.startswith(value[at : at + 4]):  # one more was begun
        at += 8
    fragments = [item for item in items if item]
    ended = value[at : at + 4] == DELIMITER
    return _Items(fragments, len(table) // 4, max(at - len(value), 0), ended, value[at + 8 * ended :])


def _pixels_follow(behind: bytes) -> bool:
    """Whether what follows Pixel Data's end holds another item of it, another Pixel Data, or another picture."""
    while (rest := behind.lstrip(b"\0")).startswith(DELIMITER):
        behind = rest[8:]
    return rest.startswith((ITEM, *PIXEL_DATA)) or picture_behind(behind, 0)


def _starts_picture(fragment: bytes) -> bool:
    return starts_stream(fragment) or _starts_rle(fragment)


def _starts_rle(fragment: bytes, at: int = 0) -> bool:
    """Whether it begins with an RLE header: the number of segments and where each begins (PS3.5 G.5)."""
    numbers = struct.unpack("<16I", fragment[at : at + 64].ljust(64, b"\0"))
    count, offsets = numbers[0], numbers[1:]
    used = offsets[:count]
    return (
        len(fragment) > at + 64
        and 1 <= count <= 15
        and used[0] == 64
        and all(first < second for first, second in pairwise(used))
        and at + used[-1] < len(fragment)
        and not any(offsets[count:])
    )


def _holds_another_rle(fragment: bytes) -> bool:
    """Whether a second header of as many segments follows the first picture in the same fragment."""
    start = fragment[:4] + (64).to_bytes(4, "little")
    at = fragment.find(start, 64)
    while at >= 0 and not _starts_rle(fragment, at):
        at = fragment.find(start, at + 1)
    return at >= 0


def _is_interleaved(value: bytes) -> bool:
    """Whether samples resemble the third next (the same colour of the next pixel) far more than the next."""
    samples = np.frombuffer(value, np.uint8).astype(np.int16)
    next_one, next_pixel = (float(np.abs(samples[n:] - samples[:-n]).mean()) for n in (1, 3))
    return next_pixel < next_one / 2


def _decode_apart(single: pydicom.Dataset) -> NDArray[Any]:
    """The picture's values, decoded by gdcm in a process of its own: damaged data crash that library."""
    code = "from keras_realmnet.screening.image_io.dicom_pixels import _decode_with_gdcm; _decode_with_gdcm()"
    file = io.BytesIO()
    single.save_as(file, enforce_file_format=False)
    try:
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            input=file.getvalue(),
            capture_output=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=GDCM_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableImage(f"decoding took more than {GDCM_SECONDS} s and was stopped. {RESEND}") from error
    if child.returncode == -signal.SIGKILL or b"MemoryError" in child.stderr:  # the machine's fault
        raise MemoryError("no memory left for decoding a picture")
    if child.returncode != 0:
        raise UnreadableImage(DAMAGED)
    with HEADER_PARSING:
        return np.asarray(np.load(io.BytesIO(child.stdout), allow_pickle=False))


def _decode_with_gdcm() -> None:
    """The child of `_decode_apart`: a DICOM object on stdin, its values as .npy on stdout."""
    values = pixel_array(pydicom.dcmread(io.BytesIO(sys.stdin.buffer.read()), force=True), decoding_plugin="gdcm")
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    sys.stdout.buffer.write(file.getvalue())
