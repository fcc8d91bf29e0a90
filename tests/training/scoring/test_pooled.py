"""Two networks that were cross-validated on the same pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from keras_realmnet.errors import DataSetError
from tests.training.scoring.test_score_commands import command
from tests.training.tasks.vocabularies import SEVERITY, task
from training.scoring.pooled import POOLED, Pooled, compare_pooled, read_pooled, write_pooled
from training.scoring.printing import print_differences
from training.tasks.kinds import kind_of

COUNT = 60
TRUTH = np.eye(3, dtype=np.float32)[np.arange(COUNT) % 3]
TRUTH[7] = np.nan


def pooled(noise, names="abc"):
    """What a network says that errs by chance; two pictures of each patient."""
    rng = np.random.default_rng(noise)
    said = np.nan_to_num(TRUTH) + rng.normal(0, 0.3 * noise, TRUTH.shape).astype(np.float32)
    pictures = tuple(f"{names}{k}" for k in range(COUNT))
    patients = tuple(f"p{k // 2}" for k in range(COUNT))
    return Pooled(task(dr=SEVERITY), pictures, patients, {"dr": kind_of(SEVERITY).cases(SEVERITY, TRUTH, said)})


@pytest.fixture
def folders(tmp_path):
    for name, noise in (("worse", 2), ("better", 1)):
        (tmp_path / name).mkdir()
        write_pooled(tmp_path / name, [pooled(noise)])
    return tmp_path / "worse", tmp_path / "better"


def test_what_is_written_is_read(folders):
    (part,) = read_pooled(folders[0])
    before = pooled(2)
    assert (part.task, part.names, part.patients) == (before.task, before.names, before.patients)
    for key, values in before.cases["dr"].items():
        np.testing.assert_array_equal(part.cases["dr"][key], values)


def test_kappa_of_one_minus_that_of_the_other_with_patients_resampled(folders, capsys):
    found = compare_pooled(*folders, replicates=200, seed=3)
    kappa = found["parts"][0]["outputs"]["dr"]["differences"]["kappa"]
    known = np.arange(COUNT) != 7
    a, b = (
        cohen_kappa_score(each.cases["dr"]["grade"][known], each.cases["dr"]["predicted"][known], weights="quadratic")
        for each in (pooled(2), pooled(1))
    )
    assert (kappa["a"], kappa["b"], kappa["difference"]) == pytest.approx((a, b, b - a))
    assert 0 < kappa["low"] < kappa["difference"] < kappa["high"]
    assert kappa["p"] == pytest.approx(2 / 201)
    assert found["parts"][0]["patients"] == COUNT // 2
    print_differences(found)
    assert f"{b - a:+.3f}" in capsys.readouterr().out
    shown = command("compare", *folders, "--bootstrap", 200, "--seed", 3, "--json")
    assert json.loads(shown.stdout) == found


def test_other_pictures_or_another_truth_are_refused(folders):
    a, b = folders
    one = pooled(1)
    other = {"dr": {**one.cases["dr"], "grade": np.zeros(COUNT, np.int64)}}
    for parts, message in (
        ([pooled(1, "x")], r"better: not the images of .*worse: 120 are in one of them alone, such as abc0"),
        ([replace(one, cases=other)], "the truth of dr is not that of"),
        ([replace(one, patients=one.names)], "another order or patients"),
        ([one, one], r"2 parts were cross-validated; expected 1"),
        ([replace(one, task=task(level=SEVERITY), cases={"level": one.cases["dr"]})], "what is known of the pictures"),
    ):
        write_pooled(b, parts)
        with pytest.raises(DataSetError, match=message):
            compare_pooled(a, b)
    (b / POOLED).write_bytes(b"PK")
    with pytest.raises(DataSetError, match="not what cross-validation writes"):
        compare_pooled(a, b)
    (b / POOLED).unlink()
    with pytest.raises(DataSetError, match="no such file; expected what python -m training cross-val"):
        compare_pooled(a, b)
