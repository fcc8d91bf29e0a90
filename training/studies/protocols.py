"""The paper's evaluation protocols as one command each: build the sets, train, test on every hospital, tabulate.

CIP tests on held-out patients of the hospitals that trained; MRP trains on the main hospital and tests on each other
one; CGP leaves one hospital out at a time (`training.datasets.found.psmm.PsmmDataSet` builds the sets).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.data.label_table import LabelTable, concatenate
from training.data.psmm import ORIGINAL_TRAIN, RESAMPLED_TRAIN
from training.data.resampling import Resampling
from training.data.splits import patient_share
from training.datasets.found.psmm import MAIN_SOURCE, PROTOCOLS, PsmmDataSet
from training.recipe import Recipe
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import score_cases
from training.scoring.tables import read_score_table
from training.studies.score_rows import write_rows

__all__ = ["METRICS", "protocol_runs", "run_protocol", "training_counts"]

METRICS = ("macro_f1", "map", "macro_auroc", "hamming_loss", "coverage_error", "ranking_loss", "pathologic_auroc")


def protocol_runs(protocol: str, recipe: Recipe, folder: str) -> dict[str, Recipe]:
    """The trainings of a protocol: name → recipe on its part of the PSMM tree in `folder`.

    CIP and MRP are one training each, CGP is one for every hospital but the main one, named after the one left out.
    PSMM's resampled list exists for CIP only: a recipe that trains on it gets ML-RUS 20 % of the others' images.

    Raises:
        ValueError: unknown protocol.
        DataSetError: the label lists cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {protocol!r}")
    base = recipe.data if isinstance(recipe.data, PsmmDataSet) else PsmmDataSet()
    base = replace(base, folder=folder, protocol="cip", external=None)
    if protocol != "cip" and base.train_list == RESAMPLED_TRAIN:
        base = replace(base, train_list=ORIGINAL_TRAIN)
        recipe = replace(recipe, resampling=recipe.resampling or Resampling("ml-rus"))
    if protocol != "cgp":
        data = {protocol: replace(base, protocol=protocol)}
    else:
        lists = base.tables()
        sources = np.unique(concatenate(lists.values()).sources)
        externals = [source for source in sources.tolist() if source != MAIN_SOURCE]
        data = {external: replace(base, protocol="cgp", external=external) for external in externals}
    return {name: replace(recipe, name=f"{recipe.name}-{protocol}-{name}", data=part) for name, part in data.items()}


def training_counts(recipe: Recipe) -> dict[str, LabelTable]:
    """What a protocol's training will see, from the label lists alone: "train" after resampling, and the other sets."""
    assert isinstance(recipe.data, PsmmDataSet)
    tables = recipe.data.tables()
    if recipe.train_share < 1:
        tables["train"] = patient_share(tables["train"], recipe.train_share, recipe.seed)
    if recipe.resampling is not None:
        tables["train"] = recipe.resampling.apply(tables["train"])
    return tables


def run_protocol(
    protocol: str,
    recipes: Sequence[Recipe],
    folder: str,
    out: Path,
    train: Callable[[Recipe, Path], object],
    replicates: int = 1000,
) -> list[dict[str, Any]]:
    """Trains every recipe on every part of a protocol that is not done yet, and scores each hospital by itself.

    Run folders are `out/RECIPE/PART`; `out/protocol.csv` has one row per recipe, part and hospital tested.

    Args:
        train: what trains a recipe into a folder and leaves scores there; `training.fitting.fit.fit`.
        replicates: bootstrap resamples of patients for the intervals.
    """
    rows: list[dict[str, Any]] = []
    for recipe in recipes:
        for part, chosen in protocol_runs(protocol, recipe, folder).items():
            run = out / recipe.name / part
            if (run / "scores.json").is_file():
                print(f"{protocol} {recipe.name} {part}: done before ({run})")
            else:
                print(f"{protocol} {recipe.name} {part}: training into {run}")
                train(chosen, run)
            rows += _by_hospital(recipe.name, part, chosen, run, replicates)
            write_rows(out / "protocol.csv", rows)
    return rows


def _by_hospital(name: str, part: str, recipe: Recipe, run: Path, replicates: int) -> list[dict[str, Any]]:
    """Scores on all test images and on each hospital's, where there are several."""
    table = recipe.data.tables()["test"]  # type: ignore[attr-defined]
    scores = read_score_table(run / "test_scores.csv", table)
    sources = table.sources
    groups = {"all": np.ones(len(table), bool), **{source: sources == source for source in np.unique(sources).tolist()}}
    if len(groups) == 2:
        del groups["all"]  # one hospital
    rows = []
    for source, members in groups.items():
        cases = Cases.of_images(
            table.labels[members], scores[members], table.label_set, patients=table.patients[members]
        )
        found = score_cases(cases, Bootstrap("patient", replicates))
        row: dict[str, Any] = {"recipe": name, "part": part, "tested_on": source}
        row |= {"images": len(cases), "patients": len(set(cases.patients.tolist()))}
        for metric in METRICS:
            row |= {
                metric: found[metric].value,
                f"{metric}_low": found[metric].low,
                f"{metric}_high": found[metric].high,
            }
        rows.append(row)
    return rows
