"""The public data set and the published weights from the Hugging Face hub; and the data set's split zip, unpacked.

A connection that breaks is taken up where it broke. After an interrupt the same command fetches what is not whole yet
(huggingface_hub keeps whole files only). `provenance.json` in the folder says what was fetched: repository, commit,
sizes and SHA-256.
"""

import bisect
import hashlib
import io
import json
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import track

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.image_io import EXTENSIONS, MAX_BYTES
from training.data.psmm import IMAGES

__all__ = ["PROVENANCE", "SOURCES", "WEIGHTS", "DownloadError", "Source", "download", "unpack"]

PROVENANCE = "provenance.json"


class DownloadError(RealMNetError):
    """What was asked for cannot be fetched: no connection, no such repository, revision or file, no space."""


@dataclass(frozen=True)
class Source:
    """A repository of the hub; `files`: patterns of what is fetched."""

    repository: str
    kind: str  # "dataset" or "model"
    files: tuple[str, ...]


def _tiny_vit(name: str) -> Source:
    return Source(f"timm/{name}", "model", ("model.safetensors", "config.json"))


WEIGHTS = Path("data/weights")  # where recipes look for them, in a folder of the source's name

SOURCES = {
    "psmm": Source("yo3nglau/PSMM", "dataset", ("*",)),
    **{
        name: _tiny_vit(name)
        for name in (
            "tiny_vit_5m_224.dist_in22k_ft_in1k",
            "tiny_vit_11m_224.dist_in22k_ft_in1k",
            "tiny_vit_21m_224.dist_in22k_ft_in1k",
            "tiny_vit_21m_384.dist_in22k_ft_in1k",
            "tiny_vit_21m_512.dist_in22k_ft_in1k",
        )
    },
}


def download(name: str, out: str | Path, revision: str = "main", endpoint: str | None = None) -> dict[str, Any]:
    """Fetches a source of `SOURCES` into a folder and returns what provenance.json then holds.

    Every file is compared with the SHA-256 that the hub states for it; a small one, for which it states none, with the
    size.

    Args:
        revision: branch, tag or commit; it is resolved to a commit first.
        endpoint: of the hub; default: the environment's HF_ENDPOINT or https://huggingface.co.

    Raises:
        DownloadError: with the reason in one line.
    """
    import huggingface_hub as hub
    from huggingface_hub.utils import filter_repo_objects

    if name not in SOURCES:
        raise DownloadError(f"expected one of {', '.join(SOURCES)}. Received: {name!r}")
    source, out = SOURCES[name], Path(out).expanduser()
    api = hub.HfApi(endpoint=endpoint)
    where = f"{source.repository} (revision {revision}) at {api.endpoint}"
    with _one_line(where, out):
        ask = api.dataset_info if source.kind == "dataset" else api.model_info
        info = ask(source.repository, revision=revision, files_metadata=True)
        listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        wanted = sorted(filter_repo_objects(listed, allow_patterns=list(source.files)))
        if source.kind == "model" and source.files[0] not in wanted:
            raise DownloadError(f"{where}: has no {source.files[0]}; found: {', '.join(sorted(listed)) or 'nothing'}")
        out.mkdir(parents=True, exist_ok=True)
        _check_space(out, sum(listed[file].size or 0 for file in wanted if not (out / file).is_file()))
        hub.snapshot_download(
            source.repository,
            repo_type=source.kind,
            revision=info.sha,
            local_dir=out,
            allow_patterns=list(source.files),
            endpoint=endpoint,
            max_workers=4,
        )
        files = {file: _verified(out / file, listed[file]) for file in wanted}
        provenance = {
            "name": name,
            "repository": source.repository,
            "kind": source.kind,
            "endpoint": api.endpoint,
            "revision": revision,
            "commit": info.sha,
            "files": files,
        }
        temporary = out / f".{PROVENANCE}.part"
        temporary.write_text(json.dumps(provenance, indent=1) + "\n")
        temporary.replace(out / PROVENANCE)
    return provenance


