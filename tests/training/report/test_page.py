import csv
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.task import PROBABILITIES
from keras_realmnet.tasks.vocabulary import PALM, PERIPHERAL, PSMM
from training.data.label_table import LabelTable, write_label_table
from training.recipe import load_recipe
from training.report.page import write_report
from training.scoring.evaluated_runs import read_run
from training.scoring.tables import write_score_table

NAN = float("nan")


def write_run(folder: Path, y_true, y_score, label_set=PSMM, **files) -> Path:
    """A run folder as `fit` leaves it, with the given further files."""
    folder.mkdir(parents=True)
    names = [f"image-{k:03d}" for k in range(len(y_true))]
    write_score_table(
        folder / "test_scores.csv", names, [f"p{k // 3}" for k in range(len(y_true))], y_true, y_score, label_set
    )
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.{'csv' if isinstance(content, str) else 'json'}").write_text(text)
    return folder


def psmm_truth(count=150, seed=0):
    rng, rows = np.random.default_rng(seed), np.arange(count)
    y_true = np.zeros((count, 7))
    y_true[rows, rng.choice(2, count)] = 1
    y_true[rows, 2 + rng.choice(5, count)] = 1
    return y_true


def scores_of(y_true, skill, seed=1):
    noise = np.random.default_rng(seed).normal(size=y_true.shape)
    return np.round(1 / (1 + np.exp(-(skill * (2 * np.nan_to_num(y_true) - 1) + noise))), 6)


HISTORY = (
    "epoch,size,seconds,learning_rate,loss,val_macro_auroc,val_map\n1,64,40,1e-3,3.5,,\n2,96,50,1e-4,2.5,0.7,0.5\n"
)


@pytest.fixture
def two_runs(tmp_path):
    y_true = psmm_truth()
    facts = {"git_commit": "0123456789abcdef", "seed": 42, "backend": "jax", "versions": {"keras": "3", "jax": "0.1"}}
    facts |= {"images": {"train": 9}, "label_counts": {"train": dict.fromkeys(PSMM.codes, 3)}}
    recipe = load_recipe("smoke").to_dict()
    scored = {
        "label_set": "psmm",
        "operating_point": {
            "rule": "any_pathologic",
            "thresholds": dict.fromkeys(PSMM.pathologic, 0.5),
            "chosen": "by hand",
        },
    }
    return [
        write_run(
            tmp_path / name,
            y_true,
            scores_of(y_true, skill),
            recipe={**recipe, "loss": loss},
            run=facts,
            scores=scored,
            history=HISTORY,
        )
        for name, skill, loss in (("good", 1.5, "AsymmetricLoss"), ("poor", 0.5, "FocalLoss"))
    ]


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.images, self.links, self.cells, self.text, self.tags, self._row = [], [], [], [], [], None
        self.feed(path.read_text(encoding="utf-8"))
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "tr":
            self._row = []
            self.cells.append(self._row)
        if tag in ("td", "th") and self._row is not None:
            self._row.append("")

    def handle_data(self, data):
        self.text.append(data)
        if self._row:
            self._row[-1] += data.strip()

    def row(self, name):
        return next(row for row in self.cells if row and row[0] == name)


def test_the_page_of_two_runs(two_runs, tmp_path):
    out = tmp_path / "report"
    page = Page(write_report(two_runs, out, replicates=50))
    assert "Research software, not for clinical use" in page.words
    assert "Synthetic images." in page.words
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    assert len(page.images) == 11
    for link in page.links:
        assert link.startswith("#") or (out / link).is_file()

    run = read_run(two_runs[0])
    y_true, y_score = run.cases.y_true, run.cases.y_score
    assert page.row("images / patients")[1:] == ["150 / 50", "150 / 50"]
    assert page.row("F1 (macro)")[1].startswith(f"{f1_score(y_true, y_score >= 0.5, average='macro'):.4f} (")
    assert page.row("AUROC (macro)")[1].startswith(f"{roc_auc_score(y_true, y_score):.4f} (")
    assert page.row("Sensitivity")[1] != "no operating point"
    assert page.row("training time")[1:] == ["2 min", "2 min"]
    assert page.row("commit")[1] == "0123456789ab"
    assert page.row("loss")[1:] == ["AsymmetricLoss", "AsymmetricLoss", "FocalLoss"]
    assert page.row("phases")[2] == "3 × 64 px, 1 × 96 px"
    assert "Differences from good" in page.words
    assert "p = 0." in page.words
    assert "Not shown: the run has no weights.weights.h5." in page.words

    with (out / "figures" / "class_scores.csv").open(newline="") as file:
        rows = {(row["run"], row["score"], row["label"]): row for row in csv.DictReader(file)}
    found = rows["good", "AUROC", "A3"]
    assert float(found["value"]) == pytest.approx(roc_auc_score(y_true[:, 5], y_score[:, 5]), abs=1e-12)
    assert float(found["low"]) < float(found["value"]) < float(found["high"])
    with (out / "figures" / "label_counts.csv").open(newline="") as file:
        counts = {row["set"]: row for row in csv.DictReader(file)}
    assert counts["train"]["images"] == "9"
    assert int(counts["test"]["A0"]) == y_true[:, 2].sum()


