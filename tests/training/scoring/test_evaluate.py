import csv
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.labels import PALM, PSMM
from training.benchmarks.scores import psmm_like
from training.data.label_table import LabelTable, read_label_table, write_label_table
from training.datasets.image_set import ImageSet
from training.datasets.phantom import PhantomDataSet
from training.recipe import Phase, Recipe
from training.scoring.evaluate import (
    choose_thresholds,
    compare_tables,
    evaluate,
    eyes,
    print_comparison,
    print_level,
    print_scores,
    read_score_table,
    score_level,
    score_predictions,
    score_table,
    write_score_table,
)
from training.scoring.scores import Bootstrap, Cases

NAN = np.nan


@pytest.fixture(scope="module")
def cohort():
    """80 patients with up to eight images of two eyes, some of which do not say whose, and scores of two models."""
    cases = psmm_like(images=400, patients=80, seed=3)
    names = [f"{p}_{('OD_', 'OS_', '')[k % 3]}{k}.jpg" for k, p in enumerate(cases.patients)]
    table = LabelTable(
        labels=cases.y_true.astype(np.uint8),
        names=np.array(names),
        patients=cases.patients,
        origins=np.array([f"test.csv:{k + 2}" for k in range(400)]),
    )
    better, worse = (
        np.clip(cases.y_score + np.random.default_rng(0).normal(0, noise, (400, 7)), 0, 1).astype(np.float32)
        for noise in (1e-3, 0.2)
    )
    return SimpleNamespace(table=table, better=better, worse=worse)


@pytest.fixture
def files(cohort, tmp_path):
    """(label list, scores of the better, scores of the worse model), as files."""
    table = cohort.table
    write_label_table(tmp_path / "test.csv", table)
    for name in ("better", "worse"):
        write_score_table(
            tmp_path / f"{name}.csv", table.names, table.patients, table.labels, getattr(cohort, name), PSMM
        )
    return tmp_path / "test.csv", tmp_path / "better.csv", tmp_path / "worse.csv"


def image_set(labels, table):
    """Images without pixels, which scoring does not look at."""
    return ImageSet(
        pixels=np.zeros((len(table), 0, 0, 3), np.uint8),
        labels=labels.astype(np.float32),
        names=tuple(table.names.tolist()),
        patients=tuple(table.patients.tolist()),
        label_set=PSMM,
        sha256="",
    )


def command(*args):
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, args)], capture_output=True, text=True, check=False
    )


# ----------------------------------------------------------------------------------------------------------- thresholds


def test_thresholds_are_the_largest_with_the_sensitivity(cohort):
    y_true, y_score = cohort.table.labels, cohort.better
    point = choose_thresholds(y_true, y_score, PSMM, "the validation images", min_sensitivity=0.9)
    assert set(point.thresholds) == set(PSMM.pathologic)
    assert "0.90" in point.chosen
    assert "the validation images" in point.chosen
    for code, threshold in point.thresholds.items():
        k = PSMM.codes.index(code)
        positive = y_score[y_true[:, k] == 1, k]
        assert (positive >= threshold).mean() >= 0.9
        last_found = y_score[y_score[:, k] > threshold, k].min()
        assert (positive > last_found).mean() < 0.9
        assert threshold < last_found - 1e-6  # never on a score itself


def test_a_label_without_positives_has_no_threshold(cohort):
    y_true = cohort.table.labels.copy()
    y_true[:, 6] = 0
    with pytest.raises(DataSetError, match="validation: no image with label A4"):
        choose_thresholds(y_true, cohort.better, PSMM, "validation")


# --------------------------------------------------------------------------------------------------- eyes and patients


def test_eyes_come_from_the_column_then_from_the_name():
    names = ["P1_OD_2023-06-25_2.jpg", "P1_os_20230625.jpg", "P1_3.jpg", "scan.jpg"]
    assert eyes(names).tolist() == ["OD", "OS", "", ""]
    assert eyes(names, np.array(["os", "", "OD", ""])).tolist() == ["OS", "OS", "OD", ""]
    with pytest.raises(DataSetError, match=r"x.csv:3: eye must be OD, OS or empty. Found: 'left'"):
        eyes(names, np.array(["", "left", "", ""]), np.array([f"x.csv:{k}" for k in range(2, 6)]))


def test_levels_count_what_they_score(cohort):
    table = cohort.table
    cases = Cases.of_images(table.labels, cohort.better, PSMM, None, table.patients)
    eye = eyes(table.names)
    levels = {level: score_level(cases, eye, level, Bootstrap(replicates=20)) for level in ("image", "eye", "patient")}
    pairs = {(p, e) for p, e in zip(table.patients, eye, strict=True) if e}
    counts = {level: found["cases"] for level, found in levels.items()}
    assert counts == {"image": 400, "eye": len(pairs), "patient": len(set(table.patients))}
    assert levels["eye"]["notes"][0] == "133 of 400 images do not say which eye they show and are left out"
    for found in levels.values():
        assert found["scores"]["pathologic_auroc"]["low"] < found["scores"]["pathologic_auroc"]["value"]
    unknown = score_level(cases, np.full(400, ""), "eye", Bootstrap(replicates=20))
    assert (unknown["cases"], unknown["scores"]) == (0, {})
    with pytest.raises(ValueError, match=r"level must be one of image, eye, patient. Received: 'visit'"):
        score_level(cases, eye, "visit", Bootstrap())


