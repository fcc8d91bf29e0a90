"""The bundles that come with the project: what they say of themselves, and what they find on the drawn samples."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.runtimes import open_runtime, self_check
from training.datasets.prepared import mask_in_square
from training.phantoms.sample_files import COLOUR, COLOUR_SAMPLES

ROOT = Path(__file__).parents[1]
BUNDLES = sorted(path.parent for path in (ROOT / "bundles").glob("*/bundle.json"))
PHOTOGRAPHS = [ROOT / "bundles" / name for name in ("fundus-structures", "lesions-lite", "palm-lite")]
MAY_BE_SHIPPED = ("PALM / iChallenge-PM", "IDRiD", "CHASE_DB1", "HRF")  # CC BY 4.0


def name_of(path: Path) -> str:
    return path.name


def test_all_bundles_are_known():
    assert sorted([ROOT / "bundles" / "realmnet-demo", *PHOTOGRAPHS]) == BUNDLES


@pytest.mark.parametrize("folder", BUNDLES, ids=name_of)
def test_a_bundle_computes_here_what_it_states(folder):
    bundle = Bundle.load(folder)
    self_check(bundle, open_runtime(bundle, threads=1))
    assert "not for clinical use" in bundle.intended_use


@pytest.mark.parametrize("folder", PHOTOGRAPHS, ids=name_of)
def test_a_bundle_of_photographs_is_small_and_states_what_it_learned_from(folder):
    bundle = Bundle.load(folder)
    two_networks = folder.name == "lesions-lite"  # the second with weights of float16
    assert sum(path.stat().st_size for path in folder.iterdir()) <= (13e6 if two_networks else 8e6)
    assert bundle.artifact().precision.startswith("int8")
    assert (folder / bundle.artifact().file).stat().st_size <= (10e6 if two_networks else 6e6)
    said = bundle.training_data["statement"]
    assert "ImageNet" in said
    sources = re.findall(r"([A-Z][^(;]*) \([^)]*CC BY 4\.0\)", said)
    assert sources
    assert all(any(name in source for name in MAY_BE_SHIPPED) for source in sources)
    assert not re.search("drishti|hei|boxes|uwf", said, re.IGNORECASE)
    assert re.match("python -m training (fit --recipe|beside) ", bundle.training_data["command"])
    validated = {name: scores for name, scores in bundle.scores.items() if name.startswith("cross-validation in ")}
    assert validated
    said = ("pictures", "intervals")
    for scores in validated.values():
        assert scores["pictures"] >= 20
        assert all(re.search(r"\(.*–.*\)", value) for name, value in scores.items() if name not in said)


@pytest.mark.parametrize("name", ["palm-lite", "realmnet-demo"])
def test_a_bundle_tells_which_pictures_it_knows(name):
    bundle = Bundle.load(ROOT / "bundles" / name)
    reference = bundle.task.reference
    said = reference.pictures
    assert "no real image" in said or any(f"{source} (" in said and "CC BY 4.0" in said for source in MAY_BE_SHIPPED)
    assert (bundle.directory / "bundle.json").stat().st_size <= 300e3
    assert reference.refuse_above is None
    assert reference.false_alarm_rate == 0.05
    beyond = sum(distance > reference.threshold for distance in reference.distances)
    assert 0 < beyond <= 0.05 * (len(reference.distances) + 1)
    runtime = open_runtime(bundle, threads=1)
    size = bundle.spec.size
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    assert reference.note(float(reference.distance(runtime.predict(noise)["features"])[0])) is not None


def test_the_grade_of_macula_centred_photographs_needs_the_macula():
    needs = {path.name: Bundle.load(path).task.needs for path in BUNDLES}
    assert needs.pop("lesions-lite") == ("macula",)
    assert set(needs.values()) == {()}


def test_what_is_known_of_pixels_takes_no_more_room_than_it_must():
    """Rounded to 1 / 4096, the golden masks of 1.3 million pixels are small; a grade is as it was."""
    bundle = Bundle.load(ROOT / "bundles" / "lesions-lite")
    _, golden = bundle.golden()
    assert np.array_equal(golden["lesions"] * 4096, np.round(golden["lesions"] * 4096))
    assert not np.array_equal(golden["grade"] * 4096, np.round(golden["grade"] * 4096))
    assert 0.5 < golden["lesions"].max() <= 1


@pytest.fixture(scope="module")
def structures():
    """Of each drawn photograph what the network says, the square, and where its truth lies, in fractions of that."""
    bundle = Bundle.load(ROOT / "bundles" / "fundus-structures")
    runtime = open_runtime(bundle, threads=1)
    found = []
    for sample in COLOUR_SAMPLES:
        path = ROOT / "samples" / COLOUR / sample.file_name
        square, geometry = preprocess(read_image(path, min_side=bundle.spec.min_side).pixels, bundle.spec)
        drawn = sample.render()
        factor = drawn.image.shape[0] / geometry.source[0]
        points = (np.array([drawn.fovea, drawn.disc_centre]) + 0.5) / factor - 0.5
        truth = (geometry.to_model(points) + 0.5) / bundle.spec.size
        mask = mask_in_square(drawn.disc_mask.astype(np.uint8), geometry)
        found.append((runtime.predict(square[None]), square, truth, mask))
    return found


def test_what_counts_as_vessels_on_the_drawn_photographs_lies_in_the_field_and_is_dark(structures):
    """Nothing beside the field, and but for some pixels not its rim, which a network that never learned it marks."""
    for said, square, _, _ in structures:
        vessels = said["vessels"][0, ..., 0] > 0.5
        green = square[..., 1].astype(int)
        field = cv2.erode((square.max(axis=-1) > 16).astype(np.uint8), np.ones((9, 9)), borderValue=0) > 0
        assert 0.05 < vessels[field].mean() < 0.25
        assert (vessels & ~field).sum() < 0.05 * vessels.sum()
        around = cv2.blur(green.astype(np.float32), (41, 41))
        assert (green < around)[vessels & field].mean() > 0.8


def test_fovea_and_disc_centre_are_found_on_the_drawn_photographs(structures):
    for said, _, truth, _ in structures:
        assert np.hypot(*(said["landmarks"][0] - truth).T).max() < 0.03


def test_the_outline_of_the_disc_is_found_on_the_drawn_photographs(structures):
    for said, _, _, mask in structures:
        disc = said["disc"][0, ..., 1] > 0.5
        cell = len(mask) // len(disc)
        coarse = mask[cell // 2 :: cell, cell // 2 :: cell] == 1
        assert 2 * (disc & coarse).sum() / (disc.sum() + coarse.sum()) > 0.85