@pytest.mark.slow
def test_the_same_runs_give_the_same_report(two_runs, tmp_path):
    first, second = (write_report(two_runs[:1], tmp_path / name, replicates=20).parent for name in ("first", "second"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert len(files) == 1 + 3 * 11
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_the_page_names_what_is_missing(tmp_path):
    """A table of scores alone, PALM's half-known truth, and a label without an image."""
    y_true = np.array([[NAN, NAN, 0.0]] * 10 + [[0, 0, 1.0]] * 10)
    run = write_run(tmp_path / "bare", y_true, scores_of(y_true, 1.0), PALM)
    page = Page(write_report([run], tmp_path / "report", replicates=20))
    assert "bare: no recipe.json and no run.json" in page.words
    assert "10 of 20 images have labels that are not known" in page.words
    assert "bare, N: no positive image" in page.words
    assert "No history.csv in bare." in page.words
    assert "no two labels occur together" in page.words
    assert "Not shown: the run has no recipe.json." in page.words
    assert page.row("recipe")[1] == "not recorded"
    assert page.row("N Normal")[3:] == ["not defined"] * 3
    assert "10 images whose grade is not known are left out" in page.words
    assert "Synthetic images." not in page.words
    assert "Differences from" not in page.words


def test_labels_without_exclusive_groups(tmp_path):
    """Peripheral lesions; one of them so rare that many resamples lack it."""
    y_true = (np.random.default_rng(0).random((60, 5)) < 0.3).astype(float)
    y_true[:, 4] = 0
    y_true[11, 4] = 1
    run = write_run(tmp_path / "run", y_true, scores_of(y_true, 1.0), PERIPHERAL)
    names = np.array([f"image-{k:03d}" for k in range(60)])
    table = LabelTable(y_true.astype(np.uint8), names, np.array([f"p{k // 3}" for k in range(60)]), names, PERIPHERAL)
    write_label_table(tmp_path / "test.csv", table)
    page = Page(write_report([run], tmp_path / "report", [tmp_path / "test.csv"], replicates=50))
    assert "An image may carry several labels, or none" in page.words
    assert "the labels of peripheral do not exclude each other" in page.words
    assert "Co-occurrence as a chord diagram" in [image["alt"].split(". ")[0] for image in page.images]
    assert "run, intervals of macro_f1, macro_precision, macro_recall, map: from" in page.words


def test_runs_on_other_images_are_not_paired(tmp_path):
    runs = []
    for k, count in enumerate((60, 90)):
        y_true = psmm_truth(count, seed=k)
        runs.append(write_run(tmp_path / f"{k}" / "run", y_true, scores_of(y_true, 1.0)))
    page = Page(write_report(runs, tmp_path / "report", replicates=20))
    assert "1/run scored other images than 0/run: not compared." in page.words
    assert "The runs were scored on different images" in page.words
    assert page.row("images / patients")[1:] == ["60 / 20", "90 / 30"]


def test_a_phantom_study_is_synthetic(tmp_path):
    y_true, data = psmm_truth(6), {"kind": "psmm", "folder": str(tmp_path / "study")}
    run = write_run(tmp_path / "run", y_true, scores_of(y_true, 1.0), recipe={"data": data})
    assert not read_run(run).synthetic
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")
    assert read_run(run).synthetic


def test_label_lists_describe_the_data(two_runs, tmp_path):
    y_true = psmm_truth(60)
    patients = np.array([f"{'North' if k % 3 else 'South'}-{k // 2}" for k in range(60)])
    extra = {"Age": np.array([str(20 + k // 2) if k > 3 else "" for k in range(60)]), "sex": np.array(["F"] * 60)}
    names = np.array([f"{k}.jpg" for k in range(60)])
    table = LabelTable(y_true.astype(np.uint8), names, patients, names, extra=extra)
    lists = [tmp_path / "train.csv", tmp_path / "test.csv"]
    write_label_table(lists[0], table.take(np.arange(40)))
    write_label_table(lists[1], table.take(np.arange(30, 60)))  # ten images in both
    page = Page(write_report(two_runs[:1], tmp_path / "report", lists, replicates=0))
    assert "in the 60 images of the label lists" in page.words
    assert f"{len(set(patients))} patients, each counted once" in page.words
    assert page.row("F1 (macro)")[1].replace(".", "").isdigit()  # no interval without replicates
    with (tmp_path / "report" / "figures" / "source_counts.csv").open(newline="") as file:
        assert {row["set"]: int(row["images"]) for row in csv.DictReader(file)} == {"North": 40, "South": 20}


def test_a_run_without_an_operating_point_is_compared_in_what_needs_none(two_runs, tmp_path):
    (two_runs[1] / "scores.json").unlink()
    page = Page(write_report(two_runs, tmp_path / "report", replicates=20))
    at = page.words.index("Differences from ")
    assert "not compared" not in page.words[at:]
    differences = [row for row in page.cells if row and row[0] == "AUROC (macro)"][-1]
    assert "p =" in differences[1]


def test_an_unreadable_run_is_one_error(two_runs, tmp_path):
    with pytest.raises(RealMNetError, match=r"nothing/test_scores\.csv: no such file; expected"):
        write_report([tmp_path / "nothing"], tmp_path / "out")
    with pytest.raises(RealMNetError, match="given twice"):
        write_report([two_runs[0], two_runs[0]], tmp_path / "out")
    truth = np.eye(3)
    palm = write_run(tmp_path / "palm", truth, scores_of(truth, 1.0), PALM)
    with pytest.raises(RealMNetError, match=r"different labels \(palm, psmm\)"):
        write_report([two_runs[0], palm], tmp_path / "out")
    (palm / "test_scores.csv").write_text("filename,score\na,1\n")
    with pytest.raises(
        RealMNetError, match=r"test_scores\.csv: expected rows with the columns.*Found: filename, score"
    ):
        write_report([palm], tmp_path / "out")
    (two_runs[0] / "run.json").write_text("{")
    with pytest.raises(RealMNetError, match=r"run\.json: not JSON"):
        write_report(two_runs, tmp_path / "out")
    for point in (5, {"rule": "any_pathologic", "chosen": "", "thresholds": {}}):
        (two_runs[1] / "scores.json").write_text(json.dumps({"label_set": "psmm", "operating_point": point}))
        with pytest.raises(RealMNetError, match=r"poor/scores\.json: not an operating point as evaluate writes it"):
            write_report(two_runs[1:], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_class_maps_of_a_network(tmp_path):
    """A small RealMNet with random weights: its examples, maps and the command."""
    from dataclasses import replace

    from keras_realmnet.screening.preprocessing import PreprocessSpec
    from training.datasets.made.phantom import PhantomDataSet
    from training.recipe import Phase
    from training.runs import build_model, predict

    options = {"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    data = PhantomDataSet(train_patients=1, validation_patients=1, test_patients=6, width=96)
    recipe = replace(load_recipe("smoke"), data=data, phases=(Phase(1, 96),), model_options=options)
    images = data.load("test", PreprocessSpec(size=96), tmp_path / "cache")
    model = build_model(recipe, 96)
    run = tmp_path / "run"
    run.mkdir()
    model.save_weights(run / "weights.weights.h5")
    (run / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    write_score_table(
        run / "test_scores.csv",
        images.names,
        images.patients,
        images.labels,
        predict(model, images, 8)[PROBABILITIES],
        PSMM,
    )
    out = tmp_path / "report"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "training",
            "report",
            run,
            "--out",
            out,
            "--cache",
            tmp_path / "cache",
            "--bootstrap",
            "20",
        ],
        env={**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written: {out / 'report.html'}\n"
    page = Page(out / "report.html")
    assert "Class maps of run" in page.words
    for title in ("Class maps", "Grad-CAM++"):
        shown = [image["src"].split(";")[0] for image in page.images if image["alt"].startswith(title)]
        assert shown == ["data:image/jpeg"]
    with (out / "figures" / "class_maps_run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases = read_run(run).cases
    assert rows
    for row in rows:
        k, n = PSMM.codes.index(row["label"]), images.names.index(row["filename"])
        assert float(row["probability"]) == pytest.approx(cases.y_score[n, k], abs=1e-6)
        assert (row["kind"] != "false positive") == bool(images.labels[n, k])
