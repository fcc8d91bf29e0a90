"""The synthetic study: PSMM's names, lists and imbalance, and sources that differ in appearance but not in truth."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM
from training.data.label_table import concatenate, read_label_table
from training.data.splits import split_patients
from training.phantoms.cohorts import PSMM_CELLS
from training.phantoms.phantom import render
from training.phantoms.phantom_study import LISTS, SOURCES, Appearance, plan_study, study_table, write_study

BY_NAME = {source.name: source for source in SOURCES}
NAMES = {
    "ShenzhenEye": r"ShenzhenEye-\d+_O[DS]_\d{4}-\d\d-\d\d_\d+\.jpg",
    "SUSTech": r"SUSTech-\d+_\d+\.jpg",
    "LishuiR": r"LishuiR-\d{6}_\d{8}@\d{6}_[LR]\d+\.jpg",
    "Zhongshan": r"Zhongshan-\d+_\d+_O[DS]\d+\.jpg",
    "LishuiZ": r"LishuiZ-\d{6}_\d{8}@\d{6}_[LR]\d+\.jpg",
}


@pytest.fixture(scope="module")
def plan():
    return plan_study()


@pytest.fixture(scope="module")
def psmm(shared):
    return concatenate(read_label_table(shared / "psmm" / f"{split}.csv") for split in ("train", "val", "test"))


def test_names_are_those_of_the_public_data_set(plan, psmm):
    """The patterns hold for all but the few irregular names of PSMM (both eyes, before treatment)."""
    for name, pattern in NAMES.items():
        published = psmm.names[psmm.sources == name]
        assert np.mean([re.fullmatch(pattern, file) is not None for file in published]) > 0.95
        drawn = [case for case in plan if case.source.name == name]
        assert all(re.fullmatch(pattern, case.file_name) for case in drawn)
        assert all(case.file_name.startswith(case.phantom.patient_id + "_") for case in drawn)
    assert len({case.file_name for case in plan}) == len(plan)


def test_cells_are_those_of_the_public_data_set(psmm):
    for source in SOURCES:
        rows = psmm.labels[psmm.sources == source.name]
        assert Counter((bool(row[1]), int(row[2:].argmax())) for row in rows) == source.cells


def test_sources_and_patients(plan):
    assert Counter(case.source.name for case in plan) == {
        "ShenzhenEye": 2160,
        "SUSTech": 432,
        "LishuiR": 360,
        "Zhongshan": 324,
        "LishuiZ": 324,
    }
    table = study_table(plan)
    assert set(table.sources) == set(BY_NAME)
    assert 1100 < len(set(table.patients)) < 1300
    by_patient = {}
    for case in plan:
        by_patient.setdefault(case.phantom.patient_id, []).append(case)
    for cases in by_patient.values():
        assert len({case.sex for case in cases}) == 1
        cases.sort(key=lambda case: case.phantom.date)
        assert all(0 <= after.age - before.age <= 2 for before, after in pairwise(cases))
    assert len({case.phantom.seed for case in plan}) > 1.9 * len(by_patient) - 5  # no two patients share an eye
    ages = np.array([case.age for case in plan])
    assert ages.min() >= 6
    assert ages.max() <= 87
    grades = np.array([case.phantom.grade for case in plan])
    assert 10 < ages[grades == 4].mean() - ages[grades == 0].mean() < 40


def test_imbalance_is_about_that_of_psmm(plan):
    labels = np.array([case.phantom.labels for case in plan])
    total = sum(PSMM_CELLS.values())
    published = np.array(
        [sum(n for (staphyloma, _), n in PSMM_CELLS.items() if staphyloma == present) for present in (False, True)]
        + [sum(n for (_, grade), n in PSMM_CELLS.items() if grade == wanted) for wanted in range(5)]
    )
    np.testing.assert_allclose(labels.mean(axis=0), published / total, rtol=0.15, atol=0.008)
    rare = {name: np.mean([c.phantom.grade >= 3 for c in plan if c.source.name == name]) for name in BY_NAME}
    assert rare["SUSTech"] < rare["ShenzhenEye"] < rare["Zhongshan"]  # as in PSMM


@pytest.mark.parametrize("seed", [2026, 1, 2])
def test_every_label_is_in_every_split_and_source(seed):
    table = study_table(plan_study(seed=seed))
    splits = split_patients(table, seed)
    assert {split: round(len(part) / len(table), 1) for split, part in splits.items()}["train"] == 0.7
    assert splits["test"].labels.sum(axis=0).min() >= 8
    assert splits["validation"].labels.sum(axis=0).min() >= 5
    for name in BY_NAME:
        assert table.labels[table.sources == name].any(axis=0).all(), name
        assert all((part.sources == name).sum() >= 35 for part in splits.values()), name


def test_plan_follows_the_seed():
    first = plan_study(200, seed=5)
    assert first == plan_study(200, seed=5)
    assert len(first) == 200
    others = plan_study(200, seed=6)
    assert not {case.phantom.seed for case in first} & {case.phantom.seed for case in others}
    with pytest.raises(ValueError, match="at least 100"):
        plan_study(99)


# --- appearance -----------------------------------------------------------------------------------------------------


def drawn_as(name, number=12, width=96, **labels):
    """The same eyes under one source's appearance: uint8 (number, h, w, 3), and the phantoms."""
    phantoms = [render((77, k), width=width, **labels) for k in range(number)]
    images = [BY_NAME[name].appearance.apply(p, np.random.default_rng(k)) for k, p in enumerate(phantoms)]
    return np.stack(images), phantoms


