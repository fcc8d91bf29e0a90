"""The files of a folder and of those in it, found by the names that tables give them."""

import os
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from keras_realmnet.errors import DataSetError

__all__ = ["FileIndex"]


class FileIndex:
    """The files below a folder whose ending is one of `endings`, hidden ones left out; `paths` in order of their names.

    Args:
        folder: it must be there.
        endings: with their dot, in lower case.
        what: the files, for messages.
        without: folders that are not looked into.

    Raises:
        DataSetError: there is no such folder.
    """

    def __init__(self, folder: str | Path, endings: Collection[str], what: str, without: Iterable[Path] = ()):
        self.folder, self.what = Path(folder).expanduser(), what
        if not self.folder.is_dir():
            raise DataSetError(f"{self.folder}: no such folder; expected {what}")
        skipped = {os.path.realpath(path) for path in without}
        found = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in skipped
            )
            for name in files:
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings:
                    found.append(Path(place, name))
        self.paths = tuple(sorted(found, key=lambda path: path.relative_to(self.folder).parts))
        self._names = {path: _readable(path.relative_to(self.folder).as_posix()) for path in self.paths}
        self._named: dict[str, list[Path]] = {}  # by the name without folders
        self._stems: dict[str, list[Path]] = {}  # by that without its ending
        for path in self.paths:
            name = _parts(_readable(path.name))[0]
            self._named.setdefault(name, []).append(path)
            self._stems.setdefault(_without_ending(name), []).append(path)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, path: Path) -> str:
        """The path below the folder, with slashes."""
        return self._names[path]

    def find(self, name: str) -> Path | None:
        """The file of a name in a table; None where there is none.

        That is the path below the folder, with either kind of slash, its last part or parts, or, where the table was
        made on another machine, a longer path; the file's ending may be missing. Case and the form of accents count
        only where names differ in nothing else.

        Raises:
            DataSetError: several files are meant.
        """
        *_, last = _parts(name)
        found = self._suiting(name, self._named.get(last, []))
        if found is None:
            found = self._suiting(name, self._stems.get(last, []), ending=False)
        return found

    def find_base_name(self, name: str, suffix: str = "") -> Path | None:
        """The file of the name that a picture has without its ending, and `suffix`, as masks are named; else as
        `find`."""
        stem = _without_ending(name.replace("\\", "/")) + suffix
        *_, last = _parts(stem)
        return self._suiting(stem, self._stems.get(last, []), ending=False)

    def _suiting(self, name: str, candidates: list[Path], ending: bool = True) -> Path | None:
        """The one whose path below the folder is the name or, where none is, ends with it or is its end."""
        wanted = _parts(name)
        own = {path: self.name(path) if ending else _without_ending(self.name(path)) for path in candidates}
        exact = [path for path in candidates if own[path] == name.replace("\\", "/")]
        alike = [path for path in candidates if _parts(own[path]) == wanted]
        ends = [path for path in candidates if _ends_alike(_parts(own[path]), wanted)]
        suiting = next((paths for paths in (exact, alike, ends) if paths), [])
        if len(suiting) > 1:
            some = ", ".join(map(self.name, suiting[:3]))
            raise DataSetError(f"{self.folder}: {name!r} may be any of {some}; expected one of {self.what}")
        return suiting[0] if suiting else None


def _readable(name: str) -> str:
    """A name whose bytes are no UTF-8 is read as Latin-1, as old systems wrote it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


@lru_cache(maxsize=1 << 16)  # where a folder for each picture has files of the same names, each is compared with all
def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path, in one form of the letters."""
    plain = unicodedata.normalize("NFC", name).casefold()
    return tuple(part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")) or ("",)


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]


def _without_ending(name: str) -> str:
    return os.path.splitext(name)[0]
