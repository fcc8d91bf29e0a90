"""Screens an archive on a cluster with Ray Data: the same path, the same records, in the same order as on one machine.

Each Ray worker opens the bundles once and screens images; this process alone keeps the records. Bundles and images must
be at the same paths on every machine (a shared folder), with this program and requirements-edge.txt installed there.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_app.analysis.models import Models
from edge_app.analysis.results import Picture, Results
from edge_app.analysis.run import Found, Known, PendingFile, collect, contents_of, screen_file
from edge_app.analysis.screen import FileOrigin, retryable
from edge_app.config import InstalledBundle
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["screen_archive"]

BLOCK = 16  # images a worker screens before it hands their records over: what an interruption costs, per worker


class _Worker:
    """Screens the pictures of a row {"number", "file", "known"}.

    `known`: which pictures have their results already, see `_told`. File names travel as bytes: not all are UTF-8.
    """

    def __init__(self, bundles: Sequence[tuple[str, str]], threads: int, regions: bool = False):
        installed = [InstalledBundle(path=Path(bundle), artifact=artifact) for bundle, artifact in bundles]
        self._models = Models.open(installed, threads, regions)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = Path(os.fsdecode(row["file"]))
        sha256 = contents_of(path)
        known = {(name, frame): pictures for name, frame, pictures, of in json.loads(row["known"]) if of == sha256}
        with tempfile.TemporaryDirectory() as folder:
            found = screen_file(self._models, path, sha256, Path(folder), known)
            overlays = [
                b"" if record is None or record.overlay is None else (Path(folder) / record.overlay).read_bytes()
                for record in found.values()
            ]
        return {
            "number": row["number"],
            "sha256": sha256 or "",
            "pictures": json.dumps(list(found)),
            "records": ["" if record is None else record.to_json() for record in found.values()],
            "overlays": overlays,
        }


def _told(records: Mapping[Picture, ScreeningRecord]) -> str:
    """What a worker must know of earlier records: bundle, picture, of how many, and of which contents."""
    return json.dumps([(*each, record.pictures, record.sha256) for each, record in records.items()])


def screen_archive(
    models: Models,
    files: Sequence[Path],
    results: Results,
    overwrite: bool = False,
    *,
    workers: int = 2,
    threads: int = 1,
    address: str | None = None,
) -> Iterator[list[ScreeningRecord]]:
    """Yields the records of each file, in order; they are stored before they are handed on, as `run.run` does.

    A file whose worker died (out of memory, a machine that vanished) becomes "not analysed", as do the others of its
    block of `BLOCK`, and is tried again by the next run.

    Args:
        workers: processes that screen, each on `threads` cores.
        address: of a running Ray cluster ("auto": the one this machine belongs to); None: on this machine alone.

    Raises:
        RealMNetError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise RealMNetError(f"--engine ray needs the package ray[data] (pip install 'ray[data]'): {error}") from error
    try:
        ray.init(address, log_to_driver=False, include_dashboard=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise RealMNetError(f"no Ray cluster at {address!r}: {error}") from error

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.max_errored_blocks = -1  # the images of a lost block get their record here
    context.enable_progress_bars = False
    known = ({} if overwrite else results.of_path(path) for path in files)
    rows = [
        {
            "number": number,
            "file": os.fsencode(path.absolute()),
            "known": _told({each: record for each, record in records.items() if not retryable(record)}),
        }
        for number, (path, records) in enumerate(zip(files, known, strict=True))
    ]
    bundles = [(str(bundle.directory.absolute()), artifact.name) for bundle, artifact in models.described]
    answers = ray.data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // BLOCK))).map(
        _Worker,  # type: ignore[arg-type]
        fn_constructor_args=(bundles, threads, models.regions),
        concurrency=workers,
        num_cpus=threads,
    )
    return collect(models, _pending(files, iter(answers.iter_rows()), models, results), results, overwrite)


def _pending(
    files: Sequence[Path], answers: Iterator[dict[str, Any]], models: Models, results: Results
) -> Iterator[PendingFile]:
    """Answers in the order of `files`, with those that a dead worker left out."""
    answer = next(answers, None)
    for number, path in enumerate(files):
        if answer is None or answer["number"] != number:
            sha256 = contents_of(path)
            yield path, sha256, partial(_lost, models, path, sha256)
            continue
        yield path, answer["sha256"] or None, partial(_received, answer, results.overlays)
        answer = next(answers, None)


def _lost(models: Models, path: Path, sha256: str | None, known: Known) -> Found:
    """What is known stays; one record says that there is no result of the bundles that it would go to, whichever."""
    error = RealMNetError("the worker that screened this image died; screen it again")
    unasked = [name for name in models.names if (name, 1) not in known][:1]
    lost = {(name, 1): models.of(name).failure(path, sha256, error, FileOrigin.of(path)) for name in unasked}
    return {**dict.fromkeys(known), **lost}


def _received(answer: dict[str, Any], overlays: Path, known: Known) -> Found:
    found: Found = {}
    for picture, text, overlay in zip(
        json.loads(answer["pictures"]), answer["records"], answer["overlays"], strict=True
    ):
        record = ScreeningRecord.from_dict(json.loads(text)) if text and tuple(picture) not in known else None
        if record is not None and record.overlay is not None:
            (overlays / record.overlay).write_bytes(overlay)
        found[tuple(picture)] = record
    return found