def test_defaults_change_nothing():
    phantom = render(3, width=128)
    image = Appearance().apply(phantom, np.random.default_rng(0))
    assert image.dtype == np.uint8
    assert np.array_equal(image, phantom.image)
    assert np.array_equal(drawn_as("ShenzhenEye", 1)[0][0], render((77, 0), width=96).image)


def test_sources_look_different():
    """The same eyes: mean colour, blue, light outside of the field, sharpness."""
    colour, sharpness, outside = {}, {}, {}
    for name in BY_NAME:
        images, phantoms = drawn_as(name)
        middle = images[:, 20:-20, 24:-24].astype(float)
        colour[name] = middle.mean(axis=(0, 1, 2))
        sharpness[name] = np.mean([cv2.Laplacian(image, cv2.CV_64F)[..., 1].std() for image in middle])
        outside[name] = images[:, :3, :3].mean()
        assert images.shape == (12, *phantoms[0].image.shape)
    red_to_green = {name: rgb[0] / rgb[1] for name, rgb in colour.items()}
    assert red_to_green["SUSTech"] < 0.8 * red_to_green["ShenzhenEye"]
    assert red_to_green["LishuiR"] > 1.4 * red_to_green["ShenzhenEye"]
    assert colour["Zhongshan"][2] > 3 * colour["ShenzhenEye"][2]
    assert outside["Zhongshan"] > outside["ShenzhenEye"] + 8
    assert sharpness["LishuiZ"] < 0.5 * sharpness["ShenzhenEye"]
    assert sharpness["LishuiR"] > sharpness["LishuiZ"]


@pytest.mark.parametrize("name", BY_NAME)
def test_lesions_stay_visible(name):
    """Macular atrophy is brighter than the ring around it under every appearance (moved with the picture by none)."""
    still = replace(BY_NAME[name].appearance, tilt=0.0, eccentricity=0.0, lids=0.0)
    for k in range(4):
        phantom = render((78, k), width=192, grade=4, staphyloma=False)
        image = still.apply(phantom, np.random.default_rng(k)).astype(float).mean(axis=-1)
        patch = phantom.lesion_masks["macular_atrophy"]
        ring = cv2.dilate(patch.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~patch & ~phantom.vessel_mask
        assert image[patch].mean() > 1.15 * image[ring].mean()


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_study_on_disk_resumes(tmp_path):
    write_study(tmp_path, images=350, width=96, seed=62, workers=2)
    plan = plan_study(350, seed=62)
    images = tmp_path / "JPEGImages"
    assert {file.name for file in images.iterdir()} == {case.file_name for case in plan}
    whole = study_table(plan)
    parts = {split: read_label_table(tmp_path / path) for split, path in LISTS.items()}
    assert Counter(name for part in parts.values() for name in part.names) == Counter(whole.names)
    assert 220 <= len(parts["train"]) <= 270
    owners = [set(part.patients) for part in parts.values()]
    assert sum(map(len, owners)) == len(set.union(*owners))  # no patient is in two of them
    rows = {
        name: (tuple(labels), age, sex)
        for name, labels, age, sex in zip(
            whole.names, whole.labels.tolist(), whole.extra["age"], whole.extra["sex"], strict=True
        )
    }
    for part in parts.values():
        for name, labels, age, sex in zip(
            part.names, part.labels.tolist(), part.extra["age"], part.extra["sex"], strict=True
        ):
            assert rows[name] == (tuple(labels), age, sex)

    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in images.iterdir()}
    lost = [plan[0].file_name, plan[-1].file_name]
    for name in lost:
        (images / name).unlink()
    (tmp_path / LISTS["test"]).unlink()
    write_study(tmp_path, images=350, width=96, seed=62, workers=1)  # another number of processes, the same bytes
    for name, (data, stamp) in before.items():
        assert (images / name).read_bytes() == data
        assert ((images / name).stat().st_mtime_ns == stamp) == (name not in lost)
    assert (read_label_table(tmp_path / LISTS["test"]).names == parts["test"].names).all()

    with pytest.raises(DataSetError, match="too few"):
        write_study(tmp_path / "small", images=100, width=96)
    for other in ({"seed": 8}, {"width": 104}, {"images": 351}):
        with pytest.raises(DataSetError, match="another study"):
            write_study(tmp_path, **{"images": 350, "width": 96, "seed": 62, "workers": 1} | other)
    assert json.loads((tmp_path / "study.json").read_text())["seed"] == 62


def test_labels_are_those_drawn():
    """The label list says what `render` was told to draw."""
    for case in plan_study(100, seed=9)[::10]:
        assert case.phantom.render(96).labels.tolist() == list(case.phantom.labels)
        assert sum(case.phantom.labels[: len(PSMM)]) == 2
