"""Lesion-Net and the networks that it is compared with: what they are made of, what they give, that they learn."""

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses
from keras_realmnet.models.lesions import decoders
from keras_realmnet.models.lesions.decoders import Gain
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.presets import LESION_PRESETS
from keras_realmnet.tasks.outputs import Grades, Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

tensorflow_only = (
    pytest.mark.tensorflow_only
)  # on PyTorch and JAX one network learns, and parts compute what they should
CODES = ("MA", "HE", "EX")
LESIONS = Masks(LabelSet("lesions", tuple(Label(code, code, f"{code} is there") for code in CODES)))
STRIDES = {"unet": 1, "deeplab_v3_plus": 4, "danet": 32}
SMALL = "mobilenet_v2"


def stride_of(name):
    return LESION_PRESETS[name].get("stride") or STRIDES[name]


def made(name, size=64, **options):
    return build(name, {"lesions": LESIONS}, size, **{"encoder": SMALL, **options})


def images(count=2, size=(64, 64)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype("float32")


def told(model, pixels):
    return ops.convert_to_numpy(model(pixels)["lesions"])


@tensorflow_only
@pytest.mark.parametrize("name", LESION_PRESETS)
def test_logits_lie_at_the_networks_stride(name):
    stride = stride_of(name)
    model = made(name, (64, 32))
    assert isinstance(model, Network)
    for variable in model.trainable_variables:  # beside the bias what random weights say is lost in float32
        if variable.name == "bias":
            variable.assign(ops.zeros_like(variable))
    given = told(model, images(2, (64, 32)))
    assert given.shape == (2, 64 // stride, 32 // stride, 3)
    assert given.dtype == np.float32
    assert np.isfinite(given).all()
    assert np.ptp(given) > 0


@tensorflow_only
def test_logits_may_lie_at_the_size_of_the_image():
    """On the other encoder that is made for int8, too; enlarged as OpenCV does."""
    model = made("lesion_net_4s", encoder="efficientnet_lite0", full_size=True)
    ends = [model.get_layer("lesions_coarse").output, model.output["lesions"]]
    coarse, fine = (ops.convert_to_numpy(x)[0] for x in keras.Model(model.input, ends)(images(1)))
    assert coarse.shape == (16, 16, 3)
    np.testing.assert_allclose(fine, cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_LINEAR), atol=1e-4)
    assert made("unet", 32, full_size=True).output["lesions"].shape == (None, 32, 32, 3)


@tensorflow_only
def test_the_published_lesion_net():
    """896 px become 28 positions of 2048 channels; Lesion-Net-16s has one step to 56 positions of 768."""
    model = build("lesion_net_16s", {"lesions": LESIONS})
    encoder = model.get_layer("encoder")
    assert model.image_size == (896, 896)
    assert [tuple(each.shape[1:]) for each in encoder.outputs] == [
        *((448, 448, 64), (224, 224, 192), (112, 112, 288), (56, 56, 768), (28, 28, 2048))
    ]
    assert tuple(model.output["lesions"].shape) == (None, 56, 56, 3)
    convolutions = 2048 * 768 + 9 * (2 * 768) * 768 + 9 * 768 * 768
    assert model.count_params() == encoder.count_params() + convolutions + 2 * 4 * 768 + 768 * 3 + 3


# ---- decoders, on maps of few channels


CHANNELS = {1: 3, 2: 4, 4: 6, 8: 8, 16: 10, 32: 32}
DECODERS = {
    "expansive 2": (decoders.expansive, {"stride": 2}),
    "expansive 16": (decoders.expansive, {"stride": 16}),
    "fcn 8": (decoders.fcn, {"stride": 8}),
    "fcn 32": (decoders.fcn, {"stride": 32}),
    "unet": (decoders.unet, {}),
    "deeplab_v3_plus": (decoders.deeplab_v3_plus, {}),
    "danet": (decoders.danet, {}),
}


def decoder(case):
    function, options = DECODERS[case]
    maps = {stride: keras.Input((64 // stride, 64 // stride, channels)) for stride, channels in CHANNELS.items()}
    model = keras.Model(list(maps.values()), function(maps, 3, "lesions", **options))
    for layer in model.layers:
        if isinstance(layer, Gain):
            layer.gamma.assign(1.0)  # at 0 nothing behind it is felt
    return model


def drawn_maps(count=2):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(count, 64 // s, 64 // s, c)).astype("float32") for s, c in CHANNELS.items()]


@tensorflow_only
@pytest.mark.parametrize("case", DECODERS)
def test_one_step_moves_every_weight(case):
    model = decoder(case)
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(1e-3), losses.DualDice(), run_eagerly=eager)
    y_true = np.random.default_rng(2).integers(0, 2, (2, 64, 64, 3)).astype("uint8")
    model.train_on_batch(drawn_maps(), y_true)
    after = map(ops.convert_to_numpy, model.trainable_variables)
    moved = dict(
        zip([weight.path for weight in model.trainable_variables], map(np.array_equal, before, after), strict=True)
    )
    assert [path for path, same in moved.items() if same] == []


def test_scores_of_a_fully_convolutional_network_are_enlarged_and_added():
    model, maps = decoder("fcn 8"), drawn_maps(1)
    by_stride = dict(zip(CHANNELS, maps, strict=True))
    scores = {}
    for stride in (8, 16, 32):
        kernel, bias = (ops.convert_to_numpy(each) for each in model.get_layer(f"stride{stride}_scores").weights)
        scores[stride] = by_stride[stride] @ kernel[0, 0] + bias

    def doubled(x):
        return cv2.resize(x[0], (2 * x.shape[2], 2 * x.shape[1]), interpolation=cv2.INTER_LINEAR)[None]

    expected = scores[8] + doubled(scores[16] + doubled(scores[32]))
    given = ops.convert_to_numpy(model(maps))
    np.testing.assert_allclose(given, expected, atol=1e-4)


@tensorflow_only
def test_the_attentions_of_danet_are_the_published_sums():
    model = decoder("danet")
    ends = {
        name: model.get_layer(name).output
        for name in ("position_in_relu", "position_map", "channel_in_relu", "channel_map")
    }
    weights = {
        part: [ops.convert_to_numpy(each).astype("float64") for each in model.get_layer(f"position_{part}").weights]
        for part in ("query", "key", "value")
    }
    given = {
        k: ops.convert_to_numpy(v).astype("float64") for k, v in keras.Model(model.input, ends)(drawn_maps(2)).items()
    }

    def softmax(x):
        x = np.exp(x - x.max(axis=-1, keepdims=True))
        return x / x.sum(axis=-1, keepdims=True)

    x = given["position_in_relu"].reshape(2, 4, -1)
    query, key, value = (
        x @ w[0][0, 0] + (w[1] if len(w) > 1 else 0) for w in map(weights.get, ("query", "key", "value"))
    )
    expected = softmax(query @ key.transpose(0, 2, 1)) @ value
    np.testing.assert_allclose(given["position_map"].reshape(2, 4, -1), expected, atol=1e-4)
    a = given["channel_in_relu"].reshape(2, 4, -1).transpose(0, 2, 1)  # (batch, channels, positions)
    energy = a @ a.transpose(0, 2, 1)
    expected = softmax(energy.max(axis=-1, keepdims=True) - energy) @ a
    np.testing.assert_allclose(given["channel_map"].reshape(2, 4, -1).transpose(0, 2, 1), expected, atol=1e-4)


# ---- learning and saving


def spots(count, seed):
    """Grey pictures with a bright spot of 16 px on a multiple of 8, where it is: of two lesions one."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 8, (count, 64, 64, 3)).astype("float32")
    y_true = np.zeros((count, 64, 64, 3), "uint8")
    for k in range(count):
        top, left = 8 * rng.integers(0, 7, 2)
        pixels[k, top : top + 16, left : left + 16, k % 2] += 120
        y_true[k, top : top + 16, left : left + 16, k % 2] = 1
    return pixels, y_true


def test_lesion_net_learns_spots():
    model = made("lesion_net_16s")
    pixels, y_true = spots(4, seed=1)
    eager = keras.backend.backend() == "tensorflow"  # tracing a graph would take it longer than these steps
    model.compile(
        keras.optimizers.Adam(3e-3), losses.DualDice(), run_eagerly=eager, jit_compile=keras.backend.backend() == "jax"
    )
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    history = [float(model.train_on_batch(pixels, {"lesions": y_true})) for _ in range(6)]
    assert min(history) < 0.9 * history[0]
    after = map(ops.convert_to_numpy, model.trainable_variables)
    assert not any(map(np.array_equal, before, after))


@tensorflow_only
def test_a_saved_network_is_the_same(tmp_path):
    model = made("lesion_net_16s", full_size=True)
    model.get_layer("encoder").trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, Network)
    assert len(again.trainable_variables) == len(model.trainable_variables) < len(model.variables)
    np.testing.assert_array_equal(told(again, images(1)), told(model, images(1)))


@tensorflow_only
def test_attention_is_saved_with_its_gain(tmp_path):
    model = decoder("danet")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(again.get_layer("position_gain").gamma) == 1
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each(drawn_maps())) for each in (model, again)))


# ---- what is refused


GRADES = Grades(LESIONS.labels)


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        ({"g": GRADES}, {}, r"unet answers one output of masks\. Received: g \(grades\)"),
        ({"a": LESIONS, "b": LESIONS}, {}, r"unet answers one output of masks\. Received: a \(masks\), b \(masks\)"),
        (
            {"a": LESIONS},
            {"encoder": "resnet50"},
            r"encoder must be inception_v3, efficientnet_lite0 or mobilenet_v2\. R",
        ),
        ({"a": LESIONS}, {"stride": 4}, r"unet takes encoder, frozen_stride, full_size\. Received: stride=4"),
    ],
)
def test_other_outputs_and_options_are_refused(outputs, options, message):
    with pytest.raises(ValueError, match=message):
        build("unet", outputs, 64, **options)
