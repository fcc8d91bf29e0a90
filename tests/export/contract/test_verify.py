import hashlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from export.__main__ import main
from export.contract.by_kind.labels import LabelsContract
from export.contract.keras_source import keras_predictions
from keras_realmnet.screening.bundle.artifact import Costs
from keras_realmnet.screening.bundle.document import signed
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import preprocess
from training.datasets.made.phantom import PhantomDataSet
from training.phantoms.cohorts import cohort, write_psmm_tree
from training.recipe import load_recipe, override


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_model, litert_models, write_small_bundle):
    """`good`: a bundle whose artifacts are the model; `bad`: its Keras model has another head."""
    folder = tmp_path_factory.mktemp("verify")
    artifact = litert_models["float32"]
    small_model.save(folder / "good.keras")
    kernel = small_model.head.kernel
    kernel.assign(-kernel)
    small_model.save(folder / "bad.keras")
    kernel.assign(-kernel)
    for name in ("good", "bad"):
        artifacts = {
            "float32": ArtifactSource(artifact, "float32", 1e-3, costs=Costs(12_345_678, 345_678, 81.4, "this test")),
            "int8_mixed": ArtifactSource(artifact, "int8_mixed", 1e-3),
        }
        write_small_bundle(folder / name, artifacts, folder / f"{name}.keras")
    recipe = override(load_recipe("smoke"), "phases=[(1, 64)]").to_dict()
    data = PhantomDataSet(train_patients=1, validation_patients=1, test_patients=6, width=96)
    recipe["data"] = {"kind": data.kind, **vars(data)}
    (folder / "run").mkdir()
    (folder / "run" / "recipe.json").write_text(json.dumps(recipe))
    (folder / "images").mkdir()
    for k, case in enumerate(cohort(3, seed=5)[:3]):
        Image.fromarray(case.render(480).image).save(folder / "images" / f"{k}.png")
    (folder / "images" / "README").write_text("no image")
    (folder / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_a_good_bundle_on_the_labelled_images_of_a_run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)  # where the cache of the run's images goes
    assert main(["verify", "good", "--run", "run", "--out", "report"]) == 0
    printed = capsys.readouterr().out
    assert "verified: good" in printed
    assert "int8_mixed: changes of AUROC and mAP were not judged: 500 labelled images needed" in printed
    document = json.loads((folder / "report" / "verification.json").read_text())
    assert document["images"]["verified"] >= 6
    assert document["artifacts"]["float32"]["costs"]["macs"] == 12_345_678
    assert document["artifacts"]["int8_mixed"]["costs"] is None
    for name in ("float32", "int8_mixed"):
        found = document["artifacts"][name]
        assert 0 < found["max_probability"] < 1e-4  # it was run, and it is the model
        assert found["broken"] == []
        assert found["macro_auroc"]["a"] == found["macro_auroc"]["b"]
        assert found["macro_auroc"]["difference"] == 0
    assert document["artifacts"]["int8_mixed"]["limits"]["min_score_change"] == -0.005
    with Image.open(folder / "report" / "verification.png") as figure:
        assert figure.width > 1000


def test_a_bundle_that_computes_something_else_is_refused_by_artifact_and_limit(folder, capsys):
    assert main(["verify", str(folder / "bad"), "--images", str(folder / "images")]) == 2
    output = capsys.readouterr()
    assert "difference to Keras on 3 images, 1 files not gradable" in " ".join(output.out.split())
    (line,) = [line for line in output.err.splitlines() if "error" in line and "export" in line]
    assert "bad: differs from Keras by more than allowed: float32: largest |Δ probability| is" in line
    assert "int8_mixed: 99th percentile of |Δ probability| is" in line
    assert "allowed 0.02" in line


