"""`export add`: more artifacts for a bundle that there is, held to the same contract as those it was made with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from export.__main__ import main
from export.bundling.provenance import measured_on
from export.contract.by_kind.labels import LabelsContract
from export.contract.by_kind.maps import MapsContract
from export.conversion.artifacts import ARTIFACTS
from export.speed.contestants import of_bundle
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle, against_keras
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts
from keras_realmnet.screening.runtimes import open_runtime, self_check
from training.datasets.made.phantom import PhantomDataSet
from training.phantoms.cohorts import cohort
from training.recipe import load_recipe, override


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_model, litert_models, write_small_bundle):
    """A folder with `bundle`, which has one artifact and its Keras model, and `images`."""
    folder = tmp_path_factory.mktemp("add")
    small_model.save(folder / "model.keras")
    artifact = ArtifactSource(litert_models["float32"], "float32", 1e-3)
    write_small_bundle(folder / "bundle", {"float32": artifact}, folder / "model.keras")
    (folder / "images").mkdir()
    for k, case in enumerate(cohort(3, seed=5)[:5]):
        Image.fromarray(case.render(480).image).save(folder / "images" / f"{k}.png")
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "copy"))
    return Path.cwd()


def promise_little(monkeypatch):
    """Limits that random weights keep."""
    monkeypatch.setitem(LabelsContract.limits, "int8", {"max_probability": 0.5})
    monkeypatch.setitem(MapsContract.limits, "int8", {})


def contents(folder="bundle"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def refusal(arguments, capsys):
    """The one line that a refused command ends with; the bundle is what it was."""
    before = contents()
    assert main(["add", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    (line,) = [line for line in output.err.splitlines() if line.startswith("python -m export: error: ")]
    assert output.err.rstrip().endswith(line)
    assert contents() == before
    return line


def test_a_bundle_gets_an_onnx_model_from_its_own_keras_model(place, capsys):
    before = Bundle.load("bundle")
    assert main(["add", "bundle", "--artifacts", "onnx-float32-gpu", "--images", "images"]) == 0
    output = capsys.readouterr()
    after = Bundle.load("bundle")
    assert "making onnx-float32-gpu\nKeras float32 on 5 images\nonnx-float32-gpu on 5 images\n" in output.err
    assert "difference to Keras on 5 images" in output.out
    assert f"added to bundle: onnx-float32-gpu; its digest is now {after.digest[:16]}…" in output.out
    assert list(after.artifacts) == ["float32", "onnx-float32-gpu"]
    assert after.artifacts["float32"] == before.artifacts["float32"]
    assert (after.default_artifact, after.source_sha256) == ("float32", before.source_sha256)
    added = after.artifacts["onnx-float32-gpu"]
    assert (added.engine, added.precision, added.tolerance) == ("onnxruntime", "float32", 1e-3)
    assert added.costs.macs > 0
    assert 0 < after.scores["onnx-float32-gpu against Keras"]["max_probability"] < 1e-4
    assert after.scores["onnx-float32-gpu against Keras"]["on"] == "image files"  # no folder of this machine
    assert "ONNX Runtime" in after.versions["open in"]["onnx-float32-gpu"]
    assert set(after.versions["added with"]) == {"onnx-float32-gpu"}
    for name in after.artifacts:
        self_check(after, open_runtime(after, name), name)
    files = {artifact.file for artifact in after.artifacts.values()}
    cards = {"README.md", "sbom.cdx.json"}
    assert set(contents()) == {"bundle.json", "source.keras", after.golden_file} | cards | files


def test_an_artifact_whose_file_is_not_there_is_made_again(place, capsys, monkeypatch):
    assert main(["add", "bundle", "--artifacts", "onnx-float32-gpu", "--images", "images"]) == 0
    whole = contents()
    (Path("bundle") / Bundle.load("bundle").artifacts["onnx-float32-gpu"].file).unlink()
    lacking = Bundle.load("bundle")
    with pytest.raises(RealMNetError, match="not in this folder"):
        of_bundle(lacking, ["onnx-float32-gpu"])
    told = []
    assert [contestant.name for contestant in of_bundle(lacking, tell=told.append)] == ["float32 (litert)"]
    assert "left out: bundle/onnx-float32-gpu.onnx: not in this folder" in told[0]
    assert "already there: float32." in refusal(["bundle", "--artifacts", "onnx-float32-gpu,float32"], capsys)
    assert main(["add", "bundle", "--artifacts", "onnx-float32-gpu"]) == 0
    assert "made again: onnx-float32-gpu; bundle and its digest are what they were" in capsys.readouterr().out
    assert contents() == whole


def test_what_becomes_another_is_not_put_back(place, capsys, monkeypatch):
    assert main(["add", "bundle", "--artifacts", "onnx-float32-gpu", "--images", "images"]) == 0
    (Path("bundle") / Bundle.load("bundle").artifacts["onnx-float32-gpu"].file).unlink()
    kind = ARTIFACTS["onnx-float32-gpu"]
    monkeypatch.setitem(ARTIFACTS, "onnx-float32-gpu", replace(kind, make=ARTIFACTS["onnx-float32"].make))
    line = refusal(["bundle", "--artifacts", "onnx-float32-gpu"], capsys)
    assert "onnx-float32-gpu.onnx: what is made here has other bytes" in line
    assert "--replace puts it in" in line
    before = Bundle.load("bundle").digest
    arguments = ["--artifacts", "onnx-float32-gpu", "--images", "images", "--replace"]
    assert main(["add", "bundle", *arguments]) == 0
    after = Bundle.load("bundle")
    assert (after.absent, after.digest == before) == ([], False)


def test_a_bundle_without_its_keras_model_takes_it_from_elsewhere(place, capsys):
    Path("bundle/source.keras").unlink()
    line = refusal(["bundle", "--artifacts", "onnx-float32-gpu"], capsys)
    assert "source.keras: no such file; the Keras model is needed" in line
    assert "--source" in line
    Path("other.keras").write_bytes(Path("model.keras").read_bytes() + b" ")
    line = refusal(["bundle", "--artifacts", "onnx-float32-gpu", "--source", "other.keras"], capsys)
    assert "other.keras: not the Keras model that bundle was made from: SHA-256" in line
    line = refusal(["bundle", "--artifacts", "onnx-float32-gpu", "--source", "none.keras"], capsys)
    assert "none.keras: no such file" in line
    arguments = ["--artifacts", "onnx-float32-gpu", "--source", "model.keras", "--images", "images"]
    assert main(["add", "bundle", *arguments]) == 0
    assert "onnx-float32-gpu" in Bundle.load("bundle").artifacts


def test_a_bundle_that_never_had_a_keras_model_is_refused(place, litert_models, write_small_bundle, capsys):
    write_small_bundle(place / "without", {"float32": ArtifactSource(litert_models["float32"], "float32", 1e-3)})
    line = refusal(["without", "--artifacts", "onnx-float32", "--source", "model.keras"], capsys)
    assert "model.keras: not the Keras model that without was made from: no model is stated there" in line


def test_a_bundle_of_another_keras_model_is_refused(place, litert_models, write_small_bundle, capsys):
    images = keras.Input((8, 8, 3))
    keras.Model(images, keras.layers.Flatten()(images)).save("other.keras")
    artifact = ArtifactSource(litert_models["float32"], "float32", 1e-3)
    write_small_bundle(place / "without", {"float32": artifact}, place / "other.keras")
    line = refusal(["without", "--artifacts", "onnx-float32"], capsys)
    assert "without/source.keras: not a network of this task: probabilities: labels have the shape (1, 7). Re" in line


def test_an_artifact_that_computes_something_else_is_not_added(place, capsys, monkeypatch):
    monkeypatch.setitem(LabelsContract.limits, "float32", {"max_probability": 0.0})
    line = refusal(["bundle", "--artifacts", "onnx-float32-gpu", "--images", "images"], capsys)
    assert "differs from Keras by more than allowed: onnx-float32-gpu: largest |Δ probability| is" in line


def test_static_int8_asks_for_images_by_name(place, capsys):
    for name in ("int8_static", "onnx-int8", "onnx-int8-gpu"):
        line = refusal(["bundle", "--artifacts", f"onnx-float32,{name}"], capsys)
        assert f"error: {name}: static int8 needs images like those that are screened: name them by --images" in line
    for image in list(Path("images").iterdir())[1:]:
        image.unlink()
    line = refusal(["bundle", "--artifacts", "onnx-int8-gpu", "--images", "images"], capsys)
    assert "static int8 needs two images or more. Received: 1" in line


def test_static_int8_is_not_measured_on_the_images_that_calibrated_it(place, capsys, monkeypatch):
    promise_little(monkeypatch)  # random weights are no trained network
    assert main(["add", "bundle", "--artifacts", "onnx-int8-gpu", "--images", "images"]) == 0
    output = capsys.readouterr()
    assert "static int8: calibration on 3 images\n" in output.err
    assert "difference to Keras on 2 images" in output.out
    found = Bundle.load("bundle").scores["onnx-int8-gpu against Keras"]
    assert found["images"] == 2
    assert found["on"] == "image files, every second one; the others calibrated static int8"


def test_the_training_images_of_a_run_calibrate_and_its_test_images_measure(place, capsys, monkeypatch):
    promise_little(monkeypatch)
    recipe = override(load_recipe("smoke"), "phases=[(1, 64)]").to_dict()
    data = PhantomDataSet(train_patients=2, validation_patients=1, test_patients=3, width=96)
    recipe["data"] = {"kind": data.kind, **vars(data)}
    Path("run").mkdir()
    Path("run/recipe.json").write_text(json.dumps(recipe))
    assert main(["add", "bundle", "--artifacts", "onnx-int8-gpu", "--run", "run"]) == 0
    spec = Bundle.load("bundle").spec
    counts = {split: len(data.load(split, spec, Path("data/cache"))) for split in ("train", "test")}
    output = capsys.readouterr()
    assert f"static int8: calibration on {counts['train']} images\n" in output.err
    found = Bundle.load("bundle").scores["onnx-int8-gpu against Keras"]
    assert (found["images"], found["on"]) == (counts["test"], "test split of phantom")
    assert found["macro_auroc"] is not None


def test_an_artifact_that_is_there_is_replaced_only_when_asked_for(place, capsys):
    """Its evidence may be the better one: what is replaced by what is said."""
    labelled = {"images": 678, "macro_auroc": {"a": 0.99}, "mean_ap": {"a": 0.9}, "on": "test split of phantom"}
    add_artifacts(Bundle.load("bundle"), {}, {against_keras("float32"): labelled})
    arguments = ["bundle", "--artifacts", "float32,onnx-float32", "--images", "images"]
    line = refusal(arguments, capsys)
    assert line.endswith(
        "bundle: already there: float32. What is there, and what was measured on it, is replaced with --replace only"
    )
    assert main(["add", *arguments, "--replace"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "replaced" in line]
    assert line == (
        "float32: replaced; measured before: 678 images (test split of phantom, with AUROC and mAP); "
        "now: 5 images (image files, without labels)"
    )
    after = Bundle.load("bundle")
    assert after.scores[against_keras("float32")]["images"] == 5
    assert list(after.artifacts) == ["float32", "onnx-float32"]
    assert main(["add", "bundle", "--artifacts", "onnx-float32-gpu", "--images", "images", "--replace"]) == 0
    assert "replaced" not in capsys.readouterr().out  # there was none


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (None, "nothing stated"),
        ("by eye", "nothing stated"),  # bundle.json may say anything there
        ({"flips": 0}, "nothing stated"),
        ({"images": 1, "macro_auroc": {}}, "1 image (with AUROC and mAP)"),
        ({"images": 678, "macro_auroc": None, "on": "mine"}, "678 images (mine, without labels)"),
    ],
)
def test_evidence_is_told_as_far_as_it_is_stated(stated, words):
    assert measured_on(stated) == words


def test_wrong_arguments_are_told_in_one_line(place, capsys):
    for arguments, message in (
        (["bundle", "--artifacts", "onnx-int4"], "an artifact must be one of float32, float16, int8"),
        (["bundle", "--artifacts", "onnx-float32,"], "an artifact must be one of"),
        (["bundle", "--artifacts", "onnx-float32", "--images", "nowhere"], "nowhere: no such file or folder"),
        (["bundle", "--artifacts", "onnx-float32", "--images", "images", "--run", "x"], "one of them"),
        (["bundle", "--artifacts", "onnx-float32", "--run", "images"], "recipe.json: no such file"),
        (["nowhere", "--artifacts", "onnx-float32"], "nowhere/bundle.json: a bundle needs this file"),
    ):
        assert message in refusal(arguments, capsys)


def test_every_artifact_that_cannot_be_had_is_named(place, small_model, litert_models, write_small_bundle, capsys):
    """Its Keras model has a layer of no numbers: quantizing it stops by name, and the float model gives none either."""
    broken = RealMNet.from_config(small_model.get_config())
    broken.set_weights(small_model.get_weights())
    layer = broken.backbone.get_layer("stages_1_blocks_0_mlp_fc2")
    layer.set_weights([np.full_like(value, np.nan) for value in layer.get_weights()])
    broken.save("broken.keras")
    shutil.rmtree("bundle")
    artifact = ArtifactSource(litert_models["float32"], "float32", 1e-3)
    write_small_bundle(place / "bundle", {"float32": artifact}, place / "broken.keras")
    arguments = ["bundle", "--artifacts", "onnx-int8-dynamic,onnx-float32", "--images", "images"]
    line = refusal(arguments, capsys)
    assert "onnx-int8-dynamic: " in line
    assert "mlp_fc2.kernel: not all of its values are finite" in line
    assert "onnx-float32: " in line.partition("not all of its values are finite")[2]
