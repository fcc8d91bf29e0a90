"""A bundle is complete and unchanged, or it is refused by the name of the file."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening import bundle as bundle_module
from keras_realmnet.screening.bundle import (
    BUNDLE_FILE,
    ArtifactSource,
    Bundle,
    Costs,
    add_artifacts,
    against_keras,
    write_bundle,
)
from keras_realmnet.screening.folder_change import FolderChange
from keras_realmnet.screening.labels import PALM, PSMM
from keras_realmnet.screening.preprocessing import PreprocessSpec

ROOT = Path(__file__).resolve().parents[2]
FILES = ("bundle.json", "float32.tflite", "second.tflite", "golden.npz")


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def resigned(directory: Path, **changes: object) -> None:
    """Writes bundle.json as a careless or malicious exporter would: changed, and correctly signed."""
    document = json.loads((directory / "bundle.json").read_bytes())
    document.update(changes)
    del document["digest"]
    signed = {**document, "digest": bundle_module._digest(document)}
    (directory / "bundle.json").write_bytes(bundle_module._serialize(signed))


def test_what_was_written_is_loaded(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    assert (bundle.name, bundle.version, bundle.modality) == ("tiny", "1.0", "uwf_red_green")
    assert bundle.label_set == PSMM
    assert bundle.spec == PreprocessSpec(size=64)
    assert bundle.operating_point.thresholds == {"S1": 0.5, "A2": 0.5, "A3": 0.5, "A4": 0.5}
    artifact = bundle.artifact()
    assert artifact.name == bundle.default_artifact == "float32"
    assert artifact.input_shape == (1, 64, 64, 3)
    assert artifact.output_shapes == {"probabilities": (1, 7), "class_maps": (1, 8, 8, 7)}
    assert artifact.bytes == (tiny_bundle / artifact.file).stat().st_size
    image, golden = bundle.golden("second")
    assert (image.dtype, image.shape) == (np.uint8, (1, 64, 64, 3))
    assert (golden.probabilities.shape, golden.class_maps.shape) == ((1, 7), (1, 8, 8, 7))


def test_bundles_of_schema_1_stay_readable(copy):
    """They did not say what is screened for; their digest, by which results name them, stays what it was."""
    document = json.loads((copy / "bundle.json").read_bytes())
    del document["label_set"]["condition"]
    resigned(copy, schema=1, label_set=document["label_set"])
    digest = json.loads((copy / "bundle.json").read_bytes())["digest"]
    bundle = Bundle.load(copy)
    assert (bundle.label_set, bundle.digest) == (PSMM, digest)
    resigned(copy, schema=1, label_set={**document["label_set"], "name": "mine"})
    assert Bundle.load(copy).label_set.condition == "retinal disease"


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
        ({"schema": 99}, "schema 99, written by a newer release; this one reads up to 2"),
        ({"preprocessing_hash": "0" * 16}, "preprocessing hash"),
        ({"preprocessing": {"size": "64"}}, "bundle.json"),
        ({"modality": "oct"}, "modality"),
        ({"default_artifact": "int4"}, "int4"),
        ({"operating_point": {"rule": "any_pathologic", "thresholds": {"A2": 0.5}, "chosen": ""}}, "thresholds"),
        ({"golden": {"file": "../golden.npz", "sha256": ""}}, "without folders"),
        ({"label_set": {"name": "x"}}, "'labels'"),
        ({"artifacts": {"float32": {}}}, r"artifacts\.float32: the field 'file' is missing"),
    ],
)
def test_a_signed_bundle_must_still_make_sense(copy, changes, message):
    resigned(copy, **changes)
    with pytest.raises(BundleMismatch, match=message):
        Bundle.load(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_what_is_no_bundle_file_is_refused(copy, content):
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleMismatch, match=r"bundle\.json"):
        Bundle.load(copy)


def rewritten(made: Path, target: Path, **changes: object) -> Bundle:
    bundle = Bundle.load(made)
    arguments = {
        "name": bundle.name,
        "version": bundle.version,
        "label_set": bundle.label_set,
        "modality": bundle.modality,
        "spec": bundle.spec,
        "operating_point": bundle.operating_point,
        "artifacts": {"float32": ArtifactSource(made / "float32.tflite", "float32", 1e-3)},
        "default_artifact": "float32",
        "golden_image": bundle.golden()[0],
        "training_data": bundle.training_data,
        "scores": bundle.scores,
        "versions": bundle.versions,
        "intended_use": bundle.intended_use,
    }
    return write_bundle(target, **{**arguments, **changes})


def test_the_same_arguments_give_the_same_bytes(tiny_bundle, tmp_path):
    first, second = rewritten(tiny_bundle, tmp_path / "a"), rewritten(tiny_bundle, tmp_path / "b")
    assert first.digest == second.digest
    for file in ("bundle.json", "golden.npz", "float32.tflite"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("costs", "size"),
    [
        (Costs(12_345_678, 28_000, 81.5, "a test"), ", 0.01 G multiply-accumulates for an image, 0.03 M parameters, "),
        (Costs(12_345_678, 28_000), ", 0.01 G multiply-accumulates for an image, 0.03 M parameters"),
        (None, ""),  # older bundles
    ],
)
def test_costs_are_stated_where_they_are_known(tiny_bundle, tmp_path, costs, size):
    source = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3, costs=costs)
    made = rewritten(tiny_bundle, tmp_path / "new", artifacts={"float32": source}).artifact()
    assert made.costs == costs
    memory = "82 MB of memory at most (a test)" if costs is not None and costs.peak_memory_mb else ""
    assert made.size == f"{made.bytes / 1e6:.1f} MB{size}{memory}"


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"macs": -1, "parameters": 1}, "`macs` must be a whole number"),
        ({"macs": 10**400, "parameters": 1}, "`macs` must be a whole number"),
        ({"macs": 1, "parameters": True}, r"costs\.parameters: a whole number expected"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": "9", "peak_memory_of": "x"}, "peak_memory_mb: a number"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": 10**400, "peak_memory_of": "x"}, "`peak_memory_mb` must be"),
        ({"macs": 1, "parameters": 1, "peak_memory_mb": 9}, "comes with what was measured"),
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


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_bundle_that_could_not_be_written_whole_is_the_old_one(tiny_bundle, copy):
    before = contents(copy)
    broken = {"float32": ArtifactSource(copy / "golden.npz", "float32", 1e-3)}
    with pytest.raises(BundleMismatch):
        rewritten(tiny_bundle, copy, artifacts=broken)
    with pytest.raises(BundleMismatch):
        add_artifacts(Bundle.load(copy), broken)
    with pytest.raises(ValueError, match="name"):  # found out at the end, when all files are made
        rewritten(tiny_bundle, copy, name="")
    assert contents(copy) == before


@pytest.mark.parametrize(("how", "trouble"), [("write", "killed"), ("add", "killed"), ("write", "full")])
def test_whenever_a_change_breaks_off_the_bundle_is_the_old_one_or_the_new_one(tiny_bundle, tmp_path, how, trouble):
    """Killed before every step in turn; or each size of file in turn is too large for the disk."""
    arguments = [Path(__file__).parent / "interrupted.py", how, trouble, tiny_bundle, tmp_path]
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True
    )
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    assert tries[-1]["status"] == 0
    old, new = {"digest": Bundle.load(tiny_bundle).digest, "files": sorted(FILES)}, tries[-1]["left"]
    assert {found["left"]["digest"] for found in tries} == {old["digest"], new["digest"]}
    assert {found["status"] for found in tries} == {0, -9 if trouble == "killed" else 1}
    for found in tries:
        assert found["then"] == (new if found["left"]["digest"] == new["digest"] else old)  # nothing is left over
        if trouble == "full":
            assert found["left"] == (old if found["status"] else new)


def test_one_writes_at_a_time(tiny_bundle, copy):
    bundle, before = Bundle.load(copy), contents(copy)
    model = {"third": ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)}
    with FolderChange(copy, BUNDLE_FILE, lambda content: set(FILES)):
        for write in (lambda: add_artifacts(bundle, model), lambda: rewritten(tiny_bundle, copy)):
            with pytest.raises(RealMNetError, match="somebody else is writing to this folder"):
                write()
    assert contents(copy) == before
    after = add_artifacts(bundle, model)
    with pytest.raises(RealMNetError, match=r"bundle\.json: the bundle was changed since it was read"):
        add_artifacts(bundle, {"fourth": model["third"]})
    assert list(add_artifacts(after, {"fourth": model["third"]}).artifacts) == ["float32", "second", "third", "fourth"]


def test_who_reads_while_others_write_gets_a_whole_bundle(tiny_bundle, copy):
    done = threading.Event()
    other = copy.parent / "other.tflite"
    other.write_bytes((tiny_bundle / "float32.tflite").read_bytes() + bytes(64))

    def write():
        for k in range(30):
            model = other if k % 2 else tiny_bundle / "float32.tflite"
            add_artifacts(Bundle.load(copy), {"float32": ArtifactSource(model, "float32", 1e-3)})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    digests = set()
    while not done.is_set():
        digests.add(Bundle.load(copy).digest)
    writer.join()
    assert len(digests) > 1


def test_a_replaced_artifact_no_longer_has_the_scores_of_the_old_one(tiny_bundle, copy):
    model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)
    resigned(copy, scores={against_keras(name): {"flips": 3} for name in ("float32", "second")})
    bundle = add_artifacts(Bundle.load(copy), {"second": model}, {against_keras("third"): {"flips": 0}})
    assert bundle.scores == {"float32 against Keras": {"flips": 3}, "third against Keras": {"flips": 0}}
    assert sorted(contents(copy)) == sorted(FILES)  # the same bytes keep their name


def test_files_of_others_stay_in_the_folder(tiny_bundle, copy):
    for name in ("README", "mine.onnx", "part-1.tflite"):
        (copy / name).write_bytes(b"mine")
    other = copy.parent / "other.tflite"
    other.write_bytes((tiny_bundle / "float32.tflite").read_bytes() + bytes(64))
    bundle = rewritten(tiny_bundle, copy, artifacts={"float32": ArtifactSource(other, "float32", 1e-3)})
    named = {"bundle.json", bundle.artifact().file, bundle.golden_file}
    assert set(contents(copy)) == named | {"README", "mine.onnx", "part-1.tflite"}
    (copy / "bundle.json").write_bytes(b"{")  # nobody knows what belongs to it: nothing is overwritten or removed
    before = contents(copy)
    rewritten(tiny_bundle, copy)
    after = contents(copy)
    assert all(after[name] == content for name, content in before.items() if name != "bundle.json")


def test_the_source_model_may_be_left_behind_but_not_changed(tiny_bundle, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"weights")
    rewritten(tiny_bundle, tmp_path / "new", source=tmp_path / "model.keras")
    source = tmp_path / "new" / "source.keras"
    assert source.read_bytes() == b"weights"
    source.write_bytes(b"Weights")
    with pytest.raises(BundleMismatch, match=r"source\.keras"):
        Bundle.load(tmp_path / "new")
    source.unlink()
    Bundle.load(tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_set": PALM}, "thresholds"),
        ({"modality": "oct"}, "modality"),
        ({"default_artifact": "int8"}, "default_artifact"),
        ({"golden_image": np.zeros((1, 32, 32, 3), np.uint8)}, "golden_image"),
        ({"artifacts": {"../x": ArtifactSource(Path("x"), "float32", 1.0)}, "default_artifact": "../x"}, "name"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tiny_bundle, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        rewritten(tiny_bundle, tmp_path / "new", **changes)
