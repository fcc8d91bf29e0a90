"""What several processes need is made by one of them, and again when the code that makes it has changed."""

import fcntl
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_realmnet.errors import RealMNetError

__all__ = ["code_hash", "make_once"]

LOCK = "lock"  # a file, since network file systems lock no folders


def make_once(path: Path, make: Callable[[], None]) -> None:
    """Has the file there: where it is not, `make()` writes it, last, and whatever belongs to it, into its folder.

    One process, or thread, at a time makes something in a folder. The others wait, say so on the standard error, and
    take what it made. A process that is killed keeps nobody waiting: the next one's `make()` finds what it left.

    Raises:
        RealMNetError: the folder's file system has no locks.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent):
        if not path.is_file():  # it may have come while this process waited
            make()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """The lock ends with the process that holds it; processes it starts do not inherit the open file."""
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting: another process is writing to {folder}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise RealMNetError(
                f"{folder}: expected a file system with locks, since several processes may write there. "
                f"Received: {error.strerror}"
            ) from error
        yield


def code_hash(folder: Path) -> str:
    """Hash of all source code in a folder: what other code has made must not be taken for what this one makes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
