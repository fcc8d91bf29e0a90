"""What a reader of files noticed without having to stop: told in one line for each kind, and counted."""

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Notice", "noticed", "tell"]

SHOWN = 5  # items of a line, before the rest is only counted


@dataclass(frozen=True)
class Notice:
    """`what` was noticed, in words that end where a list begins, and every one of the `items`, at least one."""

    what: str
    items: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        """`pictures that the table does not list: 7 (a.jpg, b.jpg, c.jpg, d.jpg, e.jpg and 2 more)`."""
        more = f" and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
        return f"{self.what}: {len(self)} ({', '.join(self.items[:SHOWN])}{more})"


def noticed(*kinds: tuple[str, Iterable[str]]) -> tuple[Notice, ...]:
    """A notice for each kind of which there is an item."""
    notices = (Notice(what, tuple(items)) for what, items in kinds)
    return tuple(notice for notice in notices if len(notice))


def tell(notices: Iterable[Notice]) -> None:
    """Prints each on the standard error, once in the life of the program, however often its data is read."""
    for notice in notices:
        _print_once(str(notice))


@functools.cache
def _print_once(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
