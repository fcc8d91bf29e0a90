"""Time of the resampling methods on a data set of PSMM's size, against plain Python loops over the same draws.

`python -m training.benchmarks.resampling [--labels FILE]... [--repeats 5]`: without label lists, on 43,371 rows with
PSMM's label combinations. The loops follow the published pseudocode row by row and share nothing with
`training.data.resampling` but the draws, so that the tests can ask for equal results. Their time ends with a list of
rows; ours includes the new table with its names and patients.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_realmnet.command_line import run
from training.data.label_table import LabelTable, concatenate, read_label_table
from training.data.resampling import Resampling, imbalance

__all__ = ["LOOPS", "benchmark", "loop_imbalance", "psmm_sized_table"]

Rows = list[tuple[int, tuple[int, ...]]]  # index of the original row, and its labels

ROWS = 43_371  # PSMM, all sets
COMBINATIONS = {  # of labels, with their images in PSMM's training set
    "S0 A0": 1436,
    "S0 A1": 18327,
    "S0 A2": 35,
    "S0 A3": 75,
    "S1 A1": 3821,
    "S1 A2": 4322,
    "S1 A3": 1836,
    "S1 A4": 568,
}


def psmm_sized_table(rows: int = ROWS, seed: int = 0) -> LabelTable:
    """`rows` images with PSMM's label combinations at random, ten to a patient."""
    rng = np.random.default_rng(seed)
    weights = np.array(list(COMBINATIONS.values()))
    codes = LabelTable.label_set.codes
    vectors = np.array([[code in names.split() for code in codes] for names in COMBINATIONS], np.uint8)
    numbers = np.arange(rows)
    return LabelTable(
        labels=vectors[rng.choice(len(vectors), rows, p=weights / weights.sum())],
        names=np.char.mod("%d.jpg", numbers),
        patients=np.char.mod("benchmark-%d", numbers // 10),
        origins=np.char.mod("benchmark:%d", numbers + 2),
    )


def loop_imbalance(labels: list[tuple[int, ...]]) -> tuple[list[int], list[float], float, list[float]]:
    """Counts, IRLbl, MeanIR and the SCUMBLE of every row; every label must occur."""
    counts = [0] * len(labels[0])
    for row in labels:
        for k, value in enumerate(row):
            counts[k] += value
    irlbl = [max(counts) / count for count in counts]
    mean_ir = sum(irlbl) / len(irlbl)
    scumble = []
    for row in labels:
        present = [irlbl[k] for k, value in enumerate(row) if value]
        product = 1.0
        for ratio in present:
            product *= ratio
        scumble.append(1 - product ** (1 / len(present)) / (sum(present) / len(present)) if present else 0.0)
    return counts, irlbl, mean_ir, scumble


def _loop_bags(labels: list[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    bags: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(labels):
        bags.setdefault(row, []).append(i)
    return dict(sorted(bags.items()))


def _loop_shares(room: list[int], quota: int) -> list[int]:
    mean = quota // len(room) if room else 0
    extra = [0] * len(room)
    shares = []
    for i in range(len(room)):
        share = min(room[i], mean)
        remainder = mean - share
        if remainder == 0:
            more = min(room[i] - share, extra[i])
            share += more
            remainder = extra[i] - more
        following = list(range(i + 1, len(room)))
        for j in following:
            extra[j] += remainder // len(following)
        for j in following[len(following) - remainder % len(following) :] if following else []:
            extra[j] += 1
        shares.append(share)
    return shares


def _loop_lp_ros(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    bags = _loop_bags(labels)
    mean = -(-len(labels) // len(bags))
    rare = sorted((bag for bag in bags.values() if len(bag) < mean), key=lambda bag: -len(bag))
    rows = list(enumerate(labels))
    shares = _loop_shares([mean - len(bag) for bag in rare], int(len(labels) * percent / 100))
    for bag, share in zip(rare, shares, strict=True):
        for place in rng.integers(0, len(bag), share).tolist():
            rows.append((bag[place], labels[bag[place]]))
    return rows


def _loop_lp_rus(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    bags = _loop_bags(labels)
    mean = len(labels) // len(bags)
    frequent = sorted((bag for bag in bags.values() if len(bag) > mean), key=len)
    shares = _loop_shares([len(bag) - mean for bag in frequent], int(len(labels) * percent / 100))
    deleted = set()
    for bag, share in zip(frequent, shares, strict=True):
        for i in rng.choice(bag, share, replace=False).tolist():
            deleted.add(i)
    return [(i, row) for i, row in enumerate(labels) if i not in deleted]


def _loop_ml_ros(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    counts, irlbl, mean_ir, _ = loop_imbalance(labels)
    quota = int(len(labels) * percent / 100)
    bags = {}
    for k in range(len(counts)):
        if irlbl[k] > mean_ir:
            bag = [i for i, row in enumerate(labels) if row[k]]
            bags[k] = (bag, iter(rng.integers(0, len(bag), quota).tolist()))
    rows = list(enumerate(labels))
    while quota > 0 and bags:
        for k in list(bags):
            if quota == 0:
                break
            bag, draws = bags[k]
            i = bag[next(draws)]
            rows.append((i, labels[i]))
            for label, value in enumerate(labels[i]):
                counts[label] += value
            if max(counts) / counts[k] <= mean_ir:
                del bags[k]
            quota -= 1
    return rows


def _loop_ml_rus(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    counts, irlbl, mean_ir, _ = loop_imbalance(labels)
    quota = int(len(labels) * percent / 100)
    bags = {}
    for k in range(len(counts)):
        if irlbl[k] < mean_ir:
            bags[k] = iter(rng.permutation([i for i, row in enumerate(labels) if row[k]]).tolist())
    deleted = set()
    while quota > 0 and bags:
        for k in list(bags):
            if quota == 0:
                break
            i = next(bags[k])
            if i not in deleted:
                deleted.add(i)
                for label, value in enumerate(labels[i]):
                    counts[label] -= value
            if counts[k] == 0 or max(counts) / counts[k] >= mean_ir:
                del bags[k]
            quota -= 1
    return [(i, row) for i, row in enumerate(labels) if i not in deleted]


def _loop_remedial(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    _, irlbl, mean_ir, scumble = loop_imbalance(labels)
    mean = sum(scumble) / len(scumble)
    rows, copies = [], []
    for i, row in enumerate(labels):
        if scumble[i] > mean + 1e-12:
            rows.append((i, tuple(value if irlbl[k] <= mean_ir else 0 for k, value in enumerate(row))))
            copies.append((i, tuple(value if irlbl[k] > mean_ir else 0 for k, value in enumerate(row))))
        else:
            rows.append((i, row))
    return rows + copies


def _loop_remedial_hwr(labels: list[tuple[int, ...]], percent: float, rng: np.random.Generator) -> Rows:
    split = _loop_remedial(labels, percent, rng)
    return [(split[i][0], row) for i, row in _loop_ml_ros([row for _, row in split], percent, rng)]


LOOPS: dict[str, Callable[[list[tuple[int, ...]], float, np.random.Generator], Rows]] = {
    "lp-ros": _loop_lp_ros,
    "lp-rus": _loop_lp_rus,
    "ml-ros": _loop_ml_ros,
    "ml-rus": _loop_ml_rus,
    "remedial": _loop_remedial,
    "remedial-hwr": _loop_remedial_hwr,
}


def benchmark(table: LabelTable, percent: float = 20.0, repeats: int = 5) -> dict[str, tuple[float, float]]:
    """Seconds of one call, ours and the loop's; the median of `repeats` calls of each."""
    labels = [tuple(row) for row in table.labels.tolist()]
    times = {"measures": (_median(repeats, imbalance, table), _median(repeats, loop_imbalance, labels))}
    for method, loop in LOOPS.items():
        ours = _median(repeats, Resampling(method, percent).apply, table)
        times[method] = (ours, _median(repeats, lambda loop=loop: loop(labels, percent, np.random.default_rng(42))))
    return times


def _median(repeats: int, function: Callable[..., Any], *args: Any) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*args)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


app = typer.Typer(help="Time of the resampling methods against plain Python loops.", rich_markup_mode="rich")


@app.command()
def main(
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label list; repeatable. Default: 43,371 rows like PSMM's.")
    ] = None,
    percent: Annotated[float, typer.Option(min=0, max=100, help="Of the rows, to clone or delete.")] = 20.0,
    repeats: Annotated[int, typer.Option(min=1, help="Calls of each, of which the median counts.")] = 5,
) -> None:
    """Print milliseconds of each method, ours and as a plain loop.

    [bold]Example[/bold]: python -m training.benchmarks.resampling --labels train.csv
    """
    from rich.console import Console
    from rich.table import Table

    table = concatenate(read_label_table(path) for path in labels) if labels else psmm_sized_table()
    grid = Table(title=f"{len(table):,} rows, {percent:g} %, median of {repeats}")
    for column in ("method", "ms", "loop, ms", "times faster"):
        grid.add_column(column, justify="left" if column == "method" else "right")
    for method, (ours, loop) in benchmark(table, percent, repeats).items():
        grid.add_row(method, f"{1e3 * ours:.1f}", f"{1e3 * loop:.0f}", f"{loop / ours:.0f}")
    Console().print(grid)


if __name__ == "__main__":
    raise SystemExit(run(app, "python -m training.benchmarks.resampling"))
