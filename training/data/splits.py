"""Which patients train, which validate, which test; and which of the training patients a smaller study would have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from keras_realmnet.errors import DataSetError
from training.data.label_table import LabelTable, problems_error, spellings

__all__ = ["deal_patients", "fold_of_images", "patient_share", "print_counts", "split_patients"]

HELD_OUT = 0.3  # of the patients, half of them for validation and half for test: RealMNet, 7 : 1.5 : 1.5


def split_patients(table: LabelTable, seed: int = 42) -> dict[str, LabelTable]:
    """Splits the patients 7 : 1.5 : 1.5 into train, validation and test, stratified by their most telling label.

    A patient's stratum is the label most of the patient's images have, among equals the one that is rarest in the whole
    table. With seed 42 and PSMM's label lists taken together it gives the published 3,192, 684 and 684 patients; the
    order of the rows plays no part.

    Args:
        table: every image once.
        seed: of scikit-learn's shuffles.

    Returns:
        "train", "validation" and "test", each with its rows in the table's order; no patient is in two of them.

    Raises:
        DataSetError: an image is listed twice, a patient is written in two ways, or some label has too few patients
            for three sets.
    """
    _check_unique(table)
    if problems := list(spellings([table])):
        raise problems_error(problems)
    patients, strata = _strata(table.patients, table.labels, table.label_set.codes)
    try:
        train, held_out, _, held_out_strata = train_test_split(
            patients, strata, test_size=HELD_OUT, stratify=strata, random_state=seed
        )
        validation, test = train_test_split(held_out, test_size=0.5, stratify=held_out_strata, random_state=seed)
    except ValueError as error:
        sizes = {code: int((strata == code).sum()) for code in table.label_set.codes}
        found = ", ".join(f"{code} {size}" for code, size in sizes.items() if size)
        raise DataSetError(
            f"{len(patients)} patients are too few for a stratified split in three: each label needs about 7 whose"
            f" images show it most. Found: {found or 'none'}"
        ) from error
    parts = {"train": train, "validation": validation, "test": test}
    return {name: table.take(np.isin(table.patients, part)) for name, part in parts.items()}


def patient_share(table: LabelTable, share: float, seed: int = 42) -> LabelTable:
    """The images of a share of the patients, for label efficiency: the patients of 20 % are among those of 40 %.

    The patients of each stratum (see `split_patients`) are shuffled and spread evenly over one order of all patients;
    the first round(share · patients) of it are taken, at least one. Every stratum is represented to within one patient
    of its share.

    Args:
        table: a training set.
        share: of its patients, above 0 up to 1.
        seed: of the order.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1. Received: {share}")
    patients, strata = _strata(table.patients, table.labels, table.label_set.codes)
    chosen = _spread(strata, seed)[: max(1, round(share * len(patients)))]
    return table.take(np.isin(table.patients, patients[chosen]))


def deal_patients(
    patients: Sequence[str], labels: NDArray[Any] | None = None, seed: int = 42, held_out: float = HELD_OUT
) -> NDArray[np.str_]:
    """Deals the patients of any number of images to "train", "validation" and "test".

    As `split_patients`, for data that may be small, of which labels may be unknown, or which has none: every stratum is
    represented to within one patient of its share, and none needs a patient in each set. Half of `held_out`, at least
    one patient, is for validation, the other half for test.

    Args:
        patients: whose each image is, (n,).
        labels: float (n, c), by which patients are spread as in `split_patients`; NaN counts as absent.
        seed: of the order.

    Returns:
        The set of each image, (n,).

    Raises:
        DataSetError: fewer than three patients.
    """
    ids, strata = _strata(np.asarray(patients, np.str_), labels)
    if len(ids) < 3:
        raise DataSetError(f"three sets need at least three patients. Found: {len(ids)}")
    order, part = _spread(strata, seed), max(1, round(held_out / 2 * len(ids)))
    sets = np.full(len(ids), "train", "<U10")
    sets[order[:part]], sets[order[part : 2 * part]] = "validation", "test"
    return sets[np.searchsorted(ids, np.asarray(patients, np.str_))]


def fold_of_images(
    patients: Sequence[str], folds: int, labels: NDArray[Any] | None = None, seed: int = 42
) -> NDArray[np.intp]:
    """In which of `folds` folds each image is held out, (n,), from 1; all images of a patient are in one.

    Every fold has its share of each stratum to within one patient. Arguments as for `deal_patients`.

    Raises:
        DataSetError: fewer patients than folds.
    """
    ids, strata = _strata(np.asarray(patients, np.str_), labels)
    if len(ids) < folds:
        raise DataSetError(f"{folds} folds need at least {folds} patients. Found: {len(ids)}")
    fold = np.empty(len(ids), np.intp)
    # In blocks, not by turns, which would fall into step with the strata.
    fold[_spread(strata, seed)] = np.arange(len(ids)) * folds // len(ids) + 1
    return fold[np.searchsorted(ids, np.asarray(patients, np.str_))]


def print_counts(tables: Mapping[str, LabelTable]) -> None:
    """Patients, images and images per label of each table on the terminal, side by side."""
    from rich.console import Console
    from rich.table import Table

    label_set = next(iter(tables.values())).label_set
    grid = Table()
    grid.add_column("")
    for name in tables:
        grid.add_column(name, justify="right")
    grid.add_row("patients", *(f"{len(np.unique(table.patients)):,}" for table in tables.values()))
    grid.add_row("images", *(f"{len(table):,}" for table in tables.values()), end_section=True)
    for k, label in enumerate(label_set.labels):
        counts = (int(table.labels[:, k].sum()) for table in tables.values())
        grid.add_row(f"{label.code} {label.name}", *(f"{count:,}" for count in counts))
    Console().print(grid)


def _strata(
    patients: NDArray[np.str_], labels: NDArray[Any] | None, codes: Sequence[str] | None = None
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """The patients in the order of their ids as strings, and each one's label; both (patients,) str.

    Codes, not indices: scikit-learn shuffles stratum by stratum in sorted order, and the published order is A0 … S1.
    """
    ids, owner = np.unique(patients, return_inverse=True)
    if labels is None:
        return ids, np.zeros(len(ids), np.str_)
    present = (np.asarray(labels) > 0).astype(np.int64)  # NaN is not
    names = np.array(codes if codes is not None else [f"{k:04}" for k in range(present.shape[1])])
    counts = np.zeros((len(ids), present.shape[1]), np.int64)
    np.add.at(counts, owner, present)
    rarest_first = np.argsort(present.sum(axis=0), kind="stable")
    return ids, names[rarest_first[counts[:, rarest_first].argmax(axis=1)]]


def _spread(strata: NDArray[np.str_], seed: int) -> NDArray[np.intp]:
    """An order of the patients in which those of each stratum are shuffled and spread evenly; their indices."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def _check_unique(table: LabelTable) -> None:
    names, counts = np.unique(table.names, return_counts=True)
    if len(names) < len(table):
        name = names[counts > 1][0]
        here = table.origins[table.names == name]
        raise DataSetError(
            f"images listed more than once: {(counts > 1).sum():,}, first {name} at {' and '.join(here)};"
            " a split takes each image once"
        )
