"""`export reference`: which pictures a network knows, fitted, kept in the bundle, and told on the box."""

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_app.analysis.screen import Screener
from export.__main__ import main
from export.bundling.reference_pictures import Described, fit_reference
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.outputs import Features
from training.phantoms.phantom import render

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tiny_bundle, tmp_path_factory) -> Path:
    """With "known", 44 drawn pictures, "other.png", the last greener above and redder below, and a bundle to add to."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "known").mkdir()
    for seed in range(44):
        image = render(seed, width=280, staphyloma=seed % 5 == 0, grade=seed % 4).image
        write(folder / "known" / f"{seed}.png", image)
    middle = len(image) // 2
    halves = image[:middle] * np.array([0.4, 1.3, 1.0]), image[middle:] * np.array([1.4, 0.5, 1.0])
    write(folder / "other.png", np.clip(np.concatenate(halves), 0, 255).astype(np.uint8))
    shutil.copytree(tiny_bundle, folder / "without")
    shutil.copytree(tiny_bundle, folder / "bundle")
    assert run(folder) == 0
    return folder


def write(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def run(folder: Path, *options: str, bundle: str = "bundle") -> int:
    arguments = ("--images", folder / "known", "--components", 4, "--statement", "drawn by a test", *options)
    return main(["reference", str(folder / bundle), *map(str, arguments)])


def test_the_bundle_keeps_what_was_fitted_and_computes_it_here(folder):
    before, after = (Bundle.load(folder / name) for name in ("without", "bundle"))
    reference = after.task.reference
    assert before.task.reference is None
    assert reference.pictures == "drawn by a test: 22, and 22 held out"
    assert (len(reference.distances), sum(reference.outcomes.values())) == (22, 22)
    assert sum(distance > reference.threshold for distance in reference.distances) == 0  # rank 22 of 22
    assert set(after.task.outputs) == {*before.task.outputs, "features"}
    assert isinstance(after.task.outputs["features"], Features)
    for artifact in after.artifacts.values():
        assert artifact.output_shapes["features"] == (1, 48)
        assert artifact.sha256 == before.artifact(artifact.name).sha256
        self_check(after, open_runtime(after, artifact.name, threads=1), artifact.name)
    assert np.array_equal(after.golden()[1]["probabilities"], before.golden()[1]["probabilities"])


def test_a_picture_unlike_them_is_told_and_has_its_result(folder):
    screener, without = (Screener.open(folder / name, threads=1) for name in ("bundle", "without"))
    known, other = folder / "known" / "0.png", folder / "other.png"
    record = screener.screen(known, "0" * 64, None)
    assert 0 < record.distance <= record.distance_limit == screener.bundle.task.reference.threshold
    assert not any("unlike" in warning for warning in record.warnings)
    told = screener.screen(other, "1" * 64, None)
    assert told.distance > told.distance_limit
    assert any(warning.startswith("unlike the reference pictures of this model") for warning in told.warnings)
    plain = without.screen(other, "1" * 64, None)
    assert (plain.distance, plain.distance_limit, plain.warnings) == (None, None, ())
    assert (plain.outcome, plain.findings) == (told.outcome, told.findings)
    assert type(told).from_dict(told.to_dict()) == told


def test_only_a_bundle_that_says_so_refuses(folder, capsys):
    shutil.copytree(folder / "bundle", folder / "refuses")
    assert run(folder, "--refuse-above", "0.01", bundle="refuses") == 2
    assert "nothing below the threshold" in capsys.readouterr().err
    limit = Bundle.load(folder / "bundle").task.reference.threshold
    assert run(folder, "--refuse-above", str(limit + 1e-6), bundle="refuses") == 0
    record = Screener.open(folder / "refuses", threads=1).screen(folder / "other.png", "1" * 64, None)
    assert (record.outcome, record.findings, record.score, record.error) == ("not_analysed", None, None, None)
    assert record.reasons[0].startswith("unlike the reference pictures")
    assert record.distance > record.distance_limit


def test_of_pictures_that_the_network_did_not_learn_from_every_second_is_held_out(folder, capsys):
    shutil.copytree(folder / "without", folder / "more")
    assert run(folder, "--held-out", str(folder / "known"), bundle="more") == 0
    assert "drawn by a test: 66, and 22 held out; 4 components, threshold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--components", "12"), "12 components need 24 pictures"),
        (("--false-alarm-rate", "0.01"), "needs 99 pictures held out"),
        (("--recipe", "smoke"), "one of the two"),
        (("--held-out", "nowhere"), "no such file"),
    ],
)
def test_what_cannot_be_fitted_is_told_and_nothing_changes(folder, options, reason, capsys):
    before = (folder / "without" / "bundle.json").read_bytes()
    assert run(folder, *options, bundle="without") == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert (folder / "without" / "bundle.json").read_bytes() == before


def test_a_model_without_features_is_refused(folder, capsys):
    shutil.copytree(ROOT / "bundles" / "fundus-structures", folder / "landmarks")
    assert run(folder, bundle="landmarks") == 2
    assert "the outputs landmarks and disc and vessels and features" in capsys.readouterr().err


def test_a_recipe_that_draws_nothing_is_refused(folder, capsys):
    assert main(["reference", str(folder / "without"), "--recipe", "palm_lite"]) == 2
    assert "its pictures are not drawn (palm)" in capsys.readouterr().err


def test_so_many_components_as_make_new_pictures_most_probable():
    """Six directions vary; more than that, of few pictures, tell of these alone."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(6, 40))

    def drawn(number: int) -> Described:
        features = 5 + rng.normal(size=(number, 6)) @ axes * 0.3 + 0.05 * rng.normal(size=(number, 40))
        return Described(features.astype(np.float32), {}, Counter(negative=number))

    known, held_out = drawn(60), drawn(40)
    assert len(fit_reference("features", known, held_out, "made up").components) == 8
    assert len(fit_reference("features", known, held_out, "made up", components=5).components) == 5
