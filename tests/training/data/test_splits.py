import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PERIPHERAL
from training.__main__ import main
from training.benchmarks.resampling import psmm_sized_table
from training.data.label_table import LabelTable, concatenate, read_label_table
from training.data.splits import deal_patients, fold_of_images, patient_share, split_patients

PUBLISHED = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}


@pytest.fixture(scope="module")
def published(shared):
    return {name: read_label_table(shared / "psmm" / file) for name, file in PUBLISHED.items()}


def table_of(patients, labels):
    """A label list of one row per entry: the patient's id, and the codes of its labels."""
    codes = LabelTable.label_set.codes
    return LabelTable(
        labels=np.array([[code in row.split() for code in codes] for row in labels], np.uint8).reshape(-1, len(codes)),
        names=np.array([f"{k}.jpg" for k in range(len(patients))], np.str_),
        patients=np.array(patients, np.str_),
        origins=np.array([f"list.csv:{k + 2}" for k in range(len(patients))], np.str_),
    )


def patients_of(table):
    return set(table.patients.tolist())


# ---- split ----


@pytest.mark.parametrize("order", ["as published", "shuffled"])
def test_the_published_patients_are_reproduced(published, order):
    table = concatenate(published.values())
    if order == "shuffled":
        table = table.take(np.random.default_rng(0).permutation(len(table)))
    sets = split_patients(table)
    assert {name: len(patients_of(part)) for name, part in sets.items()} == {
        "train": 3192,
        "validation": 684,
        "test": 684,
    }
    for name, part in sets.items():
        assert patients_of(part) == patients_of(published[name])
        assert set(part.names.tolist()) == set(published[name].names.tolist())


def test_label_counts_of_the_published_sets(published):
    sets = split_patients(concatenate(published.values()))
    assert sets["train"].labels.sum(axis=0).tolist() == [19873, 10547, 1436, 22148, 4357, 1911, 568]
    assert sets["validation"].labels.sum(axis=0).tolist() == [4332, 2045, 340, 4666, 874, 376, 121]
    assert sets["test"].labels.sum(axis=0).tolist() == [4522, 2052, 294, 4887, 885, 412, 96]


def test_sets_are_disjoint_complete_and_in_order():
    labels = np.random.default_rng(0).choice(["S0 A1", "S1 A2", "S1 A4"], 400, p=[0.7, 0.2, 0.1])
    table = table_of([f"p{k}" for k in range(400)] * 3, [*labels] * 3)
    sets = split_patients(table, seed=7)
    rows = [np.flatnonzero(np.isin(table.names, part.names)) for part in sets.values()]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(table)))
    for part, here in zip(sets.values(), rows, strict=True):
        np.testing.assert_array_equal(part.names, table.names[here])
    owners = [patients_of(part) for part in sets.values()]
    assert len(set.union(*owners)) == sum(map(len, owners)) == 400
    assert [len(owner) for owner in owners] == [280, 60, 60]
    assert patients_of(split_patients(table, seed=8)["test"]) != owners[2]


def test_a_tie_goes_to_the_rarest_label():
    """20 patients each show A1 and a rarer label equally often: they form a stratum of their own."""
    common = [(f"c{k:02d}", "A1") for k in range(80)]
    rare = [(f"r{k:02d}", row) for k in range(20) for row in ("A1", "A4")]
    table = table_of(*zip(*common, *rare, strict=True))
    sets = split_patients(table)
    assert [sum(name.startswith("r") for name in patients_of(part)) for part in sets.values()] == [14, 3, 3]


def test_too_few_patients_are_counted_in_the_error():
    table = table_of([f"p{k}" for k in range(21)], ["S0 A1"] * 20 + ["A4"])
    with pytest.raises(DataSetError, match=r"21 patients are too few .* Found: S0 20, A4 1"):
        split_patients(table)
    with pytest.raises(DataSetError, match=r"0 patients are too few .* Found: none"):
        split_patients(table.take(table.patients == ""))


def test_an_image_listed_twice_is_refused():
    table = table_of([f"p{k}" for k in range(20)], ["S0 A1"] * 20)
    with pytest.raises(DataSetError, match=r"more than once: 2, first 3.jpg at list.csv:5 and list.csv:5"):
        split_patients(table.take([*range(20), 3, 4]))


