"""The pages of a TIFF or BigTIFF file that are pictures of their own (TIFF 6.0; TIFF Technical Note 1: SubIFDs)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io.source import RESEND

__all__ = ["find_pages", "single_page"]

MAX_PAGES = 1000  # looked at, with previews and masks
MAX_ENTRIES = 100_000  # of all pages together
MAX_PARTS = 100_000  # strips or tiles of one page
SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUB_IFDS = 254, 255, 256, 257, 262, 330
BITS, COMPRESSION, SAMPLES = 258, 259, 277
# Where a strip, a tile, or a JPEG of old begins, and its length.
PARTS = ((273, 279), (324, 325), (513, 514))
OTHER_DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability: they hold no pages
SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # SHORT, LONG, IFD, LONG8, IFD8
ALL_SIZES = {**SIZES, 1: 1, 2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}  # text, fractions, floats
MASK = 4  # as photometric interpretation, and as bit of the subfile type
REDUCED = 1


class _Layout(NamedTuple):
    """Sizes in bytes of a file's numbers: of entries in a directory, of an entry, of an offset."""

    order: Literal["little", "big"]
    of_count: int
    of_entry: int
    of_offset: int

    @classmethod
    def of(cls, data: bytes) -> "_Layout":
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        return cls(order, 8, 20, 8) if data[2:4] in (b"+\0", b"\0+") else cls(order, 2, 12, 4)


class _Page(NamedTuple):
    offset: int  # of its directory
    following: int  # where the next directory's offset stands
    picture: bool
    preview: bool
    mask: bool
    width: int
    length: int
    end: int  # behind the last byte that its directory refers to
    others: list[int]  # directories below it that hold no pages

    def is_clearly_smaller(self, whole: "_Page") -> bool:
        return 0 < 4 * self.width <= 3 * whole.width and 0 < 4 * self.length <= 3 * whole.length


class _Damaged(Exception):
    """The list of pages cannot be followed to its end."""


def find_pages(data: bytes) -> tuple[list[tuple[int, int]], int, str]:
    """Pictures in order, where the last byte of the file that belongs to them ends; or why there is none, in words.

    Of each picture: the offset of its directory, and where its successor's offset stands. No pictures are pages that
    their subfile type calls a preview (of reduced resolution) and that are smaller, and bilevel masks.
    """
    pages: list[_Page] = []
    try:
        _walk(data, pages)
    except _Damaged:
        return [], 0, f"the list of pages is damaged or ends early: not analysed. {RESEND}"
    if len(pages) > MAX_PAGES:
        return [], 0, f"the file holds more than {MAX_PAGES} pages: not analysed. Send fewer in one file"
    end = _end_of_all(data, pages)
    pages = [page for page in pages if page.picture and not page.mask]
    whole = [page for page in pages if not page.preview]
    if whole:
        pages = [page for page in pages if not page.preview or not any(map(page.is_clearly_smaller, whole))]
    elif len(pages) != 1:  # alone, it is no preview of anything
        return [], end, "the file holds no picture, only previews or masks"
    return [(page.offset, page.following) for page in pages], end, ""


def single_page(data: bytes, offset: int, following: int) -> bytes:
    """The file with this page as its first and last."""
    layout = _Layout.of(data)
    first = 8 if layout.of_offset == 8 else 4
    if tuple(_number(data, at, layout.of_offset, layout) for at in (first, following)) == (offset, 0):
        return data
    single = bytearray(data)
    single[following : following + layout.of_offset] = bytes(layout.of_offset)
    single[first : first + layout.of_offset] = offset.to_bytes(layout.of_offset, layout.order)
    return bytes(single)


def _walk(data: bytes, pages: list[_Page]) -> None:
    layout = _Layout.of(data)
    waiting = [_number(data, 8 if layout.of_offset == 8 else 4, layout.of_offset, layout)]
    seen: set[int] = set()
    entries = 0
    while waiting:
        offset = waiting.pop()
        if offset in seen:
            raise _Damaged
        seen.add(offset)
        count = _number(data, offset, layout.of_count, layout)
        entries += count
        following = offset + layout.of_count + count * layout.of_entry
        if entries > MAX_ENTRIES or following + layout.of_offset > len(data):
            raise _Damaged
        values = {
            _number(data, at, 2, layout): at for at in range(offset + layout.of_count, following, layout.of_entry)
        }

        def first(tag: int, default: int = 0, values: dict[int, int] = values) -> int:
            return (_values(data, values[tag], layout) or [default])[0] if tag in values else default

        kind, old_kind, photometric = map(first, (SUBFILE_TYPE, OLD_SUBFILE_TYPE, PHOTOMETRIC))
        called_mask = bool(kind & MASK) or photometric == MASK
        pages.append(
            _Page(
                offset,
                following,
                WIDTH in values and LENGTH in values,
                bool(kind & REDUCED) or old_kind == 2,
                # Of one bit (TIFF 6.0, NewSubfileType and PhotometricInterpretation 4): more is a picture.
                called_mask and first(BITS, 1) == 1 and first(SAMPLES, 1) == 1,
                first(WIDTH),
                first(LENGTH),
                *_end(data, offset, layout),
            )
        )
        if len(pages) > MAX_PAGES:
            return
        # The page's own children come before its successor.
        successor = _number(data, following, layout.of_offset, layout)
        children = _values(data, values[SUB_IFDS], layout) if SUB_IFDS in values else []
        waiting += [successor] * bool(successor) + children[::-1]


