"""What is known of the files in watched folders: which have become items, and what lies there that is not taken."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath

from edge_app.store.database import Database, from_row, insert

__all__ = ["Folders", "SkippedFiles"]


@dataclass(frozen=True)
class SkippedFiles:
    """Files of one `kind` in a watched folder that are there and not taken; `latest`: when the newest was written."""

    folder: str
    kind: str
    number: int
    latest: str


class Folders(Database):
    """The files of watched folders."""

    def has_seen(self, folder: str, path: str, size: int, modified_ns: int) -> bool:
        """Whether this very version of a file has become an item."""
        return (
            self.db.execute(
                "SELECT 1 FROM seen_files WHERE folder = ? AND path_sha256 = ? AND size = ? AND modified_ns = ?",
                (folder, _path_sha256(path), size, modified_ns),
            ).fetchone()
            is not None
        )

    def mark_seen(self, folder: str, path: str, size: int, modified_ns: int, item_id: int) -> None:
        """The file, as it is now, has become an item. Its name is kept as long as the item's results are."""
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO seen_files VALUES (?, ?, ?, ?, ?, ?)",
                (folder, _path_sha256(path), PurePath(path).name, size, modified_ns, item_id),
            )

    def names(self, item_id: int) -> list[str]:
        """Names of the files in watched folders that held an item's contents."""
        query = "SELECT name FROM seen_files WHERE item_id = (SELECT object_id FROM items WHERE id = ?)"
        return [row[0] for row in self.db.execute(query, (item_id,))]

    def set_skipped_files(self, folder: str, found: Collection[SkippedFiles]) -> None:
        """What a folder holds that is not taken, as it is now."""
        with self.write() as db:
            db.execute("DELETE FROM not_taken WHERE folder = ?", (folder,))
            for each in found:
                insert(db, "not_taken", folder=folder, kind=each.kind, number=each.number, latest=each.latest)

    def skipped_files(self) -> list[SkippedFiles]:
        """The same of all folders."""
        rows = self.db.execute("SELECT * FROM not_taken ORDER BY folder, number DESC, kind")
        return [from_row(SkippedFiles, row) for row in rows]


def _path_sha256(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()
