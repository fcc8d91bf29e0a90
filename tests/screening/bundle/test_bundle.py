"""A bundle is complete and unchanged, or it is refused by the name of the file."""

import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.document import signed
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.rules import AnyAbove, OperatingPoint
from keras_realmnet.tasks.vocabulary import PSMM, Label, LabelSet

ROOT = Path(__file__).resolve().parents[3]
FILES = ("bundle.json", "float32.tflite", "second.tflite", "golden.npz")


SHIPPED = Path(__file__).parents[3] / "bundles" / "realmnet-demo"


def resigned(directory: Path, **changes: object) -> None:
    """Writes bundle.json as a careless or malicious exporter would: changed, and correctly signed."""
    document = json.loads((directory / "bundle.json").read_bytes())
    (directory / "bundle.json").write_bytes(signed({**document, **changes}))


def test_what_was_written_is_loaded(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    assert (bundle.name, bundle.version, bundle.task.modality) == ("tiny", "1.0", "uwf_red_green")
    assert bundle.task.label_set == PSMM
    assert bundle.spec == PreprocessSpec(size=64)
    assert bundle.task.operating_point.thresholds == {"S1": 0.5, "A2": 0.5, "A3": 0.5, "A4": 0.5}
    artifact = bundle.artifact()
    assert artifact.name == bundle.default_artifact == "float32"
    assert artifact.input_shape == (1, 64, 64, 3)
    assert artifact.output_shapes == {"probabilities": (1, 7), "class_maps": (1, 8, 8, 7)}
    assert artifact.bytes == (tiny_bundle / artifact.file).stat().st_size
    image, golden = bundle.golden("second")
    assert (image.dtype, image.shape) == (np.uint8, (1, 64, 64, 3))
    assert (golden["probabilities"].shape, golden["class_maps"].shape) == ((1, 7), (1, 8, 8, 7))


def test_bundles_of_schema_1_stay_readable(copy):
    """They did not say what is screened for; their digest, by which results name them, stays what it was."""
    document = as_schema_2(json.loads((copy / "bundle.json").read_bytes()))
    del document["label_set"]["condition"]
    (copy / "bundle.json").write_bytes(signed({**document, "schema": 1}))
    digest = json.loads((copy / "bundle.json").read_bytes())["digest"]
    bundle = Bundle.load(copy)
    assert (bundle.task.label_set, bundle.digest) == (PSMM, digest)
    label_set = {**document["label_set"], "name": "mine"}
    (copy / "bundle.json").write_bytes(signed({**document, "schema": 1, "label_set": label_set}))
    assert Bundle.load(copy).task.condition == "retinal disease"


def as_schema_2(document: dict) -> dict:
    """A document of this release as the one before would have written it."""
    task = document.pop("task")
    rule = {name: value for name, value in task["rule"].items() if name not in ("kind", "output")}
    label_set = task["outputs"]["probabilities"]["labels"]
    labels = [{name: label[name] for name in ("code", "name", "meaning")} for label in label_set["labels"]]
    parts = {"modality": task["modality"], "label_set": {**label_set, "labels": labels}, "operating_point": rule}
    return {**document, **parts, "schema": 2}


def test_bundles_of_schema_2_stay_readable(goldens, tmp_path):
    """bundle.json of the shipped bundle as the release before wrote it in its own schema."""
    for file in SHIPPED.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "bundle.json").unlink()
    shutil.copy(goldens / "schema2" / "bundle.json", tmp_path)
    today = json.loads((SHIPPED / "bundle.json").read_bytes())
    resigned(tmp_path, golden=today["golden"])  # with the features that a reference has added since
    bundle, shipped = Bundle.load(tmp_path), Bundle.load(SHIPPED)
    assert json.loads((tmp_path / "bundle.json").read_bytes())["schema"] == 2
    assert (bundle.spec, bundle.default_artifact) == (shipped.spec, shipped.default_artifact)
    assert {each.sha256 for each in bundle.artifacts.values()} == {each.sha256 for each in shipped.artifacts.values()}
    then = {name: shipped.task.outputs[name] for name in bundle.task.outputs}
    # Since then the bundle has got a reference and a fitted rule; that release knew thresholds alone.
    point = OperatingPoint(**json.loads((goldens / "schema2" / "bundle.json").read_bytes())["operating_point"])
    rule = AnyAbove("probabilities", point)
    assert bundle.task == replace(shipped.task, outputs=then, reference=None, rule=rule, fitted=Fitted())


