"""A bundle is written whole or not at all, and says what people must know."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.artifact import Costs
from keras_realmnet.screening.bundle.bundle import Bundle, against_keras
from keras_realmnet.screening.bundle.document import BUNDLE_FILE, signed
from keras_realmnet.screening.bundle.folder_change import FolderChange
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts, put_back, write_bundle
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PALM, PSMM

ROOT = Path(__file__).resolve().parents[3]
FILES = ("bundle.json", "float32.tflite", "second.tflite", "golden.npz")


def rewritten(made: Path, target: Path, **changes: object) -> Bundle:
    bundle = Bundle.load(made)
    arguments = {
        "name": bundle.name,
        "version": bundle.version,
        "task": bundle.task,
        "spec": bundle.spec,
        "artifacts": {"float32": ArtifactSource(made / "float32.tflite", "float32", 1e-3)},
        "default_artifact": "float32",
        "golden_image": bundle.golden()[0],
        "training_data": bundle.training_data,
        "scores": bundle.scores,
        "versions": bundle.versions,
        "intended_use": bundle.intended_use,
    }
    return write_bundle(target, **{**arguments, **changes})


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    "changes",
    [
        {"intended_use": ""},
        {"training_data": {}},
        {"task": labels_task(PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen=" "))},
    ],
)
def test_a_bundle_that_does_not_tell_people_is_not_written(tiny_bundle, copy, changes):
    before = contents(copy)
    with pytest.raises(ValueError, match="must be a text for people"):
        rewritten(tiny_bundle, copy, **changes)
    assert contents(copy) == before


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
    document = json.loads((copy / "bundle.json").read_bytes())
    document["scores"] = {against_keras(name): {"flips": 3} for name in ("float32", "second")}
    (copy / "bundle.json").write_bytes(signed(document))
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
        ({"task": labels_task(PALM, "colour_fundus", OperatingPoint({"P": 0.5}, "by hand"))}, r"the shape \(1, 3\)"),
        ({"default_artifact": "int8"}, "default_artifact"),
        ({"golden_image": np.zeros((1, 32, 32, 3), np.uint8)}, "golden_image"),
        ({"artifacts": {"../x": ArtifactSource(Path("x"), "float32", 1.0)}, "default_artifact": "../x"}, "name"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tiny_bundle, tmp_path, changes, message):
    with pytest.raises((ValueError, BundleMismatch), match=message):
        rewritten(tiny_bundle, tmp_path / "new", **changes)


def test_a_tolerance_that_checks_nothing_is_not_exported(tiny_bundle, copy):
    before = contents(copy)
    for tolerance in (0, -1e-3, 0.2, float("nan"), float("inf")):
        model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", tolerance)
        with pytest.raises(
            BundleMismatch, match=r"float32\.tflite: .*a tolerance is a number above 0 and at most 0\.1"
        ):
            rewritten(tiny_bundle, copy, artifacts={"float32": model})
    assert contents(copy) == before


@pytest.fixture
def with_source(tiny_bundle, tmp_path):
    """A bundle with two artifacts, of which `float32` is the default one, that names a Keras model."""
    (tmp_path / "model.keras").write_bytes(b"the Keras model")
    model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)
    artifacts = {"float32": model, "second": model}
    rewritten(tiny_bundle, tmp_path / "bundle", artifacts=artifacts, source=tmp_path / "model.keras")
    return tmp_path / "bundle"


def test_the_file_of_an_artifact_that_can_be_made_again_may_be_left_out(with_source, tiny_bundle):
    digest = Bundle.load(with_source).digest
    (with_source / "second.tflite").unlink()
    bundle = Bundle.load(with_source)
    assert (bundle.absent, bundle.digest) == (["second"], digest)
    self_check(bundle, open_runtime(bundle))
    with pytest.raises(RealMNetError, match=r"second\.tflite: not in this folder; .*export add .* --artifacts second"):
        open_runtime(bundle, "second")
    other = with_source.parent / "model.keras"
    with pytest.raises(BundleMismatch, match=r"model\.keras: changed after"):
        put_back(bundle, "second", other)
    assert Bundle.load(with_source).absent == ["second"]
    put_back(bundle, "second", tiny_bundle / "float32.tflite")
    again = Bundle.load(with_source)
    assert (again.absent, again.digest) == ([], digest)
    assert {path.name for path in with_source.iterdir()} == {*FILES, "source.keras"}
    self_check(again, open_runtime(again, "second"), "second")


def test_no_other_file_may_be_missing_and_none_may_be_another(with_source):
    for file in ("float32.tflite", "golden.npz"):  # the default artifact's, for one
        content = (with_source / file).read_bytes()
        (with_source / file).unlink()
        with pytest.raises(BundleMismatch, match=f"{file}: the bundle needs this file"):
            Bundle.load(with_source)
        (with_source / file).write_bytes(content)
    (with_source / "second.tflite").unlink()
    (with_source / "second.tflite").symlink_to("nowhere")
    with pytest.raises(BundleMismatch, match=r"second\.tflite: the bundle needs this file"):
        Bundle.load(with_source)
    (with_source / "second.tflite").unlink()
    (with_source / "second.tflite").write_bytes(b"")
    with pytest.raises(BundleMismatch, match=r"second\.tflite: changed after the bundle was made"):
        Bundle.load(with_source)


def test_a_model_that_is_bound_to_a_device_may_not_be_missing(with_source):
    document = json.loads((with_source / "bundle.json").read_bytes())
    document["artifacts"]["second"]["device"] = {"GPU": "one"}
    (with_source / "bundle.json").write_bytes(signed(document))
    (with_source / "second.tflite").unlink()
    with pytest.raises(BundleMismatch, match=r"second\.tflite: the bundle needs this file"):
        Bundle.load(with_source)
