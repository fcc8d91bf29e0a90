"""Folders to write into, looked at before the work begins whose results they shall hold."""

import tempfile
from pathlib import Path

from keras_realmnet.errors import RealMNetError

__all__ = ["check_folder"]


def check_folder(path: Path) -> Path:
    """`path`, where a folder is there or can be made, and written into; it is left as it was.

    Raises:
        RealMNetError: it cannot, with the system's reason.
    """
    made: list[Path] = []
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise RealMNetError(f"{path}: cannot be made a folder to write into ({reason})") from error
    finally:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # never made, or meanwhile in use
                break
    return path
