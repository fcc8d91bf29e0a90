"""Protocols on label lists; the training is replaced by a table of scores, which is all that tabulating needs."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.data.label_table import concatenate, write_label_table
from training.data.psmm import ORIGINAL_TRAIN, RESAMPLED_TRAIN, read_tables
from training.data.resampling import Resampling
from training.data.splits import split_patients
from training.phantoms.phantom_study import plan_study, study_table
from training.recipe import load_recipe
from training.scoring.tables import write_score_table
from training.studies.protocols import protocol_runs, run_protocol, training_counts
from training.studies.score_rows import print_rows

FILES = {"train": "MYOPIA/MYOPIA.csv", "validation": "val.csv", "test": "test.csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The label lists of a phantom study; no images."""
    folder = tmp_path_factory.mktemp("study")
    for split, table in split_patients(study_table(plan_study(1500, seed=3))).items():
        write_label_table(folder / "ImageSets" / "Main" / FILES[split], table)
    return folder


def train_by_draw(recipe, run):
    """Scores that know something of the truth."""
    table = recipe.data.tables()["test"]
    rng = np.random.default_rng(len(recipe.name))
    scores = np.clip(0.4 * table.labels + 0.6 * rng.random(table.labels.shape), 0, 1)
    run.mkdir(parents=True)
    write_score_table(run / "test_scores.csv", table.names, table.patients, table.labels, scores, table.label_set)
    (run / "scores.json").write_text(json.dumps({"scores": {}}))


def test_the_trainings_of_each_protocol(folder):
    recipe = load_recipe("study_realmnet")
    assert list(protocol_runs("cip", recipe, str(folder))) == ["cip"]
    mrp = protocol_runs("mrp", recipe, str(folder))["mrp"]
    assert set(training_counts(mrp)["train"].sources) == {"ShenzhenEye"}
    cgp = protocol_runs("cgp", recipe, str(folder))
    assert set(cgp) == {"SUSTech", "LishuiR", "Zhongshan", "LishuiZ"}
    everything = concatenate(read_tables(folder).values())
    for external, run in cgp.items():
        tables = training_counts(run)
        assert set(tables["test"].sources) == {external}
        assert external not in set(tables["train"].sources)
        kept = len(tables["train"]) / (len(everything) - len(tables["test"]))
        assert 0.78 < kept < 0.86  # ML-RUS 20 %, whose draws overlap
        assert run.name == f"study_realmnet-cgp-{external}"
    with pytest.raises(ValueError, match="cip, mrp, cgp"):
        protocol_runs("xyz", recipe, str(folder))


def test_each_hospital_is_scored_by_itself(folder, tmp_path, capsys):
    recipes = [load_recipe("study_realmnet")]
    rows = run_protocol("mrp", recipes, str(folder), tmp_path, train_by_draw, replicates=50)
    table = protocol_runs("mrp", recipes[0], str(folder))["mrp"].data.tables()["test"]
    assert {row["tested_on"] for row in rows} == {"all", *table.sources.tolist()}
    assert sum(row["images"] for row in rows if row["tested_on"] != "all") == len(table)
    with (tmp_path / "study_realmnet" / "mrp" / "test_scores.csv").open(newline="") as file:
        written = {row["filename"]: row for row in csv.DictReader(file)}
    scores = np.array([[float(written[name][code]) for code in table.label_set.codes] for name in table.names])
    everything = rows[0]
    assert everything["macro_auroc"] == pytest.approx(roc_auc_score(table.labels, scores, average="macro"), abs=1e-12)
    assert everything["macro_auroc_low"] < everything["macro_auroc"] < everything["macro_auroc_high"]

    def never(recipe, run):
        raise AssertionError("trained again")

    again = run_protocol("mrp", recipes, str(folder), tmp_path, never, replicates=50)
    assert again == rows
    print_rows(rows, ["recipe", "tested_on"], ["macro_auroc"])
    assert f"{everything['macro_auroc']:.3f}".removeprefix("0") in capsys.readouterr().out
    with (tmp_path / "protocol.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_the_resampled_list_is_for_cip_only(folder):
    recipe = load_recipe("realmnet_21m_384")
    assert recipe.data.train_list == RESAMPLED_TRAIN
    run = protocol_runs("mrp", recipe, str(folder))["mrp"]
    assert (run.data.train_list, run.resampling) == (ORIGINAL_TRAIN, Resampling("ml-rus"))
    assert protocol_runs("cip", recipe, str(folder))["cip"].data.train_list == RESAMPLED_TRAIN
