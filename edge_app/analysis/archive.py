"""Screens an archive on a cluster with Ray Data: the same path, the same records, in the same order as on one machine.

Each Ray worker opens the bundle once and screens images; this process alone keeps the records. Bundle and images must
be at the same paths on every machine (a shared folder), with this program and requirements-edge.txt installed there.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_app.analysis.results import Results
from edge_app.analysis.screen import PendingImage, Screener, contents_of, retryable
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["screen_archive"]

BLOCK = 16  # images a worker screens before it hands their records over: what an interruption costs, per worker


class _Worker:
    """Screens the pictures of a row {"number", "file", "known"}.

    `known`: SHA-256 of contents that have a record already, or "". File names travel as bytes: not all are UTF-8.
    """

    def __init__(self, bundle: str, artifact: str, threads: int):
        self._screener = Screener.open(Path(bundle), artifact, threads)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = Path(os.fsdecode(row["file"]))
        sha256 = contents_of(path) or ""
        answer = {"number": row["number"], "sha256": sha256, "records": [], "overlays": []}
        if sha256 and sha256 == row["known"]:
            return answer
        with tempfile.TemporaryDirectory() as folder:
            records = self._screener.screen_file(path, sha256 or None, Path(folder))
            overlays = [b"" if each.overlay is None else (Path(folder) / each.overlay).read_bytes() for each in records]
        return {**answer, "records": [record.to_json() for record in records], "overlays": overlays}


def screen_archive(
    screener: Screener,
    files: Sequence[Path],
    results: Results,
    overwrite: bool = False,
    *,
    workers: int = 2,
    threads: int = 1,
    address: str | None = None,
) -> Iterator[list[ScreeningRecord]]:
    """Yields the records of each file, in order; they are stored before they are handed on, as `Screener.run` does.

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
    known = ([] if overwrite else results.of_path(path) for path in files)
    rows = [
        {
            "number": number,
            "file": os.fsencode(path.absolute()),
            "known": "" if not records or any(map(retryable, records)) else records[0].sha256 or "",
        }
        for number, (path, records) in enumerate(zip(files, known, strict=True))
    ]
    answers = ray.data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // BLOCK))).map(
        _Worker,  # type: ignore[arg-type]
        fn_constructor_args=(str(screener.bundle.directory.absolute()), screener.artifact, threads),
        concurrency=workers,
        num_cpus=threads,
    )
    return screener.collect(_images(files, iter(answers.iter_rows()), screener, results), results, overwrite)


def _images(
    files: Sequence[Path], answers: Iterator[dict[str, Any]], screener: Screener, results: Results
) -> Iterator[PendingImage]:
    """Answers in the order of `files`, with those that a dead worker left out."""
    answer = next(answers, None)
    for number, path in enumerate(files):
        if answer is None or answer["number"] != number:
            sha256 = contents_of(path)
            yield path, sha256, partial(_lost_records, screener, path, sha256)
            continue
        yield path, answer["sha256"] or None, partial(_received_records, answer, results.overlays)
        answer = next(answers, None)


def _lost_records(screener: Screener, path: Path, sha256: str | None) -> list[ScreeningRecord]:
    return [screener.failure(path, sha256, RealMNetError("the worker that screened this image died; screen it again"))]


def _received_records(answer: dict[str, Any], overlays: Path) -> list[ScreeningRecord]:
    records = [ScreeningRecord.from_dict(json.loads(text)) for text in answer["records"]]
    for record, overlay in zip(records, answer["overlays"], strict=True):
        if record.overlay is not None:
            (overlays / record.overlay).write_bytes(overlay)
    return records
