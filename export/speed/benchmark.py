"""How long it takes: artifacts of a bundle and peers, each in a process of its own, taking short turns on real images.

A machine's speed drifts by more than engines differ, so only what was interleaved is compared: in each round every
engine has one turn while the others wait, and ratios of medians come with intervals from resampling whole rounds.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from export.speed.board import PowerLog
from export.speed.contestants import Contestant
from export.speed.networks.peers import PEERS
from export.speed.process.worker import Worker
from keras_realmnet.errors import RealMNetError

__all__ = ["PROCESSES", "SCENARIOS", "Measured", "benchmark", "check_scenario", "profile"]

# MLPerf's rules for the edge: one image after the other, eight at a time, or as many a second as possible.
SCENARIOS = {"singlestream": 1, "multistream": 8, "offline": 1}  # images in one query
TURN_SECONDS = 0.4  # of a turn in a comparison
PROCESSES = 3  # of an engine, one after the other: two of the same engine differ by a few percent


@dataclass
class Measured:
    """What was measured of one contestant on `threads` cores, or `error`: why nothing was.

    Milliseconds: `inference` by round, `stages` of single images, `queries` by round (one or eight images). `offline`:
    images per second. `memory_mb`: peak of its process. `power`: see `board.PowerLog.between`, with "joules_per_image".
    `operators`: see `profile`.
    """

    contestant: Contestant
    threads: int
    inference: list[list[float]] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    queries: list[list[float]] = field(default_factory=list)
    offline: list[float] = field(default_factory=list)
    memory_mb: float | None = None
    warm_up_s: float | None = None
    power: dict[str, float] | None = None
    error: str | None = None
    operators: list[dict[str, Any]] | None = None


def check_scenario(scenario: str) -> None:
    """Refuses one that is not in `SCENARIOS`."""
    if scenario not in SCENARIOS:
        raise RealMNetError(f"scenario must be one of {', '.join(SCENARIOS)}. Received: {scenario!r}")


def benchmark(
    contestants: Sequence[Contestant],
    files: Sequence[Path],
    scenario: str = "singlestream",
    threads: Sequence[int] = (1,),
    queries: int = 50,
    rounds: int = 12,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Measured]:
    """Measures every contestant on every number of threads; the groups of equal threads one after the other.

    In each of the `rounds` every contestant has one turn: about `TURN_SECONDS` of inference alone, on images that were
    read before, and its share of the `queries` of the scenario, through all stages from the file on. After a third of
    the rounds, and again, every contestant gets a new process, so that the luck of one with its memory is averaged.

    Raises:
        RealMNetError: an unknown scenario.
    """
    check_scenario(scenario)
    results = []
    for count in threads:
        tell(f"{len(contestants)} engines on {count} thread{'s' if count > 1 else ''}")
        with PowerLog() as log:
            comparison = _Comparison(contestants, files, scenario, count, queries, rounds, tell)
            results += comparison.measure(log)
    return results


def profile(
    results: Iterable[Measured], files: Sequence[Path], tell: Callable[[str], None] = lambda line: None
) -> None:
    """Adds the time by operator to each of `results`, in a process of its own; `tell` says of which there is none."""
    for result in results:
        if result.error is None:
            try:
                with closing(Worker(result.contestant, result.threads)) as worker:
                    worker.ask("prepare", files=[str(files[0])])
                    result.operators = worker.ask("profile")
            except RealMNetError as error:
                tell(f"{result.contestant.name}: no profile: {error}")


class _Comparison:
    """Contestants on the same number of threads, in turns. Who fails has an error for a result; the others go on."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        files: Sequence[Path],
        scenario: str,
        threads: int,
        queries: int,
        rounds: int,
        tell: Callable[[str], None],
    ):
        self._names = [str(file) for file in files]
        self._scenario, self._queries, self._rounds, self._tell = scenario, queries, rounds, tell
        self._results = [Measured(contestant, threads) for contestant in contestants]
        self._turns: list[list[tuple[float, float]]] = [[] for _ in contestants]  # from when to when, of each one
        self._workers: dict[int, Worker] = {}  # by the place of its contestant, of those that have not failed
        self._counts: dict[int, int] = {}  # inferences of a turn

    def measure(self, log: PowerLog) -> list[Measured]:
        """All rounds, each part of them with new processes."""
        parts = min(PROCESSES, self._rounds)
        for part in range(parts):
            self._run(range(part * self._rounds // parts, (part + 1) * self._rounds // parts))
        for result, turns in zip(self._results, self._turns, strict=True):
            if result.error is None:
                result.power = _power(log, turns, result)
        return self._results

    def _run(self, rounds: range) -> None:
        """Some of the rounds, with a new process for every contestant that has not failed."""
        self._workers.clear()
        with ExitStack() as stack:
            running = [k for k, result in enumerate(self._results) if result.error is None]
            self._in_turn(running, lambda k: self._start(k, stack))
            for number in rounds:
                share = range(number * self._queries // self._rounds, (number + 1) * self._queries // self._rounds)
                order = 1 if number % 2 else -1
                self._in_turn(list(self._workers)[::order], self._infer)
                if share:
                    self._in_turn(list(self._workers)[::order], partial(self._query, numbers=share))
                self._tell(f"round {number + 1} of {self._rounds}")
            self._in_turn(list(self._workers), self._end)

    def _in_turn(self, order: Iterable[int], step: Callable[[int], None]) -> None:
        for k in order:
            try:
                step(k)
            except RealMNetError as error:  # killed for want of memory, say
                failed = self._results[k]
                self._results[k] = Measured(failed.contestant, failed.threads, error=str(error))
                self._workers.pop(k, None)
                self._tell(f"{failed.contestant.name}: {error}")

    def _start(self, k: int, stack: ExitStack) -> None:
        result, began = self._results[k], time.monotonic()
        worker = Worker(result.contestant, result.threads)
        stack.callback(worker.close)
        worker.ask("prepare", files=self._names)
        worker.ask("inference", count=3)  # compiles, packs, allocates
        typical = float(np.median(worker.ask("inference", count=3)))
        self._workers[k], self._counts[k] = worker, int(np.clip(TURN_SECONDS * 1000 / typical, 2, 50))
        worker.spans.clear()
        if result.warm_up_s is None:
            result.warm_up_s = time.monotonic() - began
            self._tell(f"{result.contestant.name}: ready, about {typical:.0f} ms")

    def _infer(self, k: int) -> None:
        self._results[k].inference.append(self._workers[k].ask("inference", count=self._counts[k]))

    def _query(self, k: int, numbers: range) -> None:
        """The queries with these numbers, through all stages; images in turn."""
        worker, result, names = self._workers[k], self._results[k], self._names
        if result.contestant.engine in PEERS:  # they have no stages
            return
        if self._scenario == "offline":
            result.offline.append(worker.ask("offline", files=names, count=len(numbers)))
            return
        images, times = SCENARIOS[self._scenario], []
        for query in numbers:
            chosen = [names[(query * images + k) % len(names)] for k in range(images)]
            stages = worker.ask("stages", files=chosen)
            result.stages += stages
            times.append(sum(stage["total"] for stage in stages))
        result.queries.append(times)

    def _end(self, k: int) -> None:
        self._results[k].memory_mb = max(self._results[k].memory_mb or 0.0, self._workers[k].ask("memory"))
        self._turns[k] += self._workers[k].spans


def _power(log: PowerLog, turns: Sequence[tuple[float, float]], result: Measured) -> dict[str, float] | None:
    """Means over its turns. Joules are those of its inference turns, everything the board takes included."""
    found = log.between(turns)
    if found is not None and "watts" in found and result.inference:
        found["joules_per_image"] = found["watts"] * float(np.mean(np.concatenate(result.inference))) / 1000
    return found
