"""Data sets while they come: a picture goes to the disk, of anything else its beginning is looked at."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from edge_app.inbox.refusals import OUT_OF_RESOURCES, Refused
from edge_app.store.durable import has_room
from edge_app.store.items import Incoming

__all__ = ["BEGINNING", "Arriving", "ArrivingOther", "ArrivingPicture", "file_head"]

BEGINNING = 1 << 16  # bytes that are looked at of an object that is dropped: its UIDs come first


class Arriving(BytesIO):
    """Takes the place of a data set while it comes, so that none is kept in memory.

    Nothing is raised while it comes, when nobody could answer: `failure` is what stopped it, the rest is not kept.
    """

    def __init__(self, limit_mb: int, failure: Exception | None = None):
        super().__init__()
        self.size, self.failure = 0, failure
        self._limit = limit_mb << 20

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                self.size += len(data)
                if self.size > self._limit:
                    raise Refused(OUT_OF_RESOURCES, "the object is larger than this box accepts")
                self._keep(data)
            except Exception as error:
                self.give_up(error)
        return len(data)

    def give_up(self, failure: Exception) -> None:
        """What has come is let go."""
        self.failure = self.failure or failure
        self.let_go()

    def let_go(self) -> None:
        """Leaves nothing behind but what was kept on purpose."""

    def _keep(self, data: bytes) -> None:
        raise NotImplementedError


class ArrivingPicture(Arriving):
    """Goes into a file, behind the file meta information (`head`)."""

    def __init__(self, limit_mb: int, head: bytes, data_dir: Path, free_mb: int):
        super().__init__(limit_mb)
        self.head, self._data_dir, self._free_mb = head, data_dir, free_mb
        self.incoming = Incoming(data_dir)

    def let_go(self) -> None:
        with suppress(OSError):  # of a full disk: what was not written yet
            self.incoming.close()

    def _keep(self, data: bytes) -> None:
        if not has_room(self._data_dir, self._free_mb, len(data)):
            raise Refused(OUT_OF_RESOURCES, "the disk is full")
        if not self.incoming.size:
            self.incoming.write(self.head)
        self.incoming.write(data)


class ArrivingOther(Arriving):
    """No picture: only its beginning is looked at."""

    def __init__(self, limit_mb: int):
        super().__init__(limit_mb)
        self.beginning = b""

    def _keep(self, data: bytes) -> None:
        self.beginning += bytes(data[: BEGINNING - len(self.beginning)])


def file_head(sop_class: UID, instance: str, syntax: UID) -> bytes:
    """Preamble and file meta information: part of the stored file's hash, so the same for ever."""
    meta = create_file_meta(
        sop_class_uid=sop_class,
        sop_instance_uid=UID(instance),
        transfer_syntax=syntax,
        implementation_uid=IMPLEMENTATION_UID,
        implementation_version=IMPLEMENTATION_VERSION,
    )
    return b"\0" * 128 + b"DICM" + encode_file_meta(meta)