def test_an_unknown_artifact_is_named(tiny_bundle):
    with pytest.raises(RealMNetError, match=r"float32, second.*'int8'"):
        Bundle.load(tiny_bundle).artifact("int8")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused_by_name(copy, file):
    (copy / file).unlink()
    with pytest.raises(BundleMismatch, match=file.replace(".", r"\.")):
        Bundle.load(copy)


@pytest.mark.parametrize("file", FILES)
def test_any_changed_byte_is_refused_by_name(copy, file):
    original = (copy / file).read_bytes()
    rng = np.random.default_rng(0)
    for position in {0, len(original) - 1, *rng.integers(0, len(original), 40).tolist()}:
        changed = bytearray(original)
        changed[position] ^= int(rng.integers(1, 256))
        (copy / file).write_bytes(changed)
        with pytest.raises(BundleMismatch, match=file.replace(".", r"\.")):
            Bundle.load(copy)
    (copy / file).write_bytes(original + b" ")
    with pytest.raises(BundleMismatch):
        Bundle.load(copy)
    (copy / file).write_bytes(original)
    Bundle.load(copy)


def test_changes_that_keep_the_json_meaning_are_refused_too(copy):
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(text.replace('\n  "name"', '\n\t"name"', 1))
    with pytest.raises(BundleMismatch, match=r"bundle\.json: changed"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "schema 99, written by a newer release; this one reads up to 3"),
        ({"preprocessing_hash": "0" * 16}, "preprocessing hash"),
        ({"preprocessing": {"size": "64"}}, "bundle.json"),
        ({"task": {"name": "psmm"}}, "a task has the fields"),
        ({"default_artifact": "int4"}, "int4"),
        ({"golden": {"file": "../golden.npz", "sha256": ""}}, "without folders"),
        ({"artifacts": {"float32": {}}}, r"artifacts\.float32: the field 'file' is missing"),
    ],
)
def test_a_signed_bundle_must_still_make_sense(copy, changes, message):
    resigned(copy, **changes)
    with pytest.raises(BundleMismatch, match=message):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "place",
    [("name",), ("version",), ("intended_use",), ("task", "rule", "chosen"), ("training_data", "statement")],
    ids=".".join,
)
def test_what_a_bundle_tells_people_is_a_text(copy, place):
    """Name, version, intended use, training data and where the thresholds come from stand on every report."""
    *path, last = place
    original = json.loads((copy / "bundle.json").read_bytes())
    for value in ("", " \n\t", "\u200b", "a\0b", 3, None):
        document = json.loads(json.dumps(original))
        fields = document
        for step in path:
            fields = fields[step]
        fields[last] = value
        resigned(copy, **document)
        with pytest.raises(BundleMismatch, match=rf"bundle\.json: .*{last}.* (must be|expected)"):
            Bundle.load(copy)