def test_grades_of_the_published_eyes(shared):
    """1,140 eyes of the test set have a side in their file name; 58 hold images with different labels."""
    table = read_label_table(shared / "psmm" / "test.csv")
    cases = Cases.of_images(table.labels, table.labels.astype(float), PSMM, None, table.patients)
    found = score_level(cases, eyes(table.names), "eye", Bootstrap(replicates=0))
    assert found["cases"] == 1140
    assert found["scores"]["coverage_error"]["value"] == 2
    assert found["scores"]["macro_f1"]["value"] == 1


# --------------------------------------------------------------------------------------------------------------- tables


def test_the_score_table_leaves_unknown_truth_empty(tmp_path):
    y_true, y_score = np.array([[NAN, NAN, 0], [0, 0, 1]]), np.array([[0.5, 0.25, 0.125], [0, 0, 1]])
    write_score_table(tmp_path / "scores.csv", ("a.jpg", "b.jpg"), ("a", "b"), y_true, y_score, PALM)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "filename": "a.jpg",
        "patient": "a",
        "true_N": "",
        "true_H": "",
        "true_P": "0",
        "N": "0.5",
        "H": "0.25",
        "P": "0.125",
    }
    assert rows[1]["true_P"] == "1"


def test_a_score_table_is_read_in_the_order_of_the_labels(cohort, files):
    table = cohort.table.take(np.random.default_rng(0).permutation(400))
    expected = dict(zip(cohort.table.names, cohort.better, strict=True))
    found = read_score_table(files[1], table).astype(np.float32)  # the shortest decimals that give each float32 back
    np.testing.assert_array_equal(found, [expected[name] for name in table.names])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].remove("A4"), r"scores.csv:1: missing column 'A4'; expected filename, S0, S1"),
        (lambda rows: rows[0].append("S1"), r"scores.csv:1: repeated column 'S1'"),
        (lambda rows: rows.append(rows[1]), r"scores.csv:402: .*_OD_0.jpg is scored twice; the first time in line 2"),
        (lambda rows: rows.pop(3), r"test.csv:4: .*_2.jpg has no scores in .*scores.csv"),
        (lambda rows: rows[5].__setitem__(0, "x.jpg"), r"scores.csv:6: x.jpg is not in the label list"),
        (
            lambda rows: rows[5].__setitem__(-1, "nan"),
            r"scores.csv:6: the score of A4 must be a number from 0 to 1. Found: 'nan'",
        ),
        (lambda rows: rows[5].__setitem__(-1, "1.01"), r"scores.csv:6: the score of A4 .* Found: '1.01'"),
        (lambda rows: rows[5].__setitem__(-1, ""), r"scores.csv:6: the score of A4 .* Found: ''"),
        (lambda rows: rows[5].pop(), r"scores.csv:6: 15 fields; expected 16"),
    ],
)
def test_what_is_wrong_with_a_score_table_is_named(change, message, cohort, files, tmp_path):
    with files[1].open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataSetError, match=message):
        read_score_table(tmp_path / "scores.csv", cohort.table)


def test_all_problems_are_listed_at_once(cohort, tmp_path):
    (tmp_path / "scores.csv").write_text("filename,S0,S1,A0,A1,A2,A3,A4\nx.jpg,0,0,0,0,0,0,0\n")
    with pytest.raises(DataSetError, match=r"401 problems: .*x.jpg is not in the label list; .*and 381 more"):
        read_score_table(tmp_path / "scores.csv", cohort.table)
    with pytest.raises(DataSetError, match=r"nothing.csv: cannot be read"):
        read_score_table(tmp_path / "nothing.csv", cohort.table)


def test_an_image_listed_twice_is_named(cohort, files):
    twice = cohort.table.take([0, 1, 0])
    with pytest.raises(DataSetError, match=r"test.csv:2: .* is listed twice; the first time in test.csv:2"):
        read_score_table(files[1], twice)


