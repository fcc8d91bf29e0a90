import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.__main__ import main
from export.contract import sensitivity
from export.conversion.quantize_litert import LAYER_GROUPS
from keras_realmnet.screening.bundle.writing import ArtifactSource
from training.datasets.made.phantom import PhantomDataSet
from training.phantoms.cohorts import cohort
from training.recipe import Recipe, load_recipe, override
from training.runs import build_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_model, litert_models, write_small_bundle):
    """`bundle`: of the small network; `images`: drawn ones, of which seven are gradable."""
    folder = tmp_path_factory.mktemp("sensitivity")
    small_model.save(folder / "small.keras")
    artifacts = {"float32": ArtifactSource(litert_models["float32"], "float32", 1e-3)}
    write_small_bundle(folder / "bundle", artifacts, folder / "small.keras")
    (folder / "images").mkdir()
    for k, case in enumerate(cohort(3, seed=5)[:7]):
        Image.fromarray(case.render(480).image).save(folder / "images" / f"{k}.png")
    (folder / "images" / "black.png").write_bytes((folder / "images" / "0.png").read_bytes()[:2000])
    return folder


@pytest.mark.slow
def test_each_group_of_a_bundle_is_quantized_alone(folder, monkeypatch, capsys):
    monkeypatch.setattr(sensitivity, "ROUNDS", 1)
    arguments = ["--images", str(folder / "images"), "--out", str(folder / "report"), "--number", "2"]
    assert main(["sensitivity", str(folder / "bundle"), *arguments]) == 0
    output = capsys.readouterr()
    written = json.loads((folder / "report" / "sensitivity.json").read_text())
    rows = written["rows"]
    assert written["images"] == 2  # of seven gradable ones four calibrate, and of the others two were asked for
    assert {row["group"] for row in rows} == {*LAYER_GROUPS, "all dense layers"}
    for row in rows:
        assert 0 < row["mean"] <= row["p99"] <= row["largest"], row  # it was quantized, and did something
        assert row["time"] > 0
        assert f"│ {row['group']} " in output.out
    # XNNPACK has no int8 kernels for these three; everything else it runs whole.
    apart = {row["group"] for row in rows if row["partitions"] > 1}
    assert apart <= {"attention matmul", "attention softmax", "GELU"}
    told = output.err.splitlines()
    assert [line for line in told if line.startswith("GELU")] == ["GELU, static percentile"]
    assert rows[0]["group"] == "stem convolutions"
    picture = np.asarray(Image.open(folder / "report" / "sensitivity.png").convert("RGB"))
    assert picture.shape[1] > 1000
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # bars of both modes


def test_a_run_is_measured_on_its_validation_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the cache of its images goes
    values = override(load_recipe("smoke"), "phases=[(1, 64)]").to_dict()
    data = PhantomDataSet(train_patients=1, validation_patients=3, test_patients=1, width=96)
    widths = {"embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
    recipe = Recipe.from_dict({**values, "data": {"kind": data.kind, **vars(data)}, "model_options": widths})
    trained = build_model(recipe, 64)
    Path("run").mkdir()
    Path("run/recipe.json").write_text(json.dumps(recipe.to_dict()))
    trained.save_weights("run/weights.weights.h5")

    model, pixels, calibration = sensitivity.model_and_images(Path("run"), None, 3)
    for weight, expected in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    images = data.load("validation", recipe.spec(), Path("data/cache")).images
    assert 1 <= len(pixels) <= 3
    assert calibration.shape[1:] == pixels.shape[1:] == (64, 64, 3)
    np.testing.assert_array_equal(calibration, images[::2])
    assert {image.tobytes() for image in pixels} <= {image.tobytes() for image in images[1::2]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["bundle"], "bundle is a bundle: name the images to measure on with --images"),
        (["bundle", "--images", "nothing"], "nothing: no such file or folder"),
        (["bundle", "--images", "images/0.png"], "sensitivity needs at least 4 images. Received: 1"),
        (["bundle", "--images", "images/black.png"], "none of the 1 files in images/black.png is a gradable image"),
        (["images"], "images/recipe.json: no such file; expected the folder of a finished run"),
        (["images", "--images", "images"], "images is a run: its own validation images are measured on, not --images"),
    ],
)
def test_what_is_missing_is_told_in_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(["sensitivity", *arguments, "--out", "nothing-written"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert message in line
    assert not (folder / "nothing-written").exists()
