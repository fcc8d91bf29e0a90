"""A run over files: each picture goes to every bundle of its kind, once; what has its result is not screened again."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from edge_app.analysis.models import Models
from edge_app.analysis.results import Picture, Results
from edge_app.analysis.screen import FileOrigin, retryable
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["PendingFile", "collect", "contents_of", "run", "screen_file"]

# Which pictures have their results: {picture: how many pictures its file holds}.
Known = Mapping[Picture, int]
# The records of a file's pictures, in order; None for those that are known.
Found = dict[Picture, ScreeningRecord | None]
# A file's path, the SHA-256 of its contents, and what screens those of its pictures that are not known.
PendingFile = tuple[Path, str | None, Callable[[Known], Found]]


def run(
    models: Models, files: Iterable[Path], results: Results, overwrite: bool = False
) -> Iterator[list[ScreeningRecord]]:
    """Yields the records of each file, one per picture and bundle, in order; stored before they are handed on.

    A picture that already has a record with the same contents, bundle and artifact is not screened again by that bundle
    (unless `overwrite`), and of several files with the same contents only the first is screened.
    """

    def pending() -> Iterator[PendingFile]:
        for path in files:
            sha256 = contents_of(path)
            yield path, sha256, partial(screen_file, models, path, sha256, results.overlays)

    return collect(models, pending(), results, overwrite)


def collect(
    models: Models, files: Iterable[PendingFile], results: Results, overwrite: bool = False
) -> Iterator[list[ScreeningRecord]]:
    """`run` for files that may be screened elsewhere."""
    screened: set[str | None] = set()  # contents, in this run
    for path, sha256, screen in files:
        earlier = {} if overwrite else _settled(results.of_file(path, sha256))
        twins = _settled(results.of_contents(sha256)) if not overwrite or sha256 in screened else {}
        copies = {each: models.of(each[0]).duplicate(path, twins[each]) for each in twins.keys() - earlier.keys()}
        known = {**copies, **earlier}
        found = screen({each: record.pictures for each, record in known.items()})
        if any(record is not None for record in found.values()):
            screened.add(sha256)
        records = {picture: record or known[picture] for picture, record in found.items()}
        for picture, record in records.items():
            if picture not in earlier:
                results.append(record)
        results.settle(path, sha256, records, routed=not any(map(retryable, records.values())))
        yield list(records.values())


def screen_file(models: Models, path: Path, sha256: str | None, overlays: Path, known: Known) -> Found:
    """Screens every picture that a file holds, each by the bundles of its kind.

    A file that holds none, cannot be read or is of no bundle's kind has one record, which says why.
    """
    origin = FileOrigin.of(path)
    found: Found = {}
    frame, pictures = 1, 1
    while frame <= pictures:
        for name in models.of_kind(path, origin, frame, models.first):
            picture = (name, frame)
            record = None if picture in known else models.screen(name, path, sha256, overlays, origin, frame)
            pictures = max(pictures, known[picture] if record is None else record.pictures)
            found[picture] = record
        frame += 1
    return found


def contents_of(path: Path) -> str | None:
    """SHA-256 of the file's bytes; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _settled(records: Mapping[Picture, ScreeningRecord]) -> dict[Picture, ScreeningRecord]:
    """Those that another attempt would not change."""
    return {picture: record for picture, record in records.items() if not retryable(record)}
