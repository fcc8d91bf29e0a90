"""How unbalanced a multi-label data set is, and random resampling that makes it less so. For training sets only.

Measures and methods: Charte et al., Neurocomputing 163, 2015 (IRLbl, MeanIR, LP-ROS, LP-RUS, ML-ROS, ML-RUS), HAIS 2014
(SCUMBLE) and Neurocomputing 326, 2019 (REMEDIAL). Oversamplers append their clones after the original rows;
undersamplers keep the order of the rows that stay. RealMNet trains on ML-RUS with 20 %.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from training.data.label_table import LabelTable, concatenate

__all__ = [
    "METHODS",
    "Imbalance",
    "Resampling",
    "imbalance",
    "lp_ros",
    "lp_rus",
    "ml_ros",
    "ml_rus",
    "print_imbalance",
    "remedial",
]


# ---- measures ----


@dataclass(frozen=True)
class Imbalance:
    """Imbalance of a label matrix; arrays are float64 (classes,) in label order, `count` int64.

    `count`: images with the label. `irlbl`: largest count / count, ≥ 1; infinite for a label that no image has.
    `mean_ir`: mean of `irlbl` over the labels that occur. `scumble`: 0–1, how much rare and frequent labels share
    images. `scumble_lbl`: the same over the images with the label; NaN for a label that no image has. `cardinality`:
    labels per image; `density`: the same per class.
    """

    images: int
    count: NDArray[np.int64]
    irlbl: NDArray[np.float64]
    mean_ir: float
    scumble: float
    scumble_lbl: NDArray[np.float64]
    cardinality: float
    density: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: what is infinite or not defined becomes None."""
        return {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            if isinstance(values, np.ndarray)
            else values
            for name, values in vars(self).items()
        }


def imbalance(table: LabelTable | NDArray[np.integer]) -> Imbalance:
    """Measures the imbalance of a label list.

    IRLbl(l) = max count / count(l). MeanIR = its mean; a label without images is left out (the R package mldr counts
    it as 0, which makes every other label look rare). SCUMBLE of an image = 1 − geometric mean / arithmetic mean of
    IRLbl over the labels it has, 0 without labels; of the data set = mean over images.

    With one label on all of four images and another on one of them: IRLbl 1 and 4, MeanIR 2.5; SCUMBLE of the image
    with both 1 − √4/2.5 = 0.2, of the data set 0.05; SCUMBLELbl 0.05 and 0.2.

    Args:
        table: a label list, or its labels alone: (n, classes), 0 or 1.

    Raises:
        DataSetError: no image has a label.
    """
    labels = table.labels if isinstance(table, LabelTable) else np.asarray(table)
    count = labels.sum(axis=0, dtype=np.int64)  # (classes,)
    if not count.any():
        raise DataSetError(f"imbalance needs at least one image with a label. Received: {len(labels)} images")
    irlbl = np.divide(count.max(), count, out=np.full(len(count), np.inf), where=count > 0)
    scumble = _scumble(labels, irlbl)
    cardinality = float(count.sum() / len(labels))
    return Imbalance(
        images=len(labels),
        count=count,
        irlbl=irlbl,
        mean_ir=float(irlbl[count > 0].mean()),
        scumble=float(scumble.mean()),
        scumble_lbl=np.divide(scumble @ labels, count, out=np.full(len(count), np.nan), where=count > 0),
        cardinality=cardinality,
        density=cardinality / len(count),
    )


def _scumble(labels: NDArray[np.integer], irlbl: NDArray[np.float64]) -> NDArray[np.float64]:
    """SCUMBLE of each image, (n,). The published product over all labels would be 0: it runs over those present."""
    irlbl = np.where(np.isfinite(irlbl), irlbl, 1.0)  # of labels that no image has
    present = np.maximum(labels.sum(axis=1), 1)  # (n,)
    geometric = np.exp(labels @ np.log(irlbl) / present)
    arithmetic = labels @ irlbl / present
    return np.maximum(1 - geometric / np.maximum(arithmetic, 1), 0) * labels.any(axis=1)  # never −1e-16


# ---- by label powerset: bags of the images with the same labels ----


def lp_ros(table: LabelTable, percent: float, rng: np.random.Generator) -> LabelTable:
    """LP-ROS: clones images of label powersets smaller than the mean, up to the mean; about `percent` % more images."""
    bags = _powersets(table.labels)
    mean = math.ceil(len(table) / len(bags))
    bags = sorted((bag for bag in bags if len(bag) < mean), key=len, reverse=True)
    shares = _shares([mean - len(bag) for bag in bags], int(len(table) * percent / 100))
    return _with_clones(table, [rng.choice(bag, share) for bag, share in zip(bags, shares, strict=True)])


