"""The pages of a TIFF or BigTIFF file that are pictures of their own (TIFF 6.0; TIFF Technical Note 1: SubIFDs)."""

from typing import Literal, NamedTuple

from keras_realmnet.screening.image_io.source import AGAIN

__all__ = ["find_pages", "page_alone"]

MAX_PAGES = 1000  # looked at, with previews and masks
MAX_ENTRIES = 100_000  # of all pages together
SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUB_IFDS = 254, 255, 256, 257, 262, 330
SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # SHORT, LONG, IFD, LONG8, IFD8
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


class _Damaged(Exception):
    """The list of pages cannot be followed to its end."""


def find_pages(data: bytes) -> tuple[list[tuple[int, int]], str]:
    """(offset of the directory, where its successor's offset stands) of each picture in order; or why none, in words.

    Previews, pages of reduced resolution and masks, as their subfile type tells, are no pictures.
    """
    pages: list[_Page] = []
    try:
        _walk(data, pages)
    except _Damaged:
        return [], f"the list of pages is damaged or ends early: not analysed. {AGAIN}"
    if len(pages) > MAX_PAGES:
        return [], f"the file holds more than {MAX_PAGES} pages: not analysed. Send fewer in one file"
    pages = [page for page in pages if page.picture and not page.mask]
    whole = [page for page in pages if not page.preview]
    if not whole and len(pages) == 1:  # alone, it is no preview of anything
        whole = pages
    return [
        (page.offset, page.following) for page in whole
    ], "" if whole else "the file holds no picture, only previews or masks"


def page_alone(data: bytes, offset: int, following: int) -> bytes:
    """The file with this page as its first and last."""
    layout = _Layout.of(data)
    first = 8 if layout.of_offset == 8 else 4
    if tuple(_number(data, at, layout.of_offset, layout) for at in (first, following)) == (offset, 0):
        return data
    alone = bytearray(data)
    alone[following : following + layout.of_offset] = bytes(layout.of_offset)
    alone[first : first + layout.of_offset] = offset.to_bytes(layout.of_offset, layout.order)
    return bytes(alone)


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
            tag: at
            for at in range(offset + layout.of_count, following, layout.of_entry)
            if (tag := _number(data, at, 2, layout))
            in (SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUB_IFDS)
        }

        kind, old_kind, photometric = (
            (_values(data, values[tag], layout) or [0])[0] if tag in values else 0
            for tag in (SUBFILE_TYPE, OLD_SUBFILE_TYPE, PHOTOMETRIC)
        )
        pages.append(
            _Page(
                offset,
                following,
                picture=WIDTH in values and LENGTH in values,
                preview=bool(kind & REDUCED) or old_kind == 2,
                mask=bool(kind & MASK) or photometric == MASK,
            )
        )
        if len(pages) > MAX_PAGES:
            return
        # The page's own children come before its successor.
        successor = _number(data, following, layout.of_offset, layout)
        children = _values(data, values[SUB_IFDS], layout) if SUB_IFDS in values else []
        waiting += [successor] * bool(successor) + children[::-1]


def _values(data: bytes, entry: int, layout: _Layout) -> list[int]:
    """The whole numbers of an entry of a directory."""
    size = SIZES.get(_number(data, entry + 2, 2, layout), 0)
    count = _number(data, entry + 4, layout.of_offset, layout)
    at = entry + 4 + layout.of_offset
    if size * count > layout.of_offset:
        at = _number(data, at, layout.of_offset, layout)
    if not size or count > MAX_PAGES or at + size * count > len(data):
        raise _Damaged
    return [_number(data, at + n * size, size, layout) for n in range(count)]


def _number(data: bytes, at: int, size: int, layout: _Layout) -> int:
    if at + size > len(data):
        raise _Damaged
    return int.from_bytes(data[at : at + size], layout.order)
