"""The folder of results: `records.jsonl`, one JSON object per image, and the pictures in `overlays/`."""

import json
import os
from pathlib import Path
from types import TracebackType

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["Results"]

Identity = tuple[str, str, str, str]  # folder, file, digest of the bundle, artifact


class Results:
    """The records of one folder; new ones are appended and flushed as they come.

    A file is known by its path, its bundle and its artifact: later records of the same three replace the earlier ones,
    picture by picture. Records of other bundles stay in the file and are left alone.
    """

    def __init__(self, directory: Path, bundle: Bundle, artifact: str):
        """Opens or makes the folder. Raises RealMNetError where it cannot be written or holds foreign records."""
        self.directory = directory
        self.overlays = directory / "overlays"
        self._model = (bundle.digest, artifact)
        self._path = directory / "records.jsonl"
        self._records: dict[Identity, dict[int, ScreeningRecord]] = {}  # of each file, by the number of the picture
        self._by_contents: dict[str, Identity] = {}
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
        """The current records of this bundle and artifact, in the order they came."""
        return [record for record in self._all_records() if (record.bundle_digest, record.artifact) == self._model]

    @property
    def others(self) -> int:
        """How many records come from other bundles or artifacts."""
        return len(self._all_records()) - len(self.records)

    def of_file(self, path: Path, sha256: str | None) -> list[ScreeningRecord]:
        """The records of this very file with these very contents by this bundle and artifact; none unless all are."""
        records = self.of_path(path)
        return records if sha256 is not None and all(record.sha256 == sha256 for record in records) else []

    def of_path(self, path: Path) -> list[ScreeningRecord]:
        """The records of a file of this name by this bundle and artifact, whatever its contents were then.

        One per picture; none where a run was interrupted between them.
        """
        return self._complete((str(path.absolute().parent), path.name, *self._model))

    def of_contents(self, sha256: str | None) -> list[ScreeningRecord]:
        """The records of a file with the same contents by this bundle and artifact; none unless all are there."""
        identity = self._by_contents.get(sha256) if sha256 is not None else None
        return [] if identity is None else self._complete(identity)

    def _complete(self, identity: Identity) -> list[ScreeningRecord]:
        records = list(self._records.get(identity, {}).values())
        return records if records and len(records) == max(1, records[0].pictures) else []

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
        if record.sha256 is not None and (record.bundle_digest, record.artifact) == self._model:
            self._by_contents[record.sha256] = identity
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