# ---- share of the patients ----

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)


@given(patients=st.integers(1, 60), seed=st.integers(0, 100))
@settings(max_examples=50)
def test_shares_are_nested_and_of_the_size_asked_for(patients, seed):
    table = psmm_sized_table(rows=10 * patients, seed=seed)
    parts = [patients_of(patient_share(table, share, seed)) for share in SHARES]
    assert [len(part) for part in parts] == [max(1, round(share * patients)) for share in SHARES]
    for smaller, larger in pairwise(parts):
        assert smaller <= larger
    assert parts[-1] == patients_of(table)


def test_shares_are_stratified_and_keep_all_images_of_a_patient():
    labels = ["S0 A1"] * 50 + ["A4"] * 10 + ["A0"] * 40
    table = table_of([f"p{k:03d}" for k in range(100)] * 3, labels * 3)
    for seed in range(20):
        for share in SHARES:
            part = patient_share(table, share, seed)
            np.testing.assert_array_equal(part.names, table.names[np.isin(table.patients, part.patients)])
            counts = part.labels.sum(axis=0)[[0, 6, 2]]
            assert np.abs(counts / 3 - share * np.array([50, 10, 40])).max() <= 1
    assert patients_of(patient_share(table, 0.2, 0)) != patients_of(patient_share(table, 0.2, 1))


def test_a_rare_stratum_is_drawn_as_often_as_its_share():
    """One of 30 patients has a label of its own: a fifth of the seeds should include it in a fifth of the patients."""
    table = table_of([f"p{k:02d}" for k in range(30)], ["S0 A1"] * 29 + ["A4"])
    found = [patient_share(table, 0.2, seed).labels[:, 6].any() for seed in range(500)]
    assert np.mean(found) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 500))


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be above 0 and at most 1"):
        patient_share(psmm_sized_table(rows=10), share)


@pytest.mark.parametrize("other", ["hosp-001", "HOSP-1", "hosp_001"])
def test_a_patient_written_in_two_ways_is_refused(other):
    patients = [f"HOSP-{k:03d}" for k in range(60)]
    table = table_of([*patients, other], [f"S0 A{k % 5}" for k in range(61)])
    with pytest.raises(DataSetError, match=rf"list\.csv:62: patient '{other}' is written 'HOSP-001' at list\.csv:3"):
        split_patients(table)


# ---- command ----


def test_the_command_writes_three_lists(shared, published, tmp_path, capsys):
    lists = [str(shared / "psmm" / file) for file in PUBLISHED.values()]
    arguments = ["split", *(part for file in lists for part in ("--labels", file)), "--out", str(tmp_path / "sets")]
    assert main(arguments) == 0
    for name, file in PUBLISHED.items():
        assert patients_of(read_label_table(tmp_path / "sets" / file)) == patients_of(published[name])
    printed = capsys.readouterr().out
    assert "3,192" in printed
    assert "30,420" in printed
    assert "A4 Macular atrophy" in printed

    assert main([*arguments, "--labels", str(shared / "psmm" / "train_mlrus20.csv")]) == 2
    assert "more than once: 24,683" in capsys.readouterr().err


def test_commands_take_another_vocabulary(tmp_path, capsys):
    """`split`, `imbalance` and `resample` of peripheral lesions."""
    rows = "".join(f"{int(k % 3 == 0)},{int(k % 3 == 1)},{int(k % 3 == 2)},0,0,{k}.jpg,P-{k}\n" for k in range(60))
    (tmp_path / "all.csv").write_text("P0,P1,P2,P3,P4,filename,ID\n" + rows)
    labels = ["--labels", str(tmp_path / "all.csv"), "--label-set", "peripheral"]
    assert main(["split", *labels, "--out", str(tmp_path / "sets")]) == 0
    assert len(read_label_table(tmp_path / "sets" / "train.csv", PERIPHERAL)) == 42
    assert main(["imbalance", *labels]) == 0
    assert main(["resample", *labels, "--method", "lp-rus", "--out", str(tmp_path / "fewer.csv")]) == 0
    assert main(["imbalance", *labels[:2], "--label-set", "cats"]) == 2
    assert "label set must be one of psmm, palm, peripheral. Received: 'cats'" in capsys.readouterr().err