def test_texts_for_people_may_have_lines(copy):
    text = "For research.\nNot for patients – não, 不."
    training_data = {"statement": text, "images": 3}
    resigned(copy, intended_use=text, training_data=training_data)
    bundle = Bundle.load(copy)
    assert (bundle.intended_use, bundle.training_data) == (text, training_data)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_what_is_no_bundle_file_is_refused(copy, content):
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleMismatch, match=r"bundle\.json"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"macs": -1, "parameters": 1}, "`macs` must be a whole number"),
        ({"macs": 10**400, "parameters": 1}, "`macs` must be a whole number"),
        ({"macs": 1, "parameters": True}, r"costs\.parameters: a whole number expected"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": "9", "peak_memory_of": "x"}, "peak_memory_mb: a number"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": 10**400, "peak_memory_of": "x"}, "`peak_memory_mb` must be"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": 9}, "comes with what was measured"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": 9, "peak_memory_of": " "}, "'peak_memory_of' must be a line"),
        ({"macs": 1}, "parameters"),
        ({"macs": 1, "parameters": 1, "watts": 5}, "watts"),
        ([1, 2], "costs: an object expected"),
    ],
)
def test_costs_that_make_no_sense_are_refused(copy, costs, message):
    artifacts = json.loads((copy / "bundle.json").read_text())["artifacts"]
    artifacts["float32"]["costs"] = costs
    resigned(copy, artifacts=artifacts)
    with pytest.raises(BundleMismatch, match=message):
        Bundle.load(copy)


# --- bundles that are signed correctly and make no sense --------------------------------------------------------------