def _end_of_all(data: bytes, pages: list[_Page]) -> int:
    """Behind the last byte that any directory refers to; damaged ones that hold no pages refer to nothing."""
    layout = _Layout.of(data)
    end, entries = max(page.end for page in pages), 0
    waiting = [offset for page in pages for offset in page.others]
    seen: set[int] = set()
    while waiting:
        offset = waiting.pop()
        if offset in seen or offset + layout.of_count > len(data):
            continue
        seen.add(offset)
        entries += 1 + _number(data, offset, layout.of_count, layout)
        if entries > MAX_ENTRIES:
            break
        last, others = _end(data, offset, layout)
        end, waiting = max(end, last), waiting + others
    return end


def _end(data: bytes, offset: int, layout: _Layout) -> tuple[int, list[int]]:
    """Behind the last byte that a directory refers to, and the directories below it that hold no pages.

    Parts of the picture may be missing in the file; what else would lie beyond its end is not there.
    """
    count = _number(data, offset, layout.of_count, layout)
    following = offset + layout.of_count + count * layout.of_entry
    end, values = min(following + layout.of_offset, len(data)), {}
    for entry in range(offset + layout.of_count, min(following, len(data) - layout.of_entry + 1), layout.of_entry):
        tag, kind, number = (
            _number(data, entry + at, size, layout) for at, size in ((0, 2), (2, 2), (4, layout.of_offset))
        )
        values[tag] = entry
        size = ALL_SIZES.get(kind, 0) * number
        if size > layout.of_offset:
            last = _number(data, entry + 4 + layout.of_offset, layout.of_offset, layout) + size
            end = max(end, last if last <= len(data) else 0)
    for starts, lengths in PARTS:
        if starts in values:
            begin = _array(data, values[starts], layout)
            length = _array(data, values[lengths], layout) if lengths in values else np.zeros(0)
            if len(length) < len(begin):
                length = _unstated_lengths(data, values, layout, len(begin))
            if len(begin):
                end = max(end, min(int((begin + length[: len(begin)]).max()), len(data)))
    others = [int(at) for tag in OTHER_DIRECTORIES if tag in values for at in _array(data, values[tag], layout)[:1]]
    return end, others


def _unstated_lengths(data: bytes, values: dict[int, int], layout: _Layout, parts: int) -> NDArray[np.float64]:
    """Lengths of a page's strips that it does not state: known of a single uncompressed one; else up to the end."""
    about = {tag: _array(data, values[tag], layout) for tag in (WIDTH, LENGTH, BITS, COMPRESSION) if tag in values}
    plain = len(about) == 4 and all(map(len, about.values())) and about[COMPRESSION][0] == 1
    if parts > 1 or not plain:
        return np.full(parts, float(len(data)))
    samples = _array(data, values[SAMPLES], layout) if SAMPLES in values else np.ones(1)
    bits = about[BITS][0] * (samples[0] if len(samples) else 1)
    return np.full(parts, about[LENGTH][0] * np.ceil(about[WIDTH][0] * bits / 8))


def _place(data: bytes, entry: int, layout: _Layout) -> tuple[int, int, int]:
    """Where the numbers of an entry begin, how many bytes each has (0: no whole numbers), and how many they are."""
    size = SIZES.get(_number(data, entry + 2, 2, layout), 0)
    count = _number(data, entry + 4, layout.of_offset, layout)
    at = entry + 4 + layout.of_offset
    if size * count > layout.of_offset:
        at = _number(data, at, layout.of_offset, layout)
    return at, size, count


def _array(data: bytes, entry: int, layout: _Layout) -> NDArray[np.float64]:
    """As `_values`, of many numbers, and none where they are damaged: what decodes the picture tells."""
    at, size, count = _place(data, entry, layout)
    if not size or count > MAX_PARTS or at + size * count > len(data):
        return np.zeros(0)
    kind = np.dtype(f"{'<' if layout.order == 'little' else '>'}u{size}")
    return np.frombuffer(data, kind, count, at).astype(np.float64)


def _values(data: bytes, entry: int, layout: _Layout) -> list[int]:
    """The whole numbers of an entry of a directory."""
    at, size, count = _place(data, entry, layout)
    if not size or count > MAX_PAGES or at + size * count > len(data):
        raise _Damaged
    return [_number(data, at + n * size, size, layout) for n in range(count)]


def _number(data: bytes, at: int, size: int, layout: _Layout) -> int:
    if at + size > len(data):
        raise _Damaged
    return int.from_bytes(data[at : at + size], layout.order)
