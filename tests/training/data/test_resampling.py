import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from training.__main__ import main
from training.benchmarks.resampling import LOOPS, benchmark, loop_imbalance, psmm_sized_table
from training.data.label_table import LabelTable, concatenate, read_label_table
from training.data.resampling import METHODS, Resampling, _shares, imbalance

COUNTS = [19873, 10547, 1436, 22148, 4357, 1911, 568]  # PSMM's training set
SEEDS = 100


@pytest.fixture(scope="module")
def train(shared):
    return read_label_table(shared / "psmm" / "train.csv")


@pytest.fixture(scope="module")
def everything(shared, train):
    return concatenate([train, *(read_label_table(shared / "psmm" / file) for file in ("val.csv", "test.csv"))])


def table_of(labels):
    labels = np.asarray(labels, np.uint8)
    numbers = np.arange(len(labels))
    return LabelTable(
        labels, np.char.mod("%d.jpg", numbers), np.char.mod("p-%d", numbers), np.char.mod("l:%d", numbers)
    )


def rows_of(table, original):
    """Index of each row's image in the original list, and the row's labels."""
    number = {name: k for k, name in enumerate(original.names.tolist())}
    assert len(number) == len(original)
    return [(number[name], tuple(row)) for name, row in zip(table.names.tolist(), table.labels.tolist(), strict=True)]


# ---- measures ----


def test_published_measures(train):
    measures = imbalance(train)
    assert measures.images == 30420
    assert measures.count.tolist() == COUNTS
    assert measures.irlbl.round(4).tolist() == [1.1145, 2.0999, 15.4234, 1, 5.0833, 11.5897, 38.9930]
    assert round(measures.mean_ir, 4) == 10.7577
    assert round(measures.scumble, 4) == 0.0741
    assert measures.scumble_lbl.round(4).tolist() == [0.0394, 0.1393, 0.4986, 0.0124, 0.0915, 0.2853, 0.5596]
    assert measures.cardinality == 2
    assert measures.density == pytest.approx(2 / 7)


def test_worked_example():
    measures = imbalance(np.array([[1, 0], [1, 0], [1, 0], [1, 1]]))
    assert measures.irlbl.tolist() == [1, 4]
    assert measures.mean_ir == 2.5
    assert measures.scumble == pytest.approx(0.05)
    assert measures.scumble_lbl == pytest.approx([0.05, 0.2])
    assert measures.cardinality == 1.25


def test_a_label_without_images_is_infinitely_rare_and_left_out_of_the_mean():
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]])
    measures, without = imbalance(labels), imbalance(labels[:, [0, 2]])
    assert measures.irlbl.tolist() == [1, np.inf, 4]
    assert np.isnan(measures.scumble_lbl[1])
    assert (measures.mean_ir, measures.scumble) == (without.mean_ir, without.scumble)
    assert json.loads(json.dumps(measures.to_dict(), allow_nan=False))["irlbl"] == [1, None, 4]
    assert measures.to_dict()["scumble_lbl"][1] is None


def test_an_image_without_labels_counts_as_one_without_imbalance():
    labels = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]])
    assert imbalance(labels).scumble == pytest.approx(0.2 / 5)


@pytest.mark.parametrize("labels", [np.zeros((0, 7), np.uint8), np.zeros((3, 7), np.uint8)])
def test_measures_need_a_label(labels):
    with pytest.raises(DataSetError, match=f"at least one image with a label. Received: {len(labels)} images"):
        imbalance(table_of(labels))


# ---- against plain loops, draw by draw ----

matrices = st.integers(2, 7).flatmap(
    lambda classes: st.lists(st.lists(st.integers(0, 1), min_size=classes, max_size=classes), min_size=1, max_size=60)
)


