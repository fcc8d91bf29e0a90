"""Where the parts of a public data set lie, whose copies name their folders differently."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from keras_realmnet.errors import DataSetError

__all__ = ["first_folder", "parts_there"]


class HasPictures(Protocol):
    @property
    def pictures(self) -> tuple[str, ...]:
        """The folder of a part's pictures, below that of the data; several names, the most usual first."""


SomePart = TypeVar("SomePart", bound=HasPictures)


def first_folder(root: Path, names: Sequence[str]) -> str:
    """The first of the names that is a folder in `root`, or the first one."""
    return next((name for name in names if (root / name).is_dir()), names[0])


def parts_there(
    top: Path, roots: Iterable[str], parts: Sequence[SomePart], source: str
) -> tuple[Path, list[tuple[str, SomePart]], list[str]]:
    """Where the data begins; the parts that are there, each with the folder of its pictures; those that are not.

    Args:
        top: the folder that was given. roots: below it, where the data may begin.
        source: whose data it is, for messages.

    Raises:
        DataSetError: no part is there.
    """
    for root in (top / name for name in roots):
        places = [(first_folder(root, part.pictures), part) for part in parts]
        there = [(place, part) for place, part in places if (root / place).is_dir()]
        if there:
            return root, there, [place for place, part in places if not (root / place).is_dir()]
    expected = ", ".join(part.pictures[0] or "." for part in parts)
    raise DataSetError(f"{top}: holds no pictures of {source}; expected the folders {expected}")
