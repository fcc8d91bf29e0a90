"""The folder of results: `records.jsonl`, one JSON object per picture and bundle, and the pictures in `overlays/`."""

import json
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edge_app.analysis.screen import printable
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.artifact import Artifact
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["Picture", "Results"]

Model = tuple[str, str]  # digest of the bundle, artifact
Identity = tuple[str, str, str, str]  # folder, file, and the model
Picture = tuple[str, int]  # of a file: name of the bundle it went to, which picture, from 1


class Results:
    """The records of one folder; new ones are appended and flushed as they come.

    A file is known by its path, its bundle and its artifact: later records of the same three replace the earlier ones,
    picture by picture. Records of bundles that are not asked now stay in the file and are left alone.
    """

    def __init__(self, directory: Path, models: Sequence[tuple[Bundle, Artifact]]):
        """Opens or makes the folder. Raises RealMNetError where it cannot be written or holds foreign records."""
        self.directory = directory
        self.overlays = directory / "overlays"
        self._names = {(bundle.digest, artifact.name): bundle.name for bundle, artifact in models}
        self._path = directory / "records.jsonl"
        self._records: dict[Identity, dict[int, ScreeningRecord]] = {}  # of each file, by the number of the picture
        self._by_contents: dict[tuple[str, Model], Identity] = {}
        try:
            self.overlays.mkdir(parents=True, exist_ok=True)
            stale = self._read()
            if stale:
                self._compact()
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise RealMNetError(f"{directory}: cannot keep results here ({error.strerror})") from error
        self._replaced = False

    @property
    def records(self) -> list[ScreeningRecord]:
        """The current records of these bundles and artifacts, in the order they came."""
        return [record for record in self._all_records() if (record.bundle_digest, record.artifact) in self._names]

    @property
    def others(self) -> int:
        """How many records come from other bundles or artifacts."""
        return len(self._all_records()) - len(self.records)

    def of_file(self, path: Path, sha256: str | None) -> dict[Picture, ScreeningRecord]:
        """The records of this very file with these very contents by these bundles and artifacts."""
        return _of_contents(self.of_path(path), sha256)

    def of_path(self, path: Path) -> dict[Picture, ScreeningRecord]:
        """The records of a file of this name by these bundles and artifacts, whatever its contents were then."""
        return {
            (name, frame): record
            for model, name in self._names.items()
            for frame, record in self._records.get(_identity(path, model), {}).items()
        }

    def of_contents(self, sha256: str | None) -> dict[Picture, ScreeningRecord]:
        """The records of a file with the same contents by these bundles and artifacts; of each, the last such file."""
        if sha256 is None:
            return {}
        found = {
            (name, frame): record
            for model, name in self._names.items()
            if (identity := self._by_contents.get((sha256, model))) is not None
            for frame, record in self._records.get(identity, {}).items()
        }
        return _of_contents(found, sha256)  # that file may have other contents by now

    def settle(self, path: Path, sha256: str | None, pictures: Container[Picture], routed: bool) -> None:
        """Forgets what these bundles said of a file, other than of `pictures`, and what no longer holds.

        That is what they said of other contents and, where it is clear that its pictures go to these bundles alone
        (`routed`), all of it: such as that a picture is of no known kind, before there was a bundle for it.
        """
        for picture, record in self.of_path(path).items():
            if picture not in pictures and (routed or record.sha256 != sha256):
                del self._records[record.folder, record.file, record.bundle_digest, record.artifact][record.frame]
                self._replaced = True

    def _all_records(self) -> list[ScreeningRecord]:
        return [record for records in self._records.values() for record in records.values()]

    def append(self, record: ScreeningRecord) -> None:
        """Stores one record. Raises RealMNetError where the disk does not take it."""
        try:
            self._file.write(record.to_json() + "\n")
            self._file.flush()
        except OSError as error:
            raise RealMNetError(f"{self._path}: cannot write ({error.strerror})") from error
        self._replaced |= self._remember(record)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        if self._replaced:
            self._compact()

    def _remember(self, record: ScreeningRecord) -> bool:
        """Whether it replaced earlier ones: that of the same picture, and all if the file has changed since."""
        identity = (record.folder, record.file, record.bundle_digest, record.artifact)
        known = self._records.get(identity, {})
        of_same_contents = {n: r for n, r in known.items() if r.sha256 == record.sha256 and n <= record.pictures}
        kept = {n: r for n, r in of_same_contents.items() if n != record.frame}
        self._records[identity] = {**kept, record.frame: record}
        if record.sha256 is not None:
            self._by_contents[record.sha256, (record.bundle_digest, record.artifact)] = identity
        return len(kept) < len(known)

    def _read(self) -> bool:
        """Loads records.jsonl; whether it has lines to drop (replaced ones, a last one cut off by a crash)."""
        if not self._path.exists():
            return False
        stale = False
        content = self._path.read_text(encoding="utf-8")
        complete, _, cut_off = content.rpartition("\n")
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                stale |= self._remember(ScreeningRecord.from_dict(json.loads(line)))
            except (ValueError, AttributeError, RealMNetError) as error:
                raise RealMNetError(f"{self._path}, line {number}: not a record of this program ({error})") from error
        return stale or bool(cut_off)

    def _compact(self) -> None:
        temporary = self._path.with_suffix(".part")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(record.to_json() + "\n" for record in self._all_records())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)


def _identity(path: Path, model: Model) -> Identity:
    return printable(str(path.absolute().parent)), printable(path.name), *model


def _of_contents(records: Mapping[Picture, ScreeningRecord], sha256: str | None) -> dict[Picture, ScreeningRecord]:
    return {each: record for each, record in records.items() if sha256 is not None and record.sha256 == sha256}