# ---------------------------------------------------------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_run_is_scored_at_every_level(tmp_path, capsys):
    """A network that has not learned anything, on 20 drawn patients."""
    from training.runs import build_model

    recipe = Recipe(
        name="tiny",
        data=PhantomDataSet(train_patients=2, validation_patients=2, test_patients=20, width=96),
        preset="realmnet_5m_224",
        model_options={"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
        phases=(Phase(1, 64),),
        batch_size=32,
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    build_model(recipe, 64).save_weights(run / "weights.weights.h5")
    found = evaluate(run, cache=tmp_path, replicates=20)
    assert json.loads((run / "scores.json").read_text()) == json.loads(json.dumps(found))
    assert found["operating_point"] is None  # two validation patients do not have every pathologic label
    assert "no operating point: " in capsys.readouterr().out
    assert found["patients"] == found["patient"]["cases"] == 20
    assert found["patient"]["cases"] < found["eye"]["cases"] < found["image"]["cases"] == found["images"]
    with (run / "test_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth, scores = (
        np.array([[float(row[f"{prefix}{code}"]) for code in PSMM.codes] for row in rows]) for prefix in ("true_", "")
    )
    error = np.mean((truth - scores) ** 2)
    assert found["image"]["scores"]["brier"]["value"] == pytest.approx(error, abs=1e-7)
    assert found["scores"]["brier"] == found["image"]["scores"]["brier"]


# ------------------------------------------------------------------------------------------------------- scoring, tests


def test_scoring_a_table_gives_what_evaluate_gives(cohort, files):
    table = cohort.table
    images = image_set(table.labels, table)
    ours = score_predictions(images, cohort.better, replicates=30)
    assert json.loads(json.dumps(ours)) == ours
    assert set(ours["scores"]) <= set(ours["image"]["scores"])
    assert ours["operating_point"] is None
    for level in ("image", "eye", "patient"):
        found = score_table([files[0]], files[1], level, Bootstrap("patient", 30))
        assert found["cases"] == ours[level]["cases"]
        assert found["notes"] == ours[level]["notes"]
        for name, interval in ours[level]["scores"].items():
            assert found["scores"][name] == pytest.approx(interval, abs=1e-7)
        assert found["scores"]["sensitivity"]["value"] > 0.5  # with .5 for every pathologic label


def test_several_label_lists_are_one(cohort, files, tmp_path):
    for k, rows in enumerate((slice(0, 150), slice(150, 400))):
        write_label_table(tmp_path / f"part{k}.csv", cohort.table.take(np.arange(400)[rows]))
    parts = score_table([tmp_path / "part0.csv", tmp_path / "part1.csv"], files[1], bootstrap=Bootstrap(replicates=5))
    whole = score_table([files[0]], files[1], bootstrap=Bootstrap(replicates=5))
    assert parts["scores"] == whole["scores"]


def test_the_better_model_is_found(files, capsys):
    found = compare_tables([files[0]], files[1], files[2], replicates=200)
    assert json.loads(json.dumps(found)) == found
    assert found["differences"]["macro_auroc"]["high"] < 0
    assert found["differences"]["hamming_loss"]["low"] > 0
    assert found["delong"]["S1"]["p"] < 0.05
    assert found["t_test"]["macro_auroc"] < 1e-6
    assert set(found["differences"]) == set(found["t_test"])
    print_comparison(found)
    text = capsys.readouterr().out
    assert "hamming_loss ↓" in text
    assert "images of one patient are not" in " ".join(text.split())
    assert "are not independent samples" in " ".join(text.split())


def test_scores_print_as_tables(cohort, capsys):
    table = cohort.table
    labels = table.labels.astype(np.float32)
    labels[:, 6] = 0
    images = image_set(labels, table)
    point = choose_thresholds(table.labels, cohort.better, PSMM, "these images")
    found = score_predictions(images, cohort.better, point, replicates=40)
    print_scores({"data": "phantom", "thresholds_chosen_on_test": True, **found})
    text = " ".join(capsys.readouterr().out.split())
    interval = found["image"]["scores"]["macro_auroc"]
    assert f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})" in text
    assert "not defined" in text
    assert "A4: no positive image" in text
    assert "optimistic" in text
    assert "patients: macro_f1" in text


def test_the_papers_tables_show_the_standard_error_in_points(files, capsys):
    found = score_table([files[0]], files[1], bootstrap=Bootstrap("paper", 100))
    print_level("paper", found, found["bootstrap"], PSMM)
    text = capsys.readouterr().out
    assert f"{100 * found['scores']['macro_f1']['sd'] / np.sqrt(1000):.3f}" in text
    assert "mean ± 1.96 SD, 1000 resampled" in " ".join(text.split())


# ------------------------------------------------------------------------------------------------------------- commands


def test_score_command(files):
    done = command("score", "--labels", files[0], "--scores", files[1], "--bootstrap", 20, "--level", "eye", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["level"] == "eye"
    assert found["bootstrap"]["unit"] == "patient"
    assert found["scores"] == score_table([files[0]], files[1], "eye", Bootstrap("patient", 20))["scores"]
    shown = command("score", "--labels", files[0], "--scores", files[1], "--bootstrap", 20, "--unit", "paper")
    assert shown.returncode == 0, shown.stderr
    assert "macro_f1" in shown.stdout


def test_compare_command(files):
    done = command(
        "compare", "--labels", files[0], "--scores", files[1], "--scores", files[2], "--bootstrap", 20, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == compare_tables([files[0]], files[1], files[2], 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["score", "--unit", "eye"], "unit must be one of patient, image, paper. Received: 'eye'"),
        (["score", "--level", "visit"], "level must be one of image, eye, patient. Received: 'visit'"),
        (["score", "--label-set", "none"], "label set must be one of"),
        (["score", "--label-set", "palm"], "missing column 'N', 'H', 'P'"),
        (["compare"], "--scores must be given twice, for A and for B. Received: 1"),
    ],
)
def test_a_wrong_command_is_one_line(options, message, files):
    done = command(options[0], "--labels", files[0], "--scores", files[1], *options[1:])
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
