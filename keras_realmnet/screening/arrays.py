"""NumPy archives (.npz) that somebody else wrote: an array is read only when it has the type and the size it should."""

from __future__ import annotations

import math
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

__all__ = ["HEADER_PARSING", "ArrayArchive"]

MOST = 100_000  # entries along a side that may be of any length
HEADER = 10_000  # bytes in front of an array's values, at most
MAX_TEXT = 1 << 20  # bytes of a text
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# NumPy reads an array's header by Python's own parser. In CPython 3.11 two threads must not be in it at once: where a
# garbage collection lets another one run, both fail ("AST constructor recursion depth mismatch").
HEADER_PARSING = threading.Lock()


class ArrayArchive:
    """An .npz file, open for reading. Whatever is wrong with it is a ValueError, in one line, without its path."""

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # zipfile's exceptions share no base class
            raise _as_value_error(error) from error

    def __enter__(self) -> ArrayArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._zip.namelist()

    def read(self, name: str, kind: str, shape: Sequence[int | None]) -> np.ndarray:
        """The array called `name`.

        Args:
            kind: its element type, "float32"; or "text".
            shape: its shape; a side of `None` may have any length from 1 to 100 000.
        """
        try:
            if name not in self:
                raise ValueError("it is missing")
            member = f"{name}.npy"
            with HEADER_PARSING, self._zip.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in HEADERS:
                    raise ValueError(f"version {version} of NumPy's format")
                received, _, element = HEADERS[version](stream, max_header_size=HEADER)
                start = stream.tell()
            wanted = len(received) == len(shape) and all(
                side == side_received if side is not None else 1 <= side_received <= MOST
                for side, side_received in zip(shape, received, strict=True)
            )
            fits = element.kind == "U" and element.itemsize <= MAX_TEXT if kind == "text" else element == np.dtype(kind)
            if not wanted or not fits:
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                raise ValueError(f"{kind} ({sides}) expected. Received: {element} {received}")
            size = start + element.itemsize * math.prod(received)
            if self._zip.getinfo(member).file_size != size:
                raise ValueError(f"{size} bytes expected. Received: {self._zip.getinfo(member).file_size}")
            with HEADER_PARSING, self._zip.open(member) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:
            raise _as_value_error(error, f"{name}: ") from error


def _as_value_error(error: Exception, where: str = "") -> ValueError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{where}{said}")