def lp_rus(table: LabelTable, percent: float, rng: np.random.Generator) -> LabelTable:
    """LP-RUS: deletes images of label powersets larger than the mean, down to the mean; up to `percent` % of all."""
    bags = _powersets(table.labels)
    mean = len(table) // len(bags)
    bags = sorted((bag for bag in bags if len(bag) > mean), key=len)
    shares = _shares([len(bag) - mean for bag in bags], int(len(table) * percent / 100))
    deleted = [rng.choice(bag, share, replace=False) for bag, share in zip(bags, shares, strict=True)]
    return _without(table, deleted)


def _powersets(labels: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """The rows of each combination of labels that occurs."""
    powerset = labels @ (1 << np.arange(labels.shape[1], dtype=np.int64)[::-1])  # (n,), up to 63 labels
    order = np.argsort(powerset, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(powerset[order])) + 1)


def _shares(room: list[int], quota: int) -> list[int]:
    """How many of `quota` images each bag takes, at most its room; bags in the order of rising room.

    Each bag's share is quota // bags. What a bag cannot take of it is handed to the bags after it in equal parts; so
    is what a bag, having taken its own share, cannot take of what it was handed. A bag too small for its own share
    drops what it was handed, as in the public Python implementation, whose split among one bag too many is corrected
    here: room 19, 520, 14525 and quota 6084 give 19, 520, 4541, in all 5080 (there: 3991).
    """
    shares, handed = [], np.zeros(len(room), np.int64)
    for k, space in enumerate(room):
        share = quota // len(room)
        take = min(space, share + int(handed[k]))
        rest = max(share - space, 0) or share + int(handed[k]) - take
        later = len(room) - k - 1
        if later:
            handed[k + 1 :] += rest // later
            handed[len(room) - rest % later :] += 1
        shares.append(take)
    return shares


# ---- by label: bags of the images with a label, which may share images ----


def ml_ros(table: LabelTable, percent: float, rng: np.random.Generator) -> LabelTable:
    """ML-ROS: clones images of the rare labels, those with IRLbl > MeanIR; at most `percent` % more images.

    One random image of each rare label in turn, with replacement; a label takes part until its IRLbl has fallen to
    the MeanIR of the start. Labels without images stay without.
    """
    measures = imbalance(table)
    quota = int(len(table) * percent / 100)
    streams = {}
    for k in np.flatnonzero((measures.irlbl > measures.mean_ir) & (measures.count > 0)).tolist():
        bag = np.flatnonzero(table.labels[:, k])
        streams[k] = bag[rng.integers(0, len(bag), quota)]
    clones = _take_turns(table.labels, streams, quota, 1, lambda irlbl: irlbl <= measures.mean_ir)
    return _with_clones(table, clones)


def ml_rus(table: LabelTable, percent: float, rng: np.random.Generator) -> LabelTable:
    """ML-RUS: deletes images of the frequent labels, those with IRLbl < MeanIR; at most `percent` % of all.

    One random image of each frequent label in turn, without replacement within the label, `percent` % of n draws in
    all; a label takes part until its IRLbl has risen to the MeanIR of the start. An image may be drawn once for each of
    its labels, so fewer are deleted than drawn: of PSMM's 30,420 training images about 5,731 with 6,084 draws.
    """
    measures = imbalance(table)
    frequent = np.flatnonzero(measures.irlbl < measures.mean_ir).tolist()
    streams = {k: rng.permutation(np.flatnonzero(table.labels[:, k])) for k in frequent}
    quota = int(len(table) * percent / 100)
    return _without(table, _take_turns(table.labels, streams, quota, -1, lambda irlbl: irlbl >= measures.mean_ir))


def _take_turns(
    labels: NDArray[np.uint8],
    streams: Mapping[int, NDArray[np.intp]],
    quota: int,
    step: int,
    leaves: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
) -> list[NDArray[np.intp]]:
    """Rows drawn from the bags in turn until `quota` are drawn or no bag is left.

    All draws up to the next departure of a bag are made at once: a bag leaves at most once, so there are few steps.

    Args:
        labels: (n, classes), at the start.
        streams: by label, the rows of its bag in the order they are drawn.
        quota: draws in all.
        step: 1 where a drawn row is cloned, −1 where it is deleted (the first time it is drawn).
        leaves: whether a bag leaves, given its label's IRLbl after its draw; (m,) to (m,).
    """
    counts = labels.sum(axis=0, dtype=np.int64)
    turns = list(streams)  # labels whose bags take part, the next one first
    used = np.zeros(len(counts), np.int64)
    gone = np.zeros(len(labels), bool)
    drawn = []
    while quota > 0 and turns:
        rounds = min(math.ceil(quota / len(turns)), *(len(streams[k]) - used[k] for k in turns))
        rows = np.stack([streams[k][used[k] : used[k] + rounds] for k in turns], axis=1).ravel()[:quota]  # (m,)
        bags = np.tile(turns, rounds)[:quota]  # (m,)
        change = step * labels[rows].astype(np.int64)  # (m, classes)
        if step < 0:
            first = np.zeros(len(rows), bool)
            first[np.unique(rows, return_index=True)[1]] = True
            change[~first | gone[rows]] = 0
        after = counts + np.cumsum(change, axis=0)  # (m, classes)
        own = np.take_along_axis(after, bags[:, None], axis=1)[:, 0]
        irlbl = np.divide(after.max(axis=1), own, out=np.full(len(own), np.inf), where=own > 0)
        left = leaves(irlbl)
        done = int(left.argmax()) + 1 if left.any() else len(rows)
        drawn.append(rows[:done])
        gone[rows[:done]] = True
        counts = after[done - 1]
        used += np.bincount(bags[:done], minlength=len(counts))
        quota -= done
        if left.any():
            place = (done - 1) % len(turns)
            turns = turns[place + 1 :] + turns[:place]
    return drawn