def refusal(directory: Path) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleMismatch) as raised:
        Bundle.load(directory)
    line = str(raised.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 1000
    assert str(directory) in line
    return line


def changed(directory: Path, *path: object, to: object) -> None:
    """Sets what lies at `path` in bundle.json, and signs it."""
    document = json.loads((directory / "bundle.json").read_bytes())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    resigned(directory, **document)


HUGE = 10**400
LABELS = ("task", "outputs", "probabilities", "labels")
SHAPES = ("artifacts", "float32", "output_shapes")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            (*LABELS, "labels", 1, "code"),
            "S0",
            "codes must be unique. Received twice: 'S0'",
        ),
        ((*LABELS, "labels", 1, "name"), "No staphyloma", "names must be unique"),
        ((*LABELS, "labels", 1, "name"), "x" * 65, "at most 64 characters"),
        ((*LABELS, "labels", 1, "meaning"), "a\nb", "a line of text each"),
        ((*LABELS, "labels"), [], "needs a label. Received: none"),
        (
            (*LABELS, "name"),
            "psmm-of-a-clinic",
            "at most 16 ASCII characters .*'psmm-of-a-clinic:S0'",
        ),
        ((*LABELS, "pathologic"), [], "needs thresholds for some label"),
        ((*LABELS, "exclusive"), [["S0", "S0"]], "there once"),
        (
            (*SHAPES, "probabilities"),
            [1, 6],
            r"probabilities: labels have the shape \(1, 7\)",
        ),
        (
            SHAPES,
            {"probabilities": [1, 7]},
            "outputs probabilities, class_maps. Received",
        ),
        (
            (*SHAPES, "class_maps"),
            [1, 0, 8, 7],
            r"maps have the shape \(1, any, any, 7\)",
        ),
        (("artifacts", "float32", "input_shape"), [1, 32, 32, 3], "the images are 64 × 64 px"),
        (("artifacts", "float32", "input_shape"), [HUGE, 64, 64, 3], "an input shape is"),
        (("artifacts", "float32", "input_shape"), [], "an input shape is"),
        (("artifacts", "float32", "tolerance"), 0, "a tolerance is a number above 0 and at most 0.1"),
        (("artifacts", "float32", "tolerance"), -1e-3, "tolerance"),
        (("artifacts", "float32", "tolerance"), 0.5, "tolerance"),
        (("artifacts", "float32", "tolerance"), HUGE, "tolerance"),
        (("artifacts", "float32", "tolerance"), "1e-3", "tolerance: a number expected"),
        (("artifacts", "float32", "bytes"), 0, "at least one byte"),
        (("artifacts", "float32", "bytes"), 2421, "float32.tflite: bundle.json states 2421 bytes"),
        (("artifacts", "float32", "file"), "..", "plain file name"),
        (("artifacts", "float32", "file"), "a/b", "plain file name"),
        (("artifacts", "float32", "file"), 5, "file: a text expected"),
        (("artifacts", "float32", "file"), "bundle.json", "bundle.json: changed after"),
        (("artifacts", "float32", "engine"), ["litert"], "engine: a text expected"),
        (("artifacts", "float32", "device"), {"GPU": 8.7}, "device.GPU: a text expected"),
        (("artifacts", "float32", "watts"), 5, "there is no field 'watts'"),
        (("artifacts",), {}, "default artifact 'float32' is not in"),
        (("artifacts",), [], "artifacts: an object expected"),
        (("preprocessing", "size"), HUGE, "4096 px at most"),
        (("task", "rule", "thresholds", "A3"), HUGE, "must lie in"),
        (("task", "rule", "thresholds", "A3"), True, "thresholds are numbers by code"),
        (("task", "rule", "chosen"), None, "chosen must be a text"),
        (("golden",), "golden.npz", "golden: an object expected"),
        (("source",), [], "source: an object expected"),
        (("source",), {"file": "../../source.keras", "sha256": ""}, "plain file name"),
        (("training_data",), "unknown", "training_data: an object expected"),
        (("name",), "", "name must be a line of text"),
        (("version",), 3, "version: a text expected"),
        (("task", "modality"), {}, "modality must be a text"),
        (("task", "modality"), "a\n\x85b", "modality must be one of"),
        (("a\nfield",), 1, "there is no field"),
        (("x" * 100_000,), 1, "there is no field"),
        ((*LABELS, "exclusive"), [["S0", "y" * 100_000]], "has no label"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_signed_bundle_that_makes_no_sense_is_refused_in_one_line(copy, path, value, message):
    changed(copy, *path, to=value)
    assert re.search(message, refusal(copy)), refusal(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' * 100_000, "not valid JSON"),
        (b'{"schema": 2, "a": NaN}', "not valid JSON"),
        (b'{"schema": 2, "a": 1e999}', "not valid JSON"),
        (b'{"schema": 2, "a": "\\ud800"}', "not valid JSON"),
        (b'{"schema": 2, "a": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b'{"schema": true}', "schema 1 to 3 expected"),
        (b'{"schema": "' + b"2" * 100_000 + b'"}', "schema 1 to 3 expected"),
        (b'{"schema": ' + b"2" * 4000 + b"}", "written by a newer release"),
        (b'{"schema": 2}' + bytes(1 << 22), "at most 4194304 bytes expected"),
    ],
)
def test_a_hostile_bundle_json_is_refused_in_one_line(copy, content, message):
    (copy / "bundle.json").write_bytes(content)
    assert message in refusal(copy)


def test_a_file_that_is_none_is_refused(copy):
    (copy / "float32.tflite").unlink()
    os.mkfifo(copy / "float32.tflite")  # whoever opens it waits for ever
    assert "float32.tflite: the bundle needs this file" in refusal(copy)


def npz(change) -> bytes:
    """A golden file of the tiny bundle after `change` of its arrays."""

    def make(arrays):
        arrays = dict(arrays)
        change(arrays)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return content.getvalue()

    return make


def bomb(arrays) -> bytes:
    """Two megabytes that would be two gigabytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array)
                if name == "image":
                    for _ in range(2000):
                        file.write(bytes(1 << 20))
    return content.getvalue()


def damaged(arrays) -> bytes:
    """The values of an array are not what its check sum says."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    changed = bytearray(content.getvalue())
    changed[changed.index(arrays["image"].tobytes()[:5000]) + 20] ^= 1
    return bytes(changed)


def claims(shape) -> bytes:
    def make(arrays):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array_header_1_0(
                        file, {"descr": "|u1" if name == "image" else "<f4", "fortran_order": False, "shape": shape}
                    )
                    file.write(array.tobytes())
        return content.getvalue()

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda arrays: b"no archive", "not a zip file"),
        (lambda arrays: b"", "not a zip file"),
        (lambda arrays: b"PK\x05\x06" + bytes(18), "image: it is missing"),
        (npz(lambda a: a.pop("image")), "image: it is missing"),
        (npz(lambda a: a.pop("class_maps_second")), "class_maps_second: it is missing"),
        (npz(lambda a: a.update(image=a["image"][0])), r"image: uint8 \(1, 64, 64, 3\) expected"),
        (npz(lambda a: a.update(image=a["image"].astype("float32"))), "image: uint8 .*Received: float32"),
        (npz(lambda a: a.update(image=a["image"].astype(object))), "image: uint8 .*Received: object"),
        (npz(lambda a: a.update(probabilities_second=a["probabilities_second"][:, :3])), r"Received: float32 \(1, 3\)"),
        (npz(lambda a: a.update(class_maps_second=a["class_maps_second"] * np.nan)), "not finite"),
        (npz(lambda a: a.update(probabilities_second=a["probabilities_second"] - 2)), r"not in \[0, 1\]"),
        (bomb, "image: 12416 bytes expected"),
        (damaged, "image: Bad CRC-32"),
        (claims((1 << 60, 1 << 60)), "image: uint8"),
        (claims((1,) * 2000), "image: "),
    ],
)
def test_a_signed_golden_file_that_holds_something_else_is_refused_in_one_line(copy, make, message):
    with np.load(copy / "golden.npz") as arrays:
        content = make(dict(arrays))
    (copy / "golden.npz").write_bytes(content)
    resigned(copy, golden={"file": "golden.npz", "sha256": hashlib.sha256(content).hexdigest()})
    line = refusal(copy)
    assert "golden.npz: " in line
    assert re.search(message, line), line


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([HUGE, -1, 0, 1, 2.0, 0.5, 1e308, "", "S1", "a\nb", ".."])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place in a document, the document itself left out."""
    if isinstance(value, dict):
        steps = list(value)
    elif isinstance(value, list):
        steps = list(range(len(value)))
    else:
        return [path]
    return ([path] if path else []) + [place for step in steps for place in places(value[step], (*path, step))]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_signed_bundle_json_says_it_is_loaded_or_refused_in_one_line(tiny_bundle, tmp_path_factory, data):
    directory = tmp_path_factory.getbasetemp() / "mutated"
    if not directory.exists():
        shutil.copytree(tiny_bundle, directory)
    document = json.loads((tiny_bundle / "bundle.json").read_bytes())
    document["artifacts"]["float32"]["costs"] = {
        "macs": 1,
        "parameters": 1,
        "peak_memory_mb": 9.5,
        "peak_memory_of": "x",
    }
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(document)))
        place = document
        for step in path[:-1]:
            place = place[step]
        how = data.draw(st.sampled_from(["replace", "replace", "remove", "add", "double"]))
        if how == "remove":
            del place[path[-1]]
        elif how == "add" and isinstance(place[path[-1]], dict):
            place[path[-1]][data.draw(st.text(max_size=8))] = data.draw(json_values)
        elif how == "double" and isinstance(place[path[-1]], list):
            place[path[-1]] *= 2
        else:
            place[path[-1]] = data.draw(json_values)
    try:
        content = signed(document)
    except UnicodeEncodeError:  # half a character cannot be signed
        return
    (directory / "bundle.json").write_bytes(content)
    try:
        bundle = Bundle.load(directory)
    except BundleMismatch:
        refusal(directory)
    else:
        assert all(artifact.size for artifact in bundle.artifacts.values())
        image, golden = bundle.golden()
        assert image.shape[0] == len(golden["probabilities"]) == 1


def test_codes_that_dicom_has_no_room_for_are_refused_when_they_are_made():
    labels = (Label("N", "Normal", "normal"), Label("D12", "Disease", "a disease"))
    assert LabelSet("twelve-chars", labels, ("D12",), ()).codes == ("N", "D12")
    with pytest.raises(ValueError, match=r"at most 16 ASCII characters .*as DICOM demands.*'thirteen-char:D12'"):
        LabelSet("thirteen-char", labels, ("D12",), ())
