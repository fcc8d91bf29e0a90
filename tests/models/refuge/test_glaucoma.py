"""The networks of findings and of glaucoma: what normalizes the picture, what learns, and the maps in between."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.ndimage import gaussian_filter

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.networks import build
from keras_realmnet.models.refuge.glaucoma import SIZE_OF
from keras_realmnet.models.refuge.pictures import ZeroLocalMean
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from training.data.glaucoma.findings import FINDINGS

tensorflow_only = pytest.mark.tensorflow_only
SMALL = {"filters": 2, "blocks": 1, "branch_filters": 3}
GLAUCOMA = Labels(LabelSet("glaucoma", (Label("G", "Glaucoma", "glaucoma"),)))
SOME = Labels(LabelSet("some", tuple(FINDINGS[code] for code in ("RNFLD", "HE", "HOLE"))))


def images(count=2, size=64):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(x), values)


@pytest.mark.parametrize("sigma", [1.07, 6.0])
def test_a_picture_without_its_local_mean(sigma):
    """Beside SciPy's filter; at the border what lies outside has no weight."""
    layer = ZeroLocalMean(sigma)
    pixels = np.random.default_rng(1).uniform(90, 160, (2, 13, 20, 3)).astype("float32")
    reach = len(layer.kernel) // 2

    def blurred(values):
        return gaussian_filter(values, sigma, mode="constant", radius=(0, reach, reach, 0), axes=(0, 1, 2, 3))

    blur = blurred(pixels) / blurred(np.ones_like(pixels))
    expected = np.clip(4 * (pixels - blur) + 128, 0, 255)
    assert (expected == 0).any()
    np.testing.assert_allclose(numbers(layer(pixels)), expected, atol=1e-2)
    assert layer.kernel.sum() == pytest.approx(1)
    flat = np.full((1, 9, 9, 3), 77, "float32")
    np.testing.assert_allclose(numbers(layer(flat)), 128, atol=1e-3)
    assert ZeroLocalMean.from_config(layer.get_config()).sigma == sigma


@tensorflow_only
@pytest.mark.parametrize("normalization", ["scaled", "local_mean"])
def test_a_finding_is_the_mean_of_its_map(normalization):
    """Of small lesions that of the largest of 2 × 2; the deployed network gives the same."""
    model = build("refuge_findings", {"findings": SOME}, (64, 128), normalization=normalization, **SMALL)
    ends = {code: model.get_layer(f"{code}_map").output for code in SOME.labels.codes}
    pictures = np.concatenate([images(), images()[:, ::-1]], axis=2)
    maps, said = numbers(keras.Model(model.input, [ends, model.output])(pictures))
    assert maps["HE"].shape == (2, 2, 4, 1)
    small = maps["HE"].reshape(2, 1, 2, 2, 2).max(axis=(2, 4))
    expected = [maps["RNFLD"].mean(axis=(1, 2, 3)), small.mean(axis=(1, 2)), maps["HOLE"].mean(axis=(1, 2, 3))]
    np.testing.assert_allclose(said["findings"], np.stack(expected, axis=-1), atol=1e-6)
    graph = deploy_graph(model, batch_size=2, activations={"findings": "sigmoid"})
    probabilities = 1 / (1 + np.exp(-said["findings"].astype("float64")))
    np.testing.assert_allclose(numbers(graph(pictures))["findings"], probabilities, atol=1e-5)
    names = [layer.name for layer in graph.layers]
    assert ("zero_local_mean" in names) == (normalization == "local_mean")


@tensorflow_only
def test_one_unit_learns_and_the_findings_stay_as_they_are():
    """The statistics of their BatchNorm, too; the unit's gradients are those of a logistic regression on mean maps."""
    model = build("refuge_glaucoma", {"glaucoma": GLAUCOMA}, 64, **SMALL)
    unit = model.get_layer("glaucoma")
    assert [weight.path for weight in model.trainable_variables] == ["glaucoma/kernel", "glaucoma/bias"]
    means, logits = numbers(keras.Model(model.input, [model.get_layer("pool").output, model.output])(images()))
    assert means.shape == (2, 9 * 3)
    before = [np.array(weight) for weight in model.get_weights()]
    kernel, bias = (np.array(weight) for weight in unit.get_weights())
    truth = np.array([[1], [0]], "float32")
    model.compile(keras.optimizers.SGD(0.5), losses.BinaryCrossentropy(), run_eagerly=True)
    model.train_on_batch(images(), {"glaucoma": truth})
    error = (1 / (1 + np.exp(-logits["glaucoma"])) - truth) / 2  # of half the usual cross-entropy
    np.testing.assert_allclose(numbers(unit.kernel), kernel - 0.5 * means.T @ error / 2, atol=1e-5)
    np.testing.assert_allclose(numbers(unit.bias), bias - 0.5 * error.mean(axis=0), atol=1e-6)
    own = {id(weight) for weight in unit.weights}
    for weight, old in zip(model.weights, before, strict=True):
        assert np.array_equal(ops.convert_to_numpy(weight), old) == (id(weight) not in own), weight.path


@tensorflow_only
def test_the_findings_learn():
    model = build("refuge_findings", {"findings": SOME}, 64, **SMALL)
    before = {weight.path: np.array(weight) for weight in model.trainable_variables}
    model.compile(keras.optimizers.SGD(0.1), losses.BinaryCrossentropy(), run_eagerly=True)
    model.train_on_batch(images(4), {"findings": np.eye(4, 3, dtype="float32")})
    assert not [weight.path for weight in model.trainable_variables if np.array_equal(weight, before[weight.path])]


def test_the_sizes_at_1024_px():
    """Fifteen findings; reductions to 32 × 32, their maps beside each other, and nine atrous convolutions."""
    assert set(SIZE_OF) == set(FINDINGS.codes)
    assert len(FINDINGS.codes) == 15
    assert sorted(code for code, size in SIZE_OF.items() if size == "small") == ["DRUSEN", "EX", "HE", "PIGMENT", "SE"]
    model = build("refuge_findings", {"findings": Labels(FINDINGS)}, normalization="local_mean", blocks=1)
    part = model.get_layer("findings")
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in part.layers}
    assert [shapes[f"stride{s}_block0_add"] for s in (2, 4, 8, 16, 32)] == [
        (512 // 2**k, 512 // 2**k, 16 * 2**k) for k in range(5)
    ]
    assert shapes["strides"] == (32, 32, 16 + 32 + 64 + 128 + 256)
    rates = {size: [] for size in ("small", "medium", "large")}
    for layer in part.layers:
        if "_rate" in layer.name and layer.name.endswith("_conv"):
            rates[layer.name.partition("_")[0]].append(layer.dilation_rate[0])
    assert rates == {"small": [1, 2], "medium": [1, 2, 4], "large": [1, 2, 4, 8]}
    assert model.output["findings"].shape == (None, 15)
    assert part.get_layer("zero_local_mean").sigma == pytest.approx(1024 / 60)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"refuge_glaucoma answers one output of labels\. Received: g \(grades\)"):
        build("refuge_glaucoma", {"g": Grades(FINDINGS)}, 64)
    with pytest.raises(ValueError, match=r"image_size must be divisible by 64\. Received: 96"):
        build("refuge_findings", {"f": SOME}, 96)
    with pytest.raises(ValueError, match=r"normalization must be scaled or local_mean\. Received: 'imagenet'"):
        build("refuge_findings", {"f": SOME}, 64, normalization="imagenet")
    with pytest.raises(WeightsMismatch, match=r"refuge_findings: there are no weights to begin with"):
        build("refuge_findings", {"f": SOME}, 64, load_weights="imagenet")
