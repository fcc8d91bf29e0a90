"""What the box is doing, on one screen of a terminal, and what is wrong with it."""

import fcntl
from datetime import datetime
from itertools import groupby
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edge_app.analysis.models import described
from edge_app.config import Config
from edge_app.health import drift
from edge_app.present.terms import OUTCOME_NAMES, OUTCOME_STYLES, local_time
from edge_app.store.durable import free_bytes, has_room
from edge_app.store.records import Result
from edge_app.store.store import Counts, Store
from keras_realmnet.errors import RealMNetError

__all__ = ["is_running", "problems", "show", "skipped_files"]

SLOW_SECONDS = 600.0  # an image that has waited so long is a problem to tell
CLOCK_SECONDS = 60.0  # a stored moment that is so far ahead tells that the clock has been set back
RESULTS = 10


def problems(config: Config, store: Store) -> list[str]:
    """What keeps the box from its work, one line each, as far as its data tell; without patient data."""
    found = []
    if not has_room(config.data_dir, config.disk.free_mb):
        found.append(f"less than {config.disk.free_mb:,} MB of disk are free: nothing is taken in")
    waiting = store.counts().oldest_pending_seconds
    if waiting is not None and waiting > SLOW_SECONDS:
        found.append(f"the oldest image has waited for {waiting / 60:.0f} minutes")
    for name, number in store.out_of_order().items():
        results = f"{number:,} results are" if number > 1 else "1 result is"
        found.append(f"{results} missing: the model {name} was out of order, and they wait for it")
    for outgoing in store.waiting_deliveries():
        if outgoing.oldest_seconds > config.delivery.alarm_seconds:
            results = f"{outgoing.number:,} results wait" if outgoing.number > 1 else "1 result waits"
            why = f" (last error: {outgoing.last_error})" if outgoing.last_error else ""
            oldest = f"the oldest for {outgoing.oldest_seconds / 60:,.0f} minutes"
            found.append(f"{results} to be sent to {outgoing.destination}, {oldest}{why}")
    ahead = store.from_the_future(CLOCK_SECONDS)
    if ahead:
        found.append(f"the clock has been set back: {ahead:,} waiting images or results bear a later time than now")
    return found


def skipped_files(store: Store) -> list[str]:
    """What watched folders hold that is not taken, one line per folder; no names of files."""
    lines = []
    for folder, group in groupby(store.skipped_files(), lambda each: each.folder):
        kinds = list(group)
        counted = ", ".join(f"{each.number:,} {each.kind}" for each in kinds)
        newest = local_time(max(each.latest for each in kinds))
        lines.append(
            f"not taken from folder {folder}: {counted} (the newest of {newest}) – "
            "export JPEG, PNG, TIFF, BMP or DICOM instead"
        )
    return lines


def is_running(data_dir: Path) -> bool:
    """Whether a box works in this folder."""
    with (data_dir / "serve.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def show(config: Config, console: Console, patients: bool) -> int:
    """Prints the state of a box; returns 0 where all is well, else 1.

    Args:
        patients: also show patient numbers.

    Raises:
        RealMNetError: no box has ever run there.
    """
    if not (config.data_dir / "box.sqlite").is_file():
        raise RealMNetError(f"{config.data_dir}: no box has run here yet")
    store = Store(config.data_dir)
    found = problems(config, store)
    if not is_running(config.data_dir):
        found.insert(0, "the box is not running")
    counts = store.counts()
    waiting = max((outgoing.oldest_seconds for outgoing in store.waiting_deliveries()), default=None)
    if counts.deliveries["dead"]:
        found.append(f"{counts.deliveries['dead']} deliveries were given up: see the outbox on the web page")
    health = Text("\n".join(found), "bold red") if found else Text("healthy", "bold green")
    numbers = _numbers(config, counts, waiting)
    noted = [*skipped_files(store), *_drift_warnings(config, store)]
    notes = [Text(f"{line}\n", "yellow") for line in noted]
    console.print(Group(health, Text(), numbers, Text(), *notes, _results(store.latest(RESULTS), patients)))
    return 1 if found else 0


def _drift_warnings(config: Config, store: Store) -> list[str]:
    try:
        return drift.warnings(drift.drifts(store, described(config.installed)))
    except RealMNetError as error:
        return [f"whether pictures have changed cannot be told: {error}"]


def _numbers(config: Config, counts: Counts, oldest_delivery: float | None) -> Table:
    free = free_bytes(config.data_dir)
    table = Table.grid(padding=(0, 2))
    for name, value in (
        (
            "queue",
            f"{counts.items['pending']} waiting, {counts.items['screening']} being screened"
            + _oldest(counts.oldest_pending_seconds),
        ),
        (
            "screened",
            f"{counts.items['done']}, the last {local_time(counts.last_success) if counts.last_success else 'never'}",
        ),
        ("quarantine", f"{counts.items['quarantined']}"),
        (
            "outbox",
            f"{counts.deliveries['pending']} waiting{_oldest(oldest_delivery)}; "
            f"{counts.deliveries['delivered']} delivered, {counts.deliveries['dead']} given up",
        ),
        ("clock", f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}; all times here are in this time zone"),
        ("disk", f"{free >> 20:,} MB free, nothing is taken in below {config.disk.free_mb:,} MB"),
    ):
        table.add_row(Text(name, "bold"), value)
    return table


def _oldest(seconds: float | None) -> str:
    return "" if seconds is None else f", the oldest for {seconds:.0f} s"


def _results(results: list[Result], patients: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Item", "Screened", "Result", "Eye", *(("Patient",) if patients else ())):
        table.add_column(heading)
    for result in results:
        record = result.record
        outcome = Text(OUTCOME_NAMES[record.outcome], OUTCOME_STYLES[record.outcome])
        patient = (Text(record.patient_id or "?"),) if patients else ()
        table.add_row(str(result.item.id), local_time(record.screened_at), outcome, record.eye or "?", *patient)
    return table
