import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.training.datasets.drawn import SPEC
from training.datasets.boundary import BOUNDARY_MASKS
from training.datasets.made import phantom
from training.datasets.made.phantom import PHANTOMS, PhantomDataSet, drawing_code_hash


def test_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    data_set = PhantomDataSet(train_patients=2, validation_patients=1, test_patients=1, width=96)
    data = {split: data_set.load(split, SPEC, tmp_path) for split in ("train", "validation", "test")}
    train = data["train"]
    assert train.images.shape == (len(train), 32, 32, 3)
    assert train.images.dtype == np.uint8
    np.testing.assert_array_equal(train.labels[:, :2].sum(axis=1), 1)
    np.testing.assert_array_equal(train.labels[:, 2:].sum(axis=1), 1)
    assert len(set(train.names)) == len(train)
    assert len(set(train.patients)) == 2
    patients = [patient for images in data.values() for patient in set(images.patients)]
    assert len(set(patients)) == len(patients)  # no patient in two splits
    pixels = {image.tobytes() for images in data.values() for image in images.images}
    assert len(pixels) == sum(len(images) for images in data.values())  # no image twice, within or across splits


def test_the_boundary_is_an_output_or_is_made_black(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    plain = PhantomDataSet(train_patients=2, validation_patients=0, test_patients=0, width=96)
    known = replace(plain, outputs=["boundary"])
    both, masked = replace(plain, outputs=("probabilities", "boundary")), replace(plain, boundary="masked")
    images, found, all_known, black = (each.load("train", SPEC, tmp_path) for each in (plain, known, both, masked))
    mask = found.truth_of("boundary")
    assert known.task.outputs == {"boundary": BOUNDARY_MASKS}
    assert found.truth == {}
    assert mask.shape == (len(images), 32, 32)
    assert set(np.unique(mask)) == {0, 1, 2, 255}  # retina, border, lashes, beside the picture
    assert not images.images[mask == 255].any()
    np.testing.assert_array_equal(found.images, images.images)
    np.testing.assert_array_equal(all_known.truth_of("boundary"), mask)
    np.testing.assert_array_equal(all_known.labels, images.labels)
    np.testing.assert_array_equal(black.images, np.where(mask[..., None] == 0, images.images, 0))
    assert masked.task == plain.task
    assert "without device border" in masked.describe()
    for values, message in (
        ({"outputs": ("lids",)}, "outputs must be some of probabilities, boundary, each once"),
        ({"boundary": "cut"}, "boundary must be kept or masked"),
        ({"outputs": ("boundary",), "boundary": "masked"}, "leaves no boundary to find"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(plain, **values)


def test_the_hash_of_the_drawing_code_covers_every_module(tmp_path):
    """Also one that is added, and one in a folder below; what Python compiles beside them does not count."""
    modules = sorted(path.relative_to(PHANTOMS) for path in PHANTOMS.rglob("*.py"))
    assert len(modules) > 1
    code = shutil.copytree(PHANTOMS, tmp_path / "phantoms")
    original = drawing_code_hash(code)
    assert original == drawing_code_hash()
    hashes = {original}
    for module in modules:
        content = (code / module).read_bytes()
        (code / module).write_bytes(content + b"#")
        hashes.add(drawing_code_hash(code))
        (code / module).write_bytes(content)
    (code / "deeper").mkdir()
    (code / "deeper" / "vessels.py").touch()
    hashes.add(drawing_code_hash(code))
    (code / "deeper" / "vessels.py").rename(code / "vessels.py")
    hashes.add(drawing_code_hash(code))
    assert len(hashes) == len(modules) + 3
    (code / "vessels.py").unlink()
    (code / "vessels.pyc").touch()
    assert drawing_code_hash(code) == original


def test_another_drawing_code_has_another_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    data_set = PhantomDataSet(train_patients=1, validation_patients=0, test_patients=0, width=96)
    before = data_set.load("train", SPEC, tmp_path)
    assert data_set.load("train", SPEC, tmp_path).sha256 == before.sha256
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(phantom, "drawing_code_hash", lambda: "of other code")
    assert data_set.load("train", SPEC, tmp_path).sha256 == before.sha256  # of the pixels, which are the same
    assert len(list(tmp_path.iterdir())) == 2