@given(labels=matrices)
@settings(max_examples=200)
def test_measures_are_the_loops(labels):
    labels = [*labels, [1] * len(labels[0])]  # the loop needs every label
    counts, irlbl, mean_ir, scumble = loop_imbalance([tuple(row) for row in labels])
    measures = imbalance(np.array(labels))
    assert measures.count.tolist() == counts
    assert measures.irlbl == pytest.approx(irlbl, rel=1e-12)
    assert measures.mean_ir == pytest.approx(mean_ir, rel=1e-12)
    assert measures.scumble == pytest.approx(np.mean(scumble), abs=1e-12)
    of_label = [np.mean([s for s, row in zip(scumble, labels, strict=True) if row[k]]) for k in range(len(counts))]
    assert measures.scumble_lbl == pytest.approx(of_label, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
@given(labels=matrices, percent=st.floats(0, 100), seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_methods_are_the_loops(method, labels, percent, seed):
    table = table_of([*labels, [1] * len(labels[0])])
    ours = Resampling(method, percent, seed).apply(table)
    loop = LOOPS[method]([tuple(row) for row in table.labels.tolist()], percent, np.random.default_rng(seed))
    assert rows_of(ours, table) == loop


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("percent", [20, 60])
def test_methods_are_the_loops_on_the_real_labels(train, method, percent):
    ours = Resampling(method, percent, 3).apply(train)
    loop = LOOPS[method]([tuple(row) for row in train.labels.tolist()], percent, np.random.default_rng(3))
    assert rows_of(ours, train) == loop


# ---- what each method does on PSMM ----


def test_remedial_row_is_the_published_one(train):
    after = Resampling("remedial").apply(train)
    assert len(after) == 38692
    assert (~after.labels.any(axis=1)).sum() == 4357
    measures = imbalance(after)
    assert measures.count.tolist() == COUNTS
    assert round(measures.scumble, 4) == 0.0174
    assert measures.scumble_lbl.round(4).tolist() == [0.0018, 0.0606, 0, 0.0124, 0.0915, 0, 0]
    copies = after.names[len(train) :]
    assert len(copies) == 8272
    np.testing.assert_array_equal(after.names[: len(train)], train.names)
    both = after.labels[np.isin(train.names, copies).nonzero()[0]] + after.labels[len(train) :]
    np.testing.assert_array_equal(both, train.labels[np.isin(train.names, copies)])


@pytest.mark.parametrize("percent", [7.44, 20, 100])
def test_ml_ros_saturates(train, percent):
    after = Resampling("ml-ros", percent).apply(train)
    assert len(after) - len(train) == 2262
    added = after.labels[len(train) :].sum(axis=0)
    assert added[[2, 5, 6]].tolist() == [623, 148, 1491]
    assert added[[3, 4]].tolist() == [0, 0]
    np.testing.assert_array_equal(after.names[: len(train)], train.names)


def test_ml_ros_below_saturation_clones_the_rare_labels_in_turn(train):
    added = Resampling("ml-ros", 1).apply(train).labels[len(train) :]
    assert len(added) == 304
    assert added[:, [2, 5, 6]].sum(axis=0).tolist() == [102, 101, 101]


def test_lp_methods_add_and_delete_the_stated_numbers(train):
    added = Resampling("lp-ros").apply(train).labels[len(train) :]
    assert len(added) == 6080
    assert np.unique(added, axis=0, return_counts=True)[1].tolist() == [1216] * 5
    fewer = Resampling("lp-rus").apply(train)
    assert len(train) - len(fewer) == 5080


def test_worked_shares():
    assert _shares([19, 520, 14525], 6084) == [19, 520, 4541]


def test_remedial_hwr_is_remedial_then_ml_ros(train):
    after = Resampling("remedial-hwr").apply(train)
    remedial = Resampling("remedial").apply(train)
    assert len(after) == len(remedial) + 2262
    np.testing.assert_array_equal(after.labels[: len(remedial)], remedial.labels)
    assert imbalance(after).count.tolist() == [19873, 10547, 2059, 22148, 4357, 2059, 2059]


@pytest.mark.parametrize("method", ["lp-rus", "ml-rus"])
@pytest.mark.parametrize("percent", [0, 20, 100])
def test_undersamplers_keep_rows_and_their_order(method, percent):
    table = psmm_sized_table(rows=3000)
    after = Resampling(method, percent, 1).apply(table)
    kept = [k for k, _ in rows_of(after, table)]
    assert kept == sorted(set(kept))
    np.testing.assert_array_equal(after.labels, table.labels[kept])
    assert len(table) - len(after) <= 3000 * percent / 100


# ---- ML-RUS by distribution ----

PROTOCOLS = {  # images and patients that RealMNet reports after ML-RUS with 20 %; source left out of the training set
    "CIP": (24683, 3138),
    "MRP": (31575, 3944),
    "SUSTech": (32888, 4256),
    "LishuiR": (34408, 4330),
    "Zhongshan": (34871, 4398),
    "LishuiZ": (35009, 4389),
}


def kept_by_ml_rus(table):
    """Images, patients and images of each label that stay, (SEEDS, 2 + classes)."""
    owner = np.unique(table.patients, return_inverse=True)[1]
    light = replace(table, patients=owner, names=owner, origins=owner)  # strings are most of the time
    kept = (Resampling("ml-rus", 20, seed).apply(light) for seed in range(SEEDS))
    return np.array([[len(part), len(np.unique(part.patients)), *part.labels.sum(axis=0)] for part in kept])


def expected_by_ml_rus(table):
    """The same in expectation: an image stays if each of its frequent labels' bags passes it over."""
    measures = imbalance(table)
    frequent = measures.irlbl < measures.mean_ir
    draws = int(len(table) * 0.2) / frequent.sum()
    passed = np.where(frequent, 1 - draws / measures.count, 1)
    stays = np.prod(np.where(table.labels, passed, 1), axis=1)
    owner = np.unique(table.patients, return_inverse=True)[1]
    lost = np.ones(owner.max() + 1)
    np.multiply.at(lost, owner, 1 - stays)
    return np.array([stays.sum(), (1 - lost).sum(), *(stays @ table.labels)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ml_rus_by_distribution(train, everything, protocol):
    if protocol == "CIP":
        table = train
    elif protocol == "MRP":
        table = everything.take(everything.sources == "ShenzhenEye")
    else:
        table = everything.take(everything.sources != protocol)
    kept = kept_by_ml_rus(table)
    mean, spread = kept.mean(axis=0), kept.std(axis=0, ddof=1)
    np.testing.assert_array_less(np.abs(mean - expected_by_ml_rus(table)), 4 * spread / np.sqrt(SEEDS))
    np.testing.assert_array_less(np.abs(mean[:2] - PROTOCOLS[protocol]), 3 * spread[:2])
    if protocol == "CIP":
        stated = [24688.9, 3135.9, 17177, 7512, 1326, 18806, 2428, 1643, 486]
        np.testing.assert_array_less(np.abs(mean - stated), 4 * spread / np.sqrt(SEEDS) * np.sqrt(2))
        assert spread[:2] == pytest.approx([15.5, 6.4], rel=0.3)


def test_the_published_list_is_a_draw_of_ml_rus(shared, train):
    """It cannot be reproduced by seed: its rows are some of the training set's, in order, with counts as ours."""
    published = read_label_table(shared / "psmm" / "train_mlrus20.csv")
    number = {name: k for k, name in enumerate(train.names.tolist())}
    rows = np.array([number[name] for name in published.names.tolist()])
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(published.labels, train.labels[rows])
    kept = kept_by_ml_rus(train)
    counts = [len(published), len(np.unique(published.patients)), *published.labels.sum(axis=0)]
    np.testing.assert_array_less(np.abs(kept.mean(axis=0) - counts), 3 * kept.std(axis=0))


# ---- edges ----


@pytest.mark.parametrize("method", METHODS)
def test_a_single_label_combination_has_nothing_to_balance(method):
    table = table_of([[1, 0, 1, 0, 0, 0, 0]] * 10)
    np.testing.assert_array_equal(Resampling(method, 50).apply(table).names, table.names)


@pytest.mark.parametrize("method", METHODS)
def test_labels_without_images_do_no_harm(method):
    table = psmm_sized_table(rows=2000)
    table = table.take(table.labels[:, 6] == 0)
    after, few = Resampling(method).apply(table), table.labels[:, :6]
    without = Resampling(method).apply(replace(table, labels=few))
    np.testing.assert_array_equal(after.names, without.names)
    np.testing.assert_array_equal(after.labels[:, :6], without.labels)
    assert not after.labels[:, 6].any()


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_list_is_refused(method):
    with pytest.raises(DataSetError, match=f"{method}: there are no images to resample"):
        Resampling(method).apply(table_of(np.zeros((0, 7))))


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_an_impossible_percentage_is_refused(percent):
    with pytest.raises(ValueError, match=f"percent must be between 0 and 100. Received: {percent}"):
        Resampling("ml-rus", percent)


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"method must be one of lp-ros, .*, remedial-hwr. Received: 'smote'"):
        Resampling("smote")


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_rows_and_json(method):
    table = psmm_sized_table(rows=3000)
    resampling = Resampling(**json.loads(json.dumps(asdict(Resampling(method, 10, 5)))))
    assert resampling == Resampling(method, 10, 5)
    first = resampling.apply(table)
    np.testing.assert_array_equal(first.names, resampling.apply(table).names)
    if method != "remedial":
        assert first.names.tolist() != Resampling(method, 10, 6).apply(table).names.tolist()


# ---- commands ----


def test_the_command_resamples(shared, train, tmp_path, capsys):
    out = tmp_path / "lists" / "fewer.csv"
    file = str(shared / "psmm" / "train.csv")
    assert main(["resample", "--labels", file, "--method", "remedial", "--out", str(out)]) == 0
    written = read_label_table(out)
    np.testing.assert_array_equal(written.labels, Resampling("remedial").apply(train).labels)
    printed = capsys.readouterr().out
    assert "before: 30,420 images, 3,192 patients, MeanIR 10.7577, SCUMBLE 0.0741" in printed
    assert "after: 38,692 images, 3,192 patients, MeanIR 10.7577, SCUMBLE 0.0174" in printed

    assert main(["resample", "--labels", file, "--percent", "101", "--out", str(out)]) == 2
    assert "percent must be between 0 and 100" in capsys.readouterr().err


def test_the_help_names_every_method(capsys):
    main(["resample", "--help"])
    printed = capsys.readouterr().out
    assert all(method in printed for method in METHODS)


def test_the_command_measures(shared, capsys):
    file = str(shared / "psmm" / "train.csv")
    assert main(["imbalance", "--labels", file]) == 0
    printed = capsys.readouterr().out
    assert "15.4234" in printed
    assert "0.4986" in printed
    assert main(["imbalance", "--labels", file, "--labels", file, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["labels"] == ["S0", "S1", "A0", "A1", "A2", "A3", "A4"]
    assert measured["count"] == [2 * count for count in COUNTS]
    assert round(measured["mean_ir"], 4) == 10.7577


# ---- speed ----


def test_psmm_size_takes_well_under_a_second():
    table = psmm_sized_table()
    assert len(table) == 43371
    for method in METHODS:
        assert len(Resampling(method).apply(table)) != len(table)
    times = benchmark(table.take(np.arange(5000)), repeats=1)
    assert set(times) == {"measures", *METHODS}
    for ours, loop in times.values():
        assert 0 < ours < 1
        assert loop > 0
