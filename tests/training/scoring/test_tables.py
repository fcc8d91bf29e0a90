import csv
import subprocess
import sys

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PALM
from training.data.label_table import write_label_table
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.tables import read_score_table, score_table, write_score_table

NAN = np.nan


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


def test_a_score_table_is_read_in_the_order_of_the_labels(two_models, files):
    table = two_models.table.take(np.random.default_rng(0).permutation(400))
    expected = dict(zip(two_models.table.names, two_models.better, strict=True))
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
def test_what_is_wrong_with_a_score_table_is_named(change, message, two_models, files, tmp_path):
    with files[1].open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataSetError, match=message):
        read_score_table(tmp_path / "scores.csv", two_models.table)


def test_all_problems_are_listed_at_once(two_models, tmp_path):
    (tmp_path / "scores.csv").write_text("filename,S0,S1,A0,A1,A2,A3,A4\nx.jpg,0,0,0,0,0,0,0\n")
    with pytest.raises(DataSetError, match=r"401 problems: .*x.jpg is not in the label list; .*and 381 more"):
        read_score_table(tmp_path / "scores.csv", two_models.table)
    with pytest.raises(DataSetError, match=r"nothing.csv: cannot be read"):
        read_score_table(tmp_path / "nothing.csv", two_models.table)


def test_an_image_listed_twice_is_named(two_models, files):
    twice = two_models.table.take([0, 1, 0])
    with pytest.raises(DataSetError, match=r"test.csv:2: .* is listed twice; the first time in test.csv:2"):
        read_score_table(files[1], twice)


def test_several_label_lists_are_one(two_models, files, tmp_path):
    for k, rows in enumerate((slice(0, 150), slice(150, 400))):
        write_label_table(tmp_path / f"part{k}.csv", two_models.table.take(np.arange(400)[rows]))
    parts = score_table([tmp_path / "part0.csv", tmp_path / "part1.csv"], files[1], bootstrap=Bootstrap(replicates=5))
    whole = score_table([files[0]], files[1], bootstrap=Bootstrap(replicates=5))
    assert parts["scores"] == whole["scores"]


def test_tables_need_no_keras():
    code = "import sys; import training.scoring.printing, training.scoring.tables; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