# ---- by co-occurrence ----


def remedial(table: LabelTable) -> LabelTable:
    """REMEDIAL: images whose SCUMBLE exceeds the data set's are split in two rows of the same image.

    The row itself keeps the labels with IRLbl ≤ MeanIR, a copy at the end the others. A half may be left without a
    label and stays: 4,357 of the 38,692 rows that PSMM's training set becomes.
    """
    measures = imbalance(table)
    high = _scumble(table.labels, measures.irlbl) > measures.scumble + 1e-12  # equal values differ by rounding
    rare = measures.irlbl > measures.mean_ir
    labels, copies = table.labels.copy(), table.take(high)
    labels[np.ix_(high, rare)] = 0
    rest = copies.labels.copy()
    rest[:, ~rare] = 0
    return concatenate([replace(table, labels=labels), replace(copies, labels=rest)])


# ---- one name for all of them ----

METHODS: Mapping[str, Callable[[LabelTable, float, np.random.Generator], LabelTable]] = {
    "lp-ros": lp_ros,
    "lp-rus": lp_rus,
    "ml-ros": ml_ros,
    "ml-rus": ml_rus,
    "remedial": lambda table, percent, rng: remedial(table),
    "remedial-hwr": lambda table, percent, rng: ml_ros(remedial(table), percent, rng),
}


@dataclass(frozen=True)
class Resampling:
    """A resampling of training rows: `method` of `METHODS`, `percent` (0–100) of the rows, `seed` of the draws.

    REMEDIAL uses neither percent nor seed. REMEDIAL-HwR is REMEDIAL followed by ML-ROS; the choice of ML-ROS is ours.
    """

    method: str
    percent: float = 20.0
    seed: int = 42

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {self.method!r}")
        if not 0 <= self.percent <= 100:
            raise ValueError(f"percent must be between 0 and 100. Received: {self.percent}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative. Received: {self.seed}")

    def apply(self, table: LabelTable) -> LabelTable:
        """The resampled rows. Raises DataSetError where there are none to resample, or no label among them."""
        if not len(table):
            raise DataSetError(f"{self.method}: there are no images to resample")
        return METHODS[self.method](table, self.percent, np.random.default_rng(self.seed))


def print_imbalance(tables: Mapping[str, LabelTable]) -> None:
    """Images, IRLbl and SCUMBLELbl of each label on the terminal, the tables side by side."""
    from rich.console import Console
    from rich.table import Table

    measured = {name: imbalance(table) for name, table in tables.items()}
    grid = Table()
    grid.add_column("label")
    for name in measured:
        for column in ("images", "IRLbl", "SCUMBLELbl"):
            grid.add_column(f"{name}\n{column}" if name else column, justify="right")
    for k, code in enumerate(next(iter(tables.values())).label_set.codes):
        cells = [
            (f"{m.count[k]:,}", f"{m.irlbl[k]:.4f}", f"{m.scumble_lbl[k]:.4f}" if m.count[k] else "-")
            for m in measured.values()
        ]
        grid.add_row(code, *(cell for group in cells for cell in group))
    console = Console()
    console.print(grid)
    for name, m in measured.items():
        console.print(
            f"{name + ': ' if name else ''}{m.images:,} images, {len(np.unique(tables[name].patients)):,} patients,"
            f" MeanIR {m.mean_ir:.4f}, SCUMBLE {m.scumble:.4f}, labels per image {m.cardinality:.4f}",
            soft_wrap=True,
        )


def _with_clones(table: LabelTable, clones: Iterable[NDArray[np.intp]]) -> LabelTable:
    return table.take(np.concatenate([np.arange(len(table)), *clones]))


def _without(table: LabelTable, deleted: Iterable[NDArray[np.intp]]) -> LabelTable:
    keep = np.ones(len(table), bool)
    for rows in deleted:
        keep[rows] = False
    return table.take(keep)
