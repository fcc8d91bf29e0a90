"""Two evaluated runs against each other: the numbers of their tables, and what they must share."""

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from training.data.label_table import write_label_table
from training.datasets.found.palm import PalmDataSet
from training.scoring.comparison import compare_runs, compare_tables
from training.scoring.tables import write_score_table
from training.scoring.thresholds import default_point


def write_run(folder, table, scores, y_true=None, names=None, label_set=PSMM):
    folder.mkdir()
    (folder / "task.json").write_text(
        json.dumps(labels_task(label_set, "uwf_red_green", default_point(label_set)).to_dict())
    )
    y_true = table.labels if y_true is None else y_true
    names = table.names if names is None else names
    write_score_table(folder / "test_scores.csv", names, table.patients, y_true, scores, label_set)
    return folder


@pytest.fixture
def runs(two_models, tmp_path):
    scores = {"a": two_models.worse, "b": two_models.better}
    return [write_run(tmp_path / name, two_models.table, values) for name, values in scores.items()]


def test_runs_differ_as_their_tables_do(runs, two_models, tmp_path):
    write_label_table(tmp_path / "labels.csv", two_models.table)
    expected = compare_tables([tmp_path / "labels.csv"], *(run / "test_scores.csv" for run in runs), 200, 3)
    found = compare_runs(*runs, 200, 3)
    assert found["differences"] == expected["differences"]
    assert found["delong"] == expected["delong"]
    assert (found["images"], found["patients"]) == (400, 79)
    assert found["differences"]["map"]["difference"] > 0.02
    same = compare_runs(runs[0], runs[0], 200)["differences"]["map"]
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def test_the_command_compares_two_runs(runs):
    command = [sys.executable, "-m", "training", "compare", *map(str, runs), "--bootstrap", "50"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == compare_runs(*runs, 50)
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "400 images of 79 patients" in shown
    assert f"B: {runs[1]}" in shown


def test_the_command_blames_the_folder_that_has_no_scores(runs):
    def complaint(*arguments):
        command = [sys.executable, "-m", "training", "compare", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert "typo/test_scores.csv: no such file; expected the folder of a finished run" in complaint(runs[0], "typo")
    assert "neither tables nor --label-set" in " ".join(complaint(*runs, "--label-set", "palm").split())


def test_an_unknown_truth_is_unknown_in_both(runs, two_models, tmp_path):
    y_true = two_models.table.labels.astype(float)
    y_true[::7, 2] = np.nan
    pair = [write_run(tmp_path / name, two_models.table, two_models.better, y_true) for name in ("c", "d")]
    assert compare_runs(*pair, 20)["differences"]["auroc_A0"]["difference"] == 0
    with pytest.raises(DataSetError, match=r"d: the truth of the test images is not that of .*a"):
        compare_runs(runs[0], pair[1])


def test_what_cannot_be_compared_is_told(runs, two_models, tmp_path):
    table, scores = two_models.table, two_models.better
    names = table.names.tolist()
    other = write_run(tmp_path / "other", table, scores, names=["new.jpg", *names[1:]])
    with pytest.raises(DataSetError, match=r"other: not the images of .*a: 2 are in one of them alone, such as "):
        compare_runs(runs[0], other)
    turned = write_run(tmp_path / "turned", table, scores, names=names[::-1])
    with pytest.raises(DataSetError, match=r"turned: not the images of .*a: another order or patients"):
        compare_runs(runs[0], turned)
    palm = write_run(
        tmp_path / "palm", table, scores[:, : len(PALM.codes)], table.labels[:, : len(PALM.codes)], None, PALM
    )
    with pytest.raises(DataSetError, match=rf"palm: it answers {', '.join(PALM.codes)}. Expected, as in .*a: S0, S1"):
        compare_runs(runs[0], palm)
    lines = (runs[1] / "test_scores.csv").read_text().splitlines()
    (runs[1] / "test_scores.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0]]))
    with pytest.raises(RealMNetError, match=r"b.test_scores.csv:401: "):
        compare_runs(*runs)
    (runs[1] / "test_scores.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",1.5"]))
    with pytest.raises(RealMNetError, match=r"b.test_scores.csv: .*probabilities must be from 0 to 1"):
        compare_runs(*runs)
    (runs[1] / "test_scores.csv").unlink()
    with pytest.raises(RealMNetError, match=r"b.test_scores.csv: no such file; expected the folder of a finished run"):
        compare_runs(*runs)


def test_runs_that_call_other_labels_pathologic_are_not_compared(runs):
    task = json.loads((runs[1] / "task.json").read_text())
    vocabulary = task["outputs"]["probabilities"]["labels"]
    vocabulary["pathologic"] = vocabulary["pathologic"][:-1]
    task["rule"]["thresholds"].popitem()
    (runs[1] / "task.json").write_text(json.dumps(task))
    with pytest.raises(DataSetError, match=r"b: it calls pathologic .*\. Expected, as in .*a: "):
        compare_runs(*runs)


def test_runs_of_two_outputs_of_labels_are_not_compared(runs):
    task = json.loads((runs[1] / "task.json").read_text())
    palm = labels_task(PALM, "uwf_red_green", default_point(PALM)).to_dict()
    task["outputs"]["more"] = palm["outputs"]["probabilities"]
    (runs[1] / "task.json").write_text(json.dumps(task))
    with pytest.raises(DataSetError, match="b: only runs of one output, which is labels, are compared so"):
        compare_runs(*runs)


def test_only_labels_alone_are_compared_so(runs):
    task = PalmDataSet(question="fovea").task
    (runs[1] / "task.json").write_text(json.dumps(task.to_dict()))
    (runs[1] / "scores.json").write_text(json.dumps({"outputs": {name: {"scores": {}} for name in task.trained}}))
    with pytest.raises(DataSetError, match="b: only runs of one output, which is labels, are compared so; others by"):
        compare_runs(*runs)