def _verified(path: Path, stated: Any) -> dict[str, Any]:
    """Size and SHA-256 of a fetched file, which must be those that the hub states."""
    if not path.is_file():  # huggingface_hub falls back to what is in the folder when a request fails
        raise DownloadError(f"{path}: could not be fetched; the same command goes on from here")
    with path.open("rb") as file:
        facts = {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    expected = {"bytes": stated.size, "sha256": stated.lfs.sha256 if stated.lfs else None}
    for key, value in expected.items():
        if value is not None and facts[key] != value:
            raise DownloadError(f"{path}: {key} {facts[key]}, the hub states {value}. Delete the file and call again")
    return facts


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(f"{folder}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


@contextmanager
def _one_line(where: str, out: Path) -> Iterator[None]:
    """What huggingface_hub and its HTTP library raise, as `DownloadError`."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(f"{where}: access must be asked for on its page, then log in (hf auth login)") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(f"{where}: no such repository, or it is not public") from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{where}: no such revision") from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{where}: the hub answers with status {error.response.status_code}") from error
    except (httpx2.TransportError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        cause = error.__cause__ or error
        raise DownloadError(
            f"{where}: cannot be reached ({type(cause).__name__}: {cause}). Without a connection, fetch the files on "
            "another machine with the same command and copy the folder"
        ) from error
    except OSError as error:
        raise DownloadError(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error


# --- the split zip --------------------------------------------------------------------------------------------------


def unpack(folder: str | Path) -> Path:
    """Unpacks the images of PSMM and returns the folder in which JPEGImages then lies.

    The archive may be one file (JPEGImages.zip), split by Info-ZIP (.z01, .z02, …, .zip), as it is published, or cut
    into pieces (.zip.001, …); it is read in place, never joined on disk. Every image goes to JPEGImages under its bare
    name and is complete when it appears; those that are there are not unpacked again.

    Raises:
        DataSetError: no archive, parts that are missing or only Git LFS pointers, a damaged archive, or entries that
            no archive of images has (links, paths that lead elsewhere, two images of one name).
        DownloadError: the disk is too small.
    """
    folder = Path(folder).expanduser()
    found = (path for path in folder.rglob(f"{IMAGES}.z*") if ".cache" not in path.relative_to(folder).parts)
    first = min(found, default=None)
    if first is None:
        raise DataSetError(f"{folder}: no {IMAGES}.zip, with its parts, was found")
    parts = _parts(first.parent)
    images = first.parent / IMAGES
    try:
        with _joined(_segments(parts)) as joined, zipfile.ZipFile(joined) as archive:
            entries = _entries(archive, parts[-1])
            todo = {
                name: entry
                for name, entry in entries.items()
                if not (images / name).is_file() or (images / name).stat().st_size != entry.file_size
            }
            images.mkdir(exist_ok=True)
            _check_space(images, sum(entry.file_size for entry in todo.values()))
            for name in track(list(todo), "unpacking images", console=Console(stderr=True)):
                temporary = images / f".{name}.part"
                temporary.write_bytes(archive.read(todo[name]))  # read compares the checksum
                temporary.replace(images / name)
    except (zipfile.BadZipFile, EOFError, zlib.error, struct.error, NotImplementedError, RuntimeError) as error:
        raise DataSetError(f"{parts[-1]}: the archive is damaged or not a zip archive ({error})") from error
    except OSError as error:
        raise DownloadError(f"{error.filename or images}: {error.strerror or error}") from error
    return first.parent


def _parts(folder: Path) -> list[Path]:
    """The files of the archive in their order; none may be missing in between."""
    pieces = sorted(folder.glob(f"{IMAGES}.zip.[0-9]*"), key=lambda path: int(path.suffix[1:]))
    split = sorted(folder.glob(f"{IMAGES}.z[0-9]*"), key=lambda path: int(path.suffix[2:]))
    numbered = pieces or split
    for k, path in enumerate(numbered, 1):
        number = path.suffix.lstrip(".z")
        if int(number) != k:
            raise DataSetError(f"{folder}: part {k:0{len(number)}d} of {IMAGES}.zip is missing; found {path.name}")
    last = folder / f"{IMAGES}.zip"
    if not pieces and not last.is_file():
        raise DataSetError(f"{last}: is missing; it is the last part of the archive")
    parts = pieces or [*split, last]
    for path in parts:
        with path.open("rb") as file:
            if file.read(24) == b"version https://git-lfs.":
                raise DataSetError(f"{path}: only a Git LFS pointer; fetch the file itself (git lfs pull)")
    return parts


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The images of an archive by their bare names."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        inside = PurePosixPath(entry.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or stat.S_ISLNK(entry.external_attr >> 16):
            raise DataSetError(f"{path}: holds {entry.filename!r}, which leads out of its folder; nothing was unpacked")
        if entry.is_dir() or inside.suffix.lower() not in EXTENSIONS or inside.name.startswith("."):
            continue
        if entry.file_size > MAX_BYTES:
            raise DataSetError(f"{path}: holds {entry.filename!r} of {entry.file_size} bytes, which is no fundus image")
        if inside.name in entries:
            raise DataSetError(f"{path}: holds {entries[inside.name].filename!r} and {entry.filename!r}")
        entries[inside.name] = entry
    if not entries:
        raise DataSetError(f"{path}: holds no image")
    return entries


def _segments(parts: Sequence[Path]) -> list[Path | bytes]:
    """What makes one plain zip archive when read one after the other.

    Info-ZIP's parts count offsets within each part (APPNOTE.TXT 8.0): the directory at the end is written anew, with
    offsets from the start of the first part.
    """
    if not parts[-1].name.endswith(".zip"):
        return list(parts)
    starts = [0]
    for path in parts:
        starts.append(starts[-1] + path.stat().st_size)
    if starts[-1] >= 1 << 32:
        raise DataSetError(f"{parts[-1]}: above 4 GB; join it first: zip -s 0 {parts[-1].name} --out joined.zip")
    with _joined(parts) as joined:
        joined.seek(max(0, starts[-1] - (1 << 16) - _END.size))
        tail = joined.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0:
            raise zipfile.BadZipFile("no directory at its end")
        _, part, first, _, count, size, offset, _ = _END.unpack_from(tail, at)
        if part + 1 != len(parts):
            raise DataSetError(f"{parts[-1]}: is the last of {part + 1} parts; found {len(parts)}")
        joined.seek(starts[first] + offset)
        directory = bytearray(joined.read(size))
    at = 0
    for _ in range(count):
        lengths = struct.unpack_from("<3H", directory, at + 28)  # of name, extra field and comment
        part, (offset,) = *struct.unpack_from("<H", directory, at + 34), struct.unpack_from("<I", directory, at + 42)
        struct.pack_into("<H", directory, at + 34, 0)
        struct.pack_into("<I", directory, at + 42, starts[part] + offset)
        at += 46 + sum(lengths)
    return [*parts, bytes(directory) + _END.pack(b"PK\5\6", 0, 0, count, count, size, starts[-1], 0)]


_END = struct.Struct("<4s4H2IH")  # end of central directory record (APPNOTE.TXT 4.3.16)


def _joined(segments: Sequence[Path | bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Joined(segments), 1 << 20)


class _Joined(io.RawIOBase):
    """Files, and bytes, read as one."""

    def __init__(self, segments: Sequence[Path | bytes]):
        self._files: list[BinaryIO] = [io.BytesIO(s) if isinstance(s, bytes) else s.open("rb") for s in segments]
        self._starts = [0]
        for file in self._files:
            self._starts.append(self._starts[-1] + file.seek(0, io.SEEK_END))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        k = bisect.bisect_right(self._starts, self._at) - 1
        self._files[k].seek(self._at - self._starts[k])
        data = self._files[k].read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
