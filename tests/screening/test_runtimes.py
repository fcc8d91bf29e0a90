"""LiteRT behind `predict`: values against a NumPy computation of the same network, refusals, the self-check."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening import bundle as bundle_module
from keras_realmnet.screening.bundle import Bundle
from keras_realmnet.screening.labels import PSMM
from keras_realmnet.screening.runtimes import LiteRTRuntime, available_threads, open_runtime, self_check


def tiny_network(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network of tiny_bundle.py in NumPy: mean colour of 8 x 8 cells, two linear labels, maximum, sigmoid."""
    cells = images.reshape(len(images), 8, 8, 8, 8, 3).mean(axis=(2, 4), dtype=np.float64) / 255
    maps = np.full((len(images), 8, 8, 7), -3.0)
    maps[..., PSMM.codes.index("A3")] = 20 * cells[..., 1] - 14
    maps[..., PSMM.codes.index("S1")] = 20 * cells[..., 0] - 18
    return 1 / (1 + np.exp(-maps.max(axis=(1, 2)))), maps


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_match_numpy(tiny_bundle, count):
    images = np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), np.uint8)
    images[:, 8:16, 16:24] = 250
    prediction = open_runtime(Bundle.load(tiny_bundle)).predict(images)
    probabilities, class_maps = tiny_network(images)
    assert prediction.probabilities.dtype == prediction.class_maps.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(prediction.class_maps, class_maps, atol=1e-4)


def test_a_model_opens_from_memory_and_on_any_number_of_threads(tiny_bundle):
    image, golden = Bundle.load(tiny_bundle).golden()
    content = (tiny_bundle / "float32.tflite").read_bytes()
    for threads in (None, 1, 2):
        np.testing.assert_allclose(LiteRTRuntime(content, threads).predict(image).probabilities, golden.probabilities)
    assert available_threads() >= 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 32, 64, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
    ],
)
def test_other_images_are_refused(tiny_bundle, images):
    with pytest.raises(ValueError, match="images"):
        open_runtime(Bundle.load(tiny_bundle)).predict(images)


def test_bad_models_and_options_are_refused(tiny_bundle, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"TFL3" * 100)
    with pytest.raises(BundleMismatch, match=r"bad\.tflite"):
        LiteRTRuntime(tmp_path / "bad.tflite")
    with pytest.raises(BundleMismatch):
        LiteRTRuntime(tmp_path / "absent.tflite")
    bundle = Bundle.load(tiny_bundle)
    with pytest.raises(RealMNetError, match="threads"):
        open_runtime(bundle, threads=0)
    with pytest.raises(RealMNetError, match="'int8'"):
        open_runtime(bundle, "int8")


def test_without_the_package_the_message_says_what_to_install(tiny_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(RealMNetError, match=r"requirements-edge\.txt"):
        open_runtime(Bundle.load(tiny_bundle))


def test_the_self_check_passes_on_every_artifact(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    for name in bundle.artifacts:
        self_check(bundle, open_runtime(bundle, name), name)


@pytest.mark.parametrize("output", ["probabilities", "class_maps"])
@pytest.mark.parametrize("drift", ["value", "nan", "shape"])
def test_the_self_check_refuses_another_output(tiny_bundle, tmp_path, output, drift):
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with np.load(directory / "golden.npz") as arrays:
        golden = dict(arrays)
    key = f"{output}_float32"
    golden[key] = {"value": golden[key] + 0.1, "nan": golden[key] * np.nan, "shape": golden[key][..., :3]}[drift]
    np.savez_compressed(directory / "golden.npz", **golden)
    document = json.loads((directory / "bundle.json").read_bytes())
    document["golden"]["sha256"] = bundle_module._sha256(directory / "golden.npz")
    del document["digest"]
    signed = {**document, "digest": bundle_module._digest(document)}
    (directory / "bundle.json").write_bytes(bundle_module._serialize(signed))

    bundle = Bundle.load(directory)
    with pytest.raises(BundleMismatch, match=rf"float32\.tflite: .*{output}"):
        self_check(bundle, open_runtime(bundle))
