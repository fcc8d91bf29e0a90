"""What several commands make of their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keras_realmnet.errors import RealMNetError

if TYPE_CHECKING:
    from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["must_exist", "names_of", "tell", "tell_outcomes_are_forgotten"]


def names_of(listed: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in listed.split(",")]


def must_exist(path: Path) -> None:
    if not path.exists():
        raise RealMNetError(f"{path}: no such file or folder")


def tell(line: str) -> None:
    """Progress goes to stderr: stdout is for what was asked for."""
    print(line, file=sys.stderr)


def tell_outcomes_are_forgotten(bundle: Bundle) -> None:
    """Where a bundle with a reference decides otherwise than before, see `refit`."""
    if bundle.task.reference is not None:
        print("its reference has no outcomes now, by which a box sees drift: `export reference` counts them anew")
