"""What several commands make of their options."""

import sys
from pathlib import Path

from keras_realmnet.errors import RealMNetError

__all__ = ["must_exist", "names_of", "tell"]


def names_of(listed: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in listed.split(",")]


def must_exist(path: Path) -> None:
    if not path.exists():
        raise RealMNetError(f"{path}: no such file or folder")


def tell(line: str) -> None:
    """Progress goes to stderr: stdout is for what was asked for."""
    print(line, file=sys.stderr)