def test_commands_say_that_a_patient_is_written_in_two_ways(tmp_path, capsys):
    rows = "".join(f"{int(k % 3 == 0)},{int(k % 3 == 1)},{int(k % 3 == 2)},0,0,{k}.jpg,P-{k}\n" for k in range(60))
    (tmp_path / "one.csv").write_text("P0,P1,P2,P3,P4,filename,ID\n" + rows)
    (tmp_path / "two.csv").write_text("P0,P1,P2,P3,P4,filename,ID\n1,0,0,0,0,x.jpg,p-007 \n")
    labels = ["--label-set", "peripheral"]
    for name in ("one.csv", "two.csv"):
        labels += ["--labels", str(tmp_path / name)]
    found = f"{tmp_path / 'two.csv'}:2: patient 'p-007' is written 'P-7' at {tmp_path / 'one.csv'}:9"
    assert main(["split", *labels, "--out", str(tmp_path / "sets")]) == 2
    assert capsys.readouterr().err == f"python -m training: error: 1 problem: {found}\n"
    assert not (tmp_path / "sets").exists()
    assert main(["imbalance", *labels, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"note: {found}\n"
    assert json.loads(captured.out)["labels"] == ["P0", "P1", "P2", "P3", "P4"]
    assert main(["resample", *labels, "--method", "lp-rus", "--out", str(tmp_path / "fewer.csv")]) == 0
    assert capsys.readouterr().err == f"note: {found}\n"


# ---- any data: three sets, and folds ----

MANY = st.integers(0, 10_000)


@given(seed=MANY, patients=st.integers(3, 60), images=st.integers(1, 4), held_out=st.sampled_from([0.1, 0.3, 0.6]))
@settings(max_examples=40, deadline=None)
def test_no_patient_is_dealt_to_two_sets(seed, patients, images, held_out):
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat([f"p{k}" for k in range(patients)], images))
    labels = rng.choice([0.0, 1.0, np.nan], (len(owners), 3))
    sets = deal_patients(owners, labels, seed, held_out)
    of = {patient: set(sets[owners == patient].tolist()) for patient in owners.tolist()}
    assert all(len(parts) == 1 for parts in of.values())
    counts = {part: sum(parts == {part} for parts in of.values()) for part in ("train", "validation", "test")}
    part = max(1, round(held_out / 2 * patients))
    assert counts == {"train": patients - 2 * part, "validation": part, "test": part}
    order = rng.permutation(len(owners))
    np.testing.assert_array_equal(deal_patients(owners[order], labels[order], seed, held_out), sets[order])


@given(seed=MANY, folds=st.integers(2, 6), rare=st.integers(6, 20), common=st.integers(20, 60))
@settings(max_examples=40, deadline=None)
def test_each_fold_has_its_share_of_each_label(seed, folds, rare, common):
    labels = np.eye(2)[np.repeat([0, 1], [rare, common])]
    owners = np.array([f"p{k}" for k in range(rare + common)])
    fold = fold_of_images(owners, folds, labels, seed)
    assert set(fold.tolist()) == set(range(1, folds + 1))
    for label, count in enumerate((rare, common)):
        members = np.bincount(fold[labels[:, label] == 1], minlength=folds + 1)[1:]
        assert np.abs(members - count / folds).max() <= 2


def test_all_pictures_of_a_patient_are_in_one_fold():
    fold = fold_of_images(["a", "b", "a", "c", "b"], 3)
    assert fold[0] == fold[2]
    assert fold[1] == fold[4]
    assert set(fold.tolist()) == {1, 2, 3}
    assert fold_of_images(["a", "b", "a", "c", "b"], 3).tolist() == fold.tolist()


def test_too_few_patients():
    with pytest.raises(DataSetError, match=r"three sets need at least three patients\. Found: 2"):
        deal_patients(["a", "b", "a"])
    with pytest.raises(DataSetError, match=r"4 folds need at least 4 patients\. Found: 3"):
        fold_of_images(["a", "b", "c"], 4)