@pytest.fixture
def one_bad_of_each(folder, litert_models, write_small_bundle, small_model, tmp_path):
    """A bundle of an artifact that does not open, one whose golden output is another's, and two good ones."""
    artifacts = {name: ArtifactSource(litert_models["float32"], "float32", 1e-3) for name in ("a", "b", "c", "d")}
    write_small_bundle(tmp_path / "mixed", artifacts, folder / "good.keras")
    document = json.loads((tmp_path / "mixed" / "bundle.json").read_text())
    (tmp_path / "mixed" / "a.tflite").write_bytes(b"not a model")
    document["artifacts"]["a"].update(sha256=hashlib.sha256(b"not a model").hexdigest(), bytes=len(b"not a model"))
    with np.load(tmp_path / "mixed" / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["probabilities_b"] = 1 - golden["probabilities_b"]
    np.savez_compressed(tmp_path / "mixed" / "golden.npz", **golden)
    golden_bytes = (tmp_path / "mixed" / "golden.npz").read_bytes()
    document["golden"]["sha256"] = hashlib.sha256(golden_bytes).hexdigest()
    (tmp_path / "mixed" / "bundle.json").write_bytes(signed(document))
    return tmp_path / "mixed"


def test_every_artifact_has_a_result(folder, one_bad_of_each, tmp_path, capsys):
    """As on a board whose engine is older than one of the models: what does run is verified all the same."""
    arguments = ["verify", str(one_bad_of_each), "--images", str(folder / "images"), "--out", str(tmp_path / "report")]
    assert main(arguments) == 2
    output = capsys.readouterr()
    (line,) = [line for line in output.err.splitlines() if line.startswith("python -m export: error")]
    assert "a: a.tflite: LiteRTRuntime cannot open the model" in line
    assert "b: b.tflite: self-check failed on this machine" in line
    document = json.loads((tmp_path / "report" / "verification.json").read_text())
    assert list(document["artifacts"]) == ["c", "d"]
    assert document["artifacts"]["d"]["broken"] == []
    assert list(document["failed"]) == ["a", "b"]
    assert [cells[0] for cells in rows(output.out, "c")] == ["c", "c"]  # of both tables


def not_always_finite(path):
    """An ONNX model that gives numbers for grey images, none for those with little blue; shapes as `small_model`'s."""
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Transpose", ["images"], ["nchw"], perm=(0, 3, 1, 2)),
        onnx.helper.make_node("AveragePool", ["nchw"], ["cells"], kernel_shape=(32, 32), strides=(32, 32)),
        onnx.helper.make_node("Sub", ["cells", "sixty"], ["above"]),
        onnx.helper.make_node("Log", ["above"], ["logs"]),
        onnx.helper.make_node("Conv", ["logs", "kernel"], ["maps"]),
        onnx.helper.make_node("Transpose", ["maps"], ["class_maps"], perm=(0, 2, 3, 1)),
        onnx.helper.make_node("ReduceMax", ["class_maps", "axes"], ["logits"], keepdims=0),
        onnx.helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    kernel = np.zeros((7, 3, 1, 1), np.float32)
    constants = {"kernel": kernel, "axes": np.array([1, 2]), "sixty": np.array(60, np.float32)}
    graph = onnx.helper.make_graph(
        nodes,
        "log",
        [value("images", onnx.TensorProto.FLOAT, [1, 64, 64, 3])],
        [
            value("class_maps", onnx.TensorProto.FLOAT, [1, 2, 2, 7]),
            value("probabilities", onnx.TensorProto.FLOAT, [1, 7]),
        ],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_output_that_is_no_number_is_told_in_one_line(folder, litert_models, write_small_bundle, tmp_path, capsys):
    artifacts = {
        "good": ArtifactSource(litert_models["float32"], "float32", 1e-3),
        "log": ArtifactSource(not_always_finite(tmp_path / "log.onnx"), "int8", 1e-3, "onnxruntime"),
    }
    write_small_bundle(tmp_path / "bundle", artifacts, folder / "good.keras")
    arguments = [tmp_path / "bundle", "--images", folder / "images", "--out", tmp_path / "report"]
    line = refusal(arguments, capsys)
    assert "log: log.onnx: the output for 3 of 3 images is not finite" in line
    document = json.loads((tmp_path / "report" / "verification.json").read_text())
    assert list(document["artifacts"]) == ["good"]
    assert list(document["failed"]) == ["log"]


def test_a_bundle_of_which_nothing_runs_is_not_verified(folder, one_bad_of_each, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert "no artifact runs on this machine: a.tflite: this model needs the package ai-edge-litert" in refusal(
        [one_bad_of_each, "--images", folder / "images"], capsys
    )


def test_images_are_named_once_and_must_fit(folder, capsys):
    good = str(folder / "good")
    assert main(["verify", good, "--run", str(folder / "run"), "--images", str(folder / "images")]) == 2
    assert main(["verify", good, "--run", str(folder / "images")]) == 2
    assert "recipe.json: no such file" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main(["verify", good, "--images", str(folder / "empty")]) == 2
    assert "none of the 0 files" in capsys.readouterr().err


def rows(printed, artifact):
    """The cells of the lines of tables that begin with an artifact."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    return [cells for cells in lines if cells[0] == artifact]


def test_what_the_artifacts_cost_is_listed(folder, capsys):
    assert main(["verify", str(folder / "good"), "--images", str(folder / "images")]) == 0
    printed = capsys.readouterr().out
    size = f"{(folder / 'good' / 'float32.tflite').stat().st_size / 1e6:.1f}"
    assert ["float32", "float32.tflite", size, "0.012", "0.35", "81"] in rows(printed, "float32")
    assert rows(printed, "int8_mixed")[-1][2:] == [size, "not stated", "not stated", "not stated"]
    assert "peak memory: this test" in printed


# --- --data FOLDER: images and label lists as PSMM lays them out -----------------------------------------------------

LISTS = {
    "train": "ImageSets/Main/MYOPIA/MYOPIA.csv",
    "val": "ImageSets/Main/val.csv",
    "test": "ImageSets/Main/test.csv",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Phantoms of eight patients: one trains, one validates, six test."""
    place = tmp_path_factory.mktemp("data") / "labelled"
    cases = cohort(8, seed=5, imbalance="balanced")
    first, second, *others = sorted({case.patient_id for case in cases})
    for split, patients in (("train", [first]), ("val", [second]), ("test", others)):
        write_psmm_tree([c for c in cases if c.patient_id in patients], place, 128, workers=1, labels_csv=LISTS[split])
    return place


@pytest.fixture
def labelled(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the cache of the images goes
    return Path(shutil.copytree(drawn, tmp_path / "labelled"))


def rewrite(path, change):
    """Replaces the lines of a label list, header first, by what `change` makes of them."""
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def refusal(arguments, capsys):
    """The one line that a refused command ends with."""
    assert main(["verify", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    (line,) = [line for line in output.err.splitlines() if line.startswith("python -m export: error: ")]
    assert output.err.rstrip().endswith(line)
    return line


def test_a_good_bundle_on_a_labelled_folder(folder, labelled, capsys):
    assert main(["verify", str(folder / "good"), "--data", "labelled", "--out", "report"]) == 0
    printed = capsys.readouterr().out
    images = len((labelled / LISTS["test"]).read_text().splitlines()) - 1
    assert f"difference to Keras on {images} images" in printed
    assert "ΔAUROC (95 %)" in printed
    assert rows(printed, "float32")[0][-2].startswith("+0.0000 (")
    assert f"500 labelled images needed, {images} images received" in printed
    document = json.loads(Path("report/verification.json").read_text())
    assert document["images"] == {"origin": "test split of psmm in labelled", "verified": images, "left_out": 0}
    assert 0 < document["artifacts"]["float32"]["macro_auroc"]["a"] < 1
    with Image.open("report/verification.png") as figure:
        assert figure.width > 1000


def test_a_bad_bundle_on_a_labelled_folder(folder, labelled, capsys):
    line = refusal([folder / "bad", "--data", labelled, "--out", "report"], capsys)
    assert "bad: differs from Keras by more than allowed: float32: largest |Δ probability| is" in line
    assert json.loads(Path("report/verification.json").read_text())["artifacts"]["float32"]["broken"]


def test_scores_that_labels_of_one_class_cannot_give_are_not_defined(folder, labelled, capsys):
    rewrite(
        labelled / LISTS["test"], lambda lines: [lines[0], *["1,0,1,0,0,0,0," + x.split(",", 7)[7] for x in lines[1:]]]
    )
    assert main(["verify", str(folder / "good"), "--data", "labelled", "--out", "report"]) == 0
    printed = capsys.readouterr().out
    assert rows(printed, "float32")[0][-2] == "not defined"
    assert "images whose labels are too much alike received" in printed
    with Image.open("report/verification.png") as figure:
        assert figure.width > 1000  # mAP, as scikit-learn has it, is 1
    found = json.loads(Path("report/verification.json").read_text())["artifacts"]["float32"]
    assert found["macro_auroc"]["difference"] is None
    assert (found["mean_ap"]["a"], found["mean_ap"]["difference"]) == (1, 0)


def test_a_single_image_is_enough_to_compare_probabilities(folder, labelled, capsys):
    rewrite(labelled / LISTS["test"], lambda lines: lines[:2])
    assert main(["verify", str(folder / "good"), "--data", "labelled"]) == 0
    assert "500 labelled images needed, 1 image whose labels are too much alike received" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda place: (place / LISTS["test"]).unlink(),
            "no test.csv (looked in ImageSets/Main and in the folder itself)",
        ),
        (
            lambda place: rewrite(place / LISTS["test"], lambda lines: [lines[0].replace("A4", "A5"), *lines[1:]]),
            "test.csv:1: missing column 'A4'",
        ),
        (
            lambda place: rewrite(place / LISTS["test"], lambda lines: [f"{line},z9" for line in lines]),
            "test.csv:1: unknown column 'z9'",
        ),
        (
            lambda place: rewrite(place / LISTS["test"], lambda lines: [lines[0], "2" + lines[1][1:], *lines[2:]]),
            "test.csv:2: S0 must be 0 or 1. Found: '2'",
        ),
        (lambda place: rewrite(place / LISTS["test"], lambda lines: lines[:1]), "test.csv: lists no image"),
        (lambda place: shutil.rmtree(place / "JPEGImages"), "JPEGImages: no such folder"),
        (lambda place: next((place / "JPEGImages").iterdir()).unlink(), ".jpg: no such file"),
        (lambda place: next((place / "JPEGImages").iterdir()).write_bytes(b"no picture"), ".jpg: "),
        (shutil.rmtree, "labelled: no such file or folder"),
    ],
)
def test_what_is_wrong_with_a_labelled_folder_is_told_in_one_line(folder, labelled, capsys, change, message):
    change(labelled)
    assert message in refusal([folder / "good", "--data", labelled], capsys)


# --- JPEGs decoded at half their size ---------------------------------------------------------------------------------


def test_what_half_size_decoding_changes_is_part_of_the_contract(
    folder, small_model, write_small_bundle, tmp_path, capsys, monkeypatch
):
    artifact = ArtifactSource(folder / "good" / "float32.tflite", "float32", 1e-3)
    halving = write_small_bundle(tmp_path / "halving", {"float32": artifact}, folder / "good.keras", reduction=2)
    files = tmp_path / "files"
    files.mkdir()
    image = cohort(1, seed=5)[0].render(2101).image
    Image.fromarray(image).save(files / "large.jpg", quality=90)
    Image.fromarray(image[::4, ::4]).save(files / "small.jpg", quality=90)
    Image.fromarray(image).save(files / "large.png")
    arguments = ["verify", str(tmp_path / "halving"), "--images", str(files), "--out", str(tmp_path / "report")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "difference to Keras on 3 images" in printed

    spec = halving.spec
    inputs = [preprocess(read_image(files / "large.jpg", min_side=m).pixels, spec)[0] for m in (None, spec.min_side)]
    whole, half = keras_predictions(small_model, np.stack(inputs))["probabilities"]
    expected = float(np.abs(whole - half).max())
    assert expected > 0
    assert f"decoding at half size: largest |Δp| {expected:.2g} on 1 image\n" in printed
    found = json.loads((tmp_path / "report" / "verification.json").read_text())["decoding at half size"]
    assert found == {"images": 1, "max_probability": pytest.approx(expected, rel=1e-3), "limit": 0.01}

    stricter = replace(LabelsContract.decoding, limit=expected / 2)
    monkeypatch.setattr(LabelsContract, "decoding", stricter)
    assert "halving: JPEGs decoded at half their size change a probability by up to" in refusal(arguments[1:], capsys)
    (files / "large.jpg").unlink()
    assert main(arguments) == 0
    assert "not judged: JPEG files of 2048 px or more needed" in capsys.readouterr().out


# --- --reference FILE: on a board, where no Keras is ----------------------------------------------------------------

WITHOUT_KERAS = """
import sys
sys.modules.update(dict.fromkeys(("keras", "tensorflow")))  # None: cannot be imported
from export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_reference_file_stands_in_for_keras(folder, labelled, capsys):
    """The same figures, without the Keras model and without Keras."""
    shutil.copytree(folder / "good", "good")
    arguments = ["good", "--data", "labelled", "--out", "with", "--save-reference", "made/reference.npz"]
    assert main(["verify", *arguments]) == 0
    assert "written: made/reference.npz" in capsys.readouterr().out
    Path("good/source.keras").unlink()
    arguments = ["verify", "good", "--reference", "made/reference.npz", "--out", "without"]
    board = subprocess.run([sys.executable, "-c", WITHOUT_KERAS, *arguments], capture_output=True, text=True)
    assert board.returncode == 0, board.stderr
    reports = [json.loads((Path(name) / "verification.json").read_text()) for name in ("with", "without")]
    assert reports[0]["artifacts"]["float32"]["max_probability"] > 0
    assert reports[0]["artifacts"]["float32"]["macro_auroc"]["low"] is not None
    assert reports[1] == reports[0]
    refused = subprocess.run([sys.executable, "-c", WITHOUT_KERAS, "verify", "good"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("python -m export: error: the package")


def test_a_reference_tells_an_engine_that_computes_something_else(folder, tmp_path, capsys):
    reference = tmp_path / "reference.npz"
    arguments = [str(folder / "bad"), "--images", str(folder / "images"), "--save-reference", str(reference)]
    assert "float32: largest |Δ probability| is" in refusal(arguments, capsys)
    assert "float32: largest |Δ probability| is" in refusal([folder / "bad", "--reference", reference], capsys)
    assert "made for another Keras model" in refusal([folder / "good", "--reference", reference], capsys)
    reference.write_bytes(reference.read_bytes()[:-100])
    assert "reference.npz: not a reference file" in refusal([folder / "bad", "--reference", reference], capsys)
    assert "golden.npz: not a reference file" in refusal(
        [folder / "bad", "--reference", folder / "bad/golden.npz"], capsys
    )
    assert "no such file" in refusal([folder / "bad", "--reference", tmp_path / "none.npz"], capsys)


def replaced(**changes):
    """A reference file with other arrays; None takes one away."""

    def change(arrays):
        content = io.BytesIO()
        kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
        kept = {name: value(arrays[name]) if callable(value) else value for name, value in kept.items()}
        np.savez_compressed(content, **kept)
        return content.getvalue()

    return change


def about(**changes):
    return replaced(about=lambda text: json.dumps({**json.loads(str(text)), **changes}))


def saved(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: b"", "not a zip file"),
        (lambda arrays: saved(arrays["pixels"]), "not a zip file"),
        (replaced(about=None), "about: it is missing"),
        (replaced(about="no json"), "Expecting value"),
        (replaced(about="[" * 100_000), "recursion"),
        (replaced(about="[]"), "about: an object expected"),
        (about(origin=5), "about.origin: a text expected"),
        (about(**{"left out": "3"}), "about.left out: a whole number expected"),
        (replaced(pixels=None), "pixels: it is missing"),
        (replaced(pixels=lambda x: x[:2]), "pixels: uint8 (3, 64, 64, 3) expected. Received: uint8 (2, 64, 64, 3)"),
        (replaced(pixels=lambda x: x.astype("float32")), "Received: float32"),
        (replaced(pixels=lambda x: x.astype(object)), "Received: object"),
        (replaced(probabilities=lambda x: x[:, :5]), "probabilities: float32 (any, 7) expected"),
        (replaced(probabilities=lambda x: x[:0]), "probabilities: float32 (any, 7) expected"),
        (replaced(probabilities=lambda x: x * np.nan), "Keras' output: probabilities: not finite"),
        (replaced(probabilities=lambda x: x + 2), "Keras' output: probabilities: not in [0, 1]"),
        (replaced(class_maps=lambda x: x[:, :1]), "class_maps: float32 (any, 2, 2, 7) expected"),
        (replaced(class_maps=lambda x: x + np.inf), "Keras' output: class_maps: not finite"),
        (replaced(truth=np.zeros((3, 6), "float32")), "truth: float32 (3, 7) expected"),
        (replaced(truth=np.full((3, 7), 2, "float32")), "truth: 0, 1 or NaN expected"),
        (replaced(patients=np.array(["a", "b"])), "patients: text (3) expected"),
        (replaced(patients=np.arange(3)), "patients: text (3) expected"),
    ],
)
def test_what_is_wrong_with_a_reference_file_is_told_in_one_line(folder, tmp_path, capsys, reference, change, message):
    with np.load(reference) as arrays:
        content = change(dict(arrays))
    (tmp_path / "bad.npz").write_bytes(content)
    line = refusal([folder / "good", "--reference", tmp_path / "bad.npz"], capsys)
    assert "bad.npz: not a reference file of `export verify --save-reference`: " in line
    assert message in line


@pytest.fixture(scope="module")
def reference(folder):
    """A reference file of three images."""
    path = folder / "reference.npz"
    assert (
        main(["verify", str(folder / "good"), "--images", str(folder / "images"), "--save-reference", str(path)]) == 0
    )
    return path
