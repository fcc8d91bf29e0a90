"""The regionally guided CNN: its map, what it says, that it learns, is saved and exported."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.tasks.guidance import marked_regions
from keras_realmnet.tasks.outputs import Grades, Labels, Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

tensorflow_only = pytest.mark.tensorflow_only  # on PyTorch and JAX one of them

EXUDATE = LabelSet("found", (Label("EX", "Hard exudate", "hard exudate"),))
TWO = LabelSet("found", (*EXUDATE.labels, Label("HE", "Haemorrhage", "haemorrhage")))
ENDS = {"probabilities": Labels(EXUDATE), "class_maps": marked_regions(EXUDATE)}
SMALL = {"filters": 2, "pyramid_filters": 4}
EDGE = {"encoder": "mobilenet_v2", "pyramid_filters": 4}


def made(name="guided_small", outputs=None, size=64, **options):
    small = EDGE if name == "guided_lite0" else SMALL
    return build(name, outputs or ENDS, size, **{**small, **options})


def images(count=2, size=(64, 64)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype("float32")


def numbers(values):
    return {name: ops.convert_to_numpy(ops.cast(x, "float32")) for name, x in values.items()}


@pytest.mark.parametrize(
    ("name", "options", "rates"),
    [
        ("guided_small", {}, (1, 2)),
        pytest.param("guided_medium", {"max_pool": 3}, (1, 2, 4), marks=tensorflow_only),
        pytest.param("guided_large", {"map_stride": 16}, (1, 2, 4, 8), marks=tensorflow_only),
        pytest.param("guided_lite0", {"map_stride": 16, "findings": "small"}, (1, 2), marks=tensorflow_only),
    ],
)
def test_what_it_says_is_the_mean_of_its_map(name, options, rates):
    model = made(name, size=(64, 96), **options)
    given = numbers(model(images(2, (64, 96))))
    side = options.get("map_stride", 32)
    z = given["class_maps"]
    assert z.shape == (2, 64 // side, 96 // side, 1)
    assert {values.dtype for values in given.values()} == {np.dtype("float32")}
    assert np.ptp(z) > 0
    window = {"guided_small": 2, "guided_medium": 3}.get(name, 1)
    rows, columns = (range(0, n, window) for n in z.shape[1:3])
    if window == 3:  # padded on both sides: 2 × 3 cells are less than a window and one
        largest = np.stack([z.max(axis=(1, 2))])
    else:
        largest = np.stack([z[:, i : i + window, j : j + window].max(axis=(1, 2)) for i in rows for j in columns])
    np.testing.assert_allclose(given["probabilities"], largest.mean(axis=0), rtol=1e-5, atol=1e-6)
    pyramid = [layer for layer in model.layers if layer.name.startswith("pyramid_rate") and "conv" in layer.name]
    assert [layer.dilation_rate for layer in pyramid] == [(rate, rate) for rate in rates]


def test_a_few_steps_move_every_weight_and_hold_the_map_back_outside():
    model = made()
    pixels = images(4) * 0.2
    pixels[1:] += 200
    regions = np.zeros((4, 64, 64, 1), "uint8")
    regions[1:, :32, :32] = 1
    truth = {"probabilities": np.array([[0], [1], [1], [1]], "float32"), "class_maps": regions}
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    eager = keras.backend.backend() == "tensorflow"
    chosen = {"probabilities": losses.BinaryCrossentropy(), "class_maps": losses.Guidance()}
    jit = keras.backend.backend() == "jax"
    model.compile(
        keras.optimizers.SGD(0.01, 0.9, True),
        chosen,
        {"probabilities": 2.0, "class_maps": 1.0},
        run_eagerly=eager,
        jit_compile=jit,
    )
    history = [float(model.train_on_batch(pixels, truth, return_dict=True)["loss"]) for _ in range(6)]
    assert np.isfinite(history).all()
    assert min(history[1:]) < history[0] - 0.1
    still = [
        w.path
        for w, old in zip(model.trainable_variables, before, strict=True)
        if (ops.convert_to_numpy(w) == old).all()
    ]
    assert still == []


def test_it_is_saved_and_loaded(tmp_path):
    model = made()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert isinstance(again, Network)
    for name, values in numbers(model(images())).items():
        np.testing.assert_array_equal(numbers(again(images()))[name], values)


@tensorflow_only
@pytest.mark.parametrize("name", ["guided_small", "guided_lite0"])
def test_the_deployed_network_gives_probability_and_activation_map(name):
    model = made(name, map_stride=16)
    for layer in model.layers:  # else BatchNorm has nothing to fold
        if isinstance(layer, keras.layers.BatchNormalization):
            rng = np.random.default_rng(1)
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    graph = deploy_graph(model, batch_size=None, activations=dict.fromkeys(ENDS, "sigmoid"))
    given, expected = numbers(graph(images())), numbers(model(images()))
    assert not [layer for layer in graph.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for end, logits in expected.items():
        np.testing.assert_allclose(given[end], 1 / (1 + np.exp(-logits)), atol=1e-5)


@tensorflow_only
def test_as_published_it_has_the_parameters_that_its_documentation_states():
    model = build("guided_medium", ENDS)
    assert model.count_params() == 14_729_585
    assert model.output["class_maps"].shape == (None, 16, 16, 1)
    assert build("guided_medium", {"finding": Labels(TWO)}, 64, **SMALL).output.keys() == {"finding"}
    both = {"probabilities": Labels(TWO), "class_maps": marked_regions(TWO)}
    assert build("guided_large", both, 64, **SMALL).output["class_maps"].shape == (None, 2, 2, 2)


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        ({"g": Grades(EXUDATE)}, {}, r"guided_small answers one output of labels, and at most one .* g \(grades\)"),
        ({"m": marked_regions(EXUDATE)}, {}, r"Received: m \(masks\)"),
        ({**ENDS, "more": Masks(TWO)}, {}, "one output of labels"),
        ({"l": Labels(TWO), "m": marked_regions(EXUDATE)}, {}, "the same were marked"),
        (ENDS, {"encoder": "mobilenet_v2"}, "guided_small takes .* Received: encoder"),
        (ENDS, {"findings": "tiny"}, "findings must be large, medium or small"),
        (ENDS, {"map_stride": 8}, "map_stride must be 32 or 16"),
        (ENDS, {"image_size": 40}, "image_size must be divisible by 32. Received: 40"),
    ],
)
def test_what_it_cannot_be_is_refused(outputs, options, message):
    size = options.pop("image_size", 64) if "image_size" in options else 64
    with pytest.raises(ValueError, match=message):
        build("guided_small", outputs, size, **options)
    with pytest.raises(WeightsMismatch, match=r"there are no weights to begin with\. Received: 'imagenet'"):
        build("guided_small", ENDS, 64, load_weights="imagenet")
