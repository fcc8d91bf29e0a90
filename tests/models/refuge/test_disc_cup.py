"""The network of disc and cup: two branches, a frozen network of vessels in one of them, and a decoder."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.models.refuge.disc_cup import disc_cup_network
from keras_realmnet.models.refuge.pictures import ChannelStandardization, Resized
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

tensorflow_only = pytest.mark.tensorflow_only
DISC_AND_CUP = Masks(
    LabelSet("nerve", (Label("DISC", "Disc", "optic disc"), Label("CUP", "Cup", "optic cup"))),
    single=True,
    within=(("CUP", "DISC"),),
)
SMALL = {"fundus_encoder": "mobilenet_v2", "vessel_encoder": "mobilenet_v2"}
VESSELS = {"preset": "edge_mobilenet_v2", "image_size": 96, "options": {"mask_stride": 4}}


def images(count=2, size=64):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(x), values)


def flat(size):
    """A network of vessels that is a threshold of brightness."""
    pixels = keras.Input((*size, 3), name="images")
    return Network(pixels, {"vessels": keras.layers.Conv2D(1, 1, name="vessels")(pixels)})


def test_each_channel_of_each_picture_is_standardized():
    pixels = images(3, 8)
    pixels[1, ..., 2] = 77  # the same everywhere
    expected = (pixels - pixels.mean(axis=(1, 2), keepdims=True)) / np.maximum(
        pixels.std(axis=(1, 2), keepdims=True), 1
    )
    given = numbers(ChannelStandardization()(pixels))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert not given[1, ..., 2].any()
    worked = np.array([0, 0, 6, 6], "float32").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(numbers(ChannelStandardization()(worked)).ravel(), [-1, -1, 1, 1])


def test_maps_are_resized_and_batch_norm_behind_them_stays_in_inference():
    """A network called without saying whether it trains: Keras' own layer would put it into training."""
    pixels = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization()
    model = keras.Model(pixels, norm(Resized(8, 2)(pixels)))
    values = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 3)).astype("float32")
    weights = {4: np.eye(4), 8: np.zeros((8, 4)), 2: np.full((2, 4), 0.0)}
    for j in range(8):  # output j lies at (j + ½)·4/8 − ½ of the input
        at = np.clip((j + 0.5) / 2 - 0.5, 0, 3)
        weights[8][j, int(at)] += 1 - at % 1
        weights[8][j, min(int(at) + 1, 3)] += at % 1
    weights[2][0, :2], weights[2][1, 2:] = 0.5, 0.5
    expected = np.einsum("yh,xw,nhwc->nyxc", weights[8], weights[2], values) / np.sqrt(1 + norm.epsilon)
    np.testing.assert_allclose(numbers(model(values)), expected, atol=1e-5)
    assert Resized.from_config(Resized(8, 2).get_config())(values).shape == (2, 8, 2, 3)


@pytest.fixture(scope="module")
def model():
    return build("refuge_disc_cup", {"masks": DISC_AND_CUP}, 64, **SMALL, vessels=VESSELS)


@tensorflow_only
def test_the_branch_of_vessels_sees_the_network_of_vessels(model):
    part = model.get_layer("vessels")
    assert part.image_size == (96, 96)
    part.get_layer("vessels").bias.assign([2.0])
    ends = [model.get_layer(name).output for name in ("vessels_see", "vessel_map", "vessel_picture", "joint")]
    seen, probability, picture, joint = numbers(keras.Model(model.input, ends)(images()))
    logits = numbers(part(seen))["vessels"]
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert (probability.shape, picture.shape, joint.shape) == ((2, 24, 24, 1), (2, 64, 64, 3), (2, 1, 1, 640))
    np.testing.assert_allclose(picture[..., 1], picture[..., 0])
    assert picture.mean() == pytest.approx(255 * probability.mean(), rel=0.02)
    graph = deploy_graph(model, batch_size=2, activations={"masks": "sigmoid"})
    expected = 1 / (1 + np.exp(-numbers(model(images()))["masks"].astype("float64")))
    np.testing.assert_allclose(numbers(graph(images()))["masks"], expected, atol=1e-5)


@tensorflow_only
def test_a_step_leaves_the_vessels_as_they_are(model):
    """The statistics of their BatchNorm, too."""
    before = [np.array(value) for value in model.get_weights()]
    given = numbers(model(images()))["masks"]
    assert (given.shape, given.dtype) == ((2, 64, 64, 2), "float32")
    truth = np.zeros((2, 64, 64, 2), "uint8")
    truth[0, 20:40, 20:40, 0], truth[0, 25:35, 25:35, 1] = 1, 1
    model.compile(keras.optimizers.Adam(1e-3), losses.CrossentropyDice(), run_eagerly=True)
    model.train_on_batch(images(), {"masks": truth})
    frozen = {id(weight) for weight in model.get_layer("vessels").weights}
    assert len(frozen) == 278
    for weight, old in zip(model.weights, before, strict=True):
        assert np.array_equal(ops.convert_to_numpy(weight), old) == (id(weight) in frozen), weight.path


@tensorflow_only
def test_the_published_sizes():
    """At 640 px: EfficientNet-B4 and B0, whose maps of 10 × 10 stand beside each other, and up to 160 × 160."""
    model = disc_cup_network("masks", 2, flat((640, 640)))
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers if not isinstance(layer, keras.Model)}
    assert shapes["joint"] == (10, 10, 448 + 320)
    maps = {32: (20, 448, 256), 16: (40, 160, 128), 8: (80, 56, 64), 4: (160, 32, 32)}  # of EfficientNet-B4; filters
    below = 768
    for stride, (side, channels, filters) in maps.items():
        assert shapes[f"stride{stride}_concat"] == (side, side, below + channels)
        assert shapes[f"stride{stride}_swish"] == (side, side, filters)
        below = filters
    assert (shapes["masks_coarse"], shapes["masks"]) == ((160, 160, 2), (640, 640, 2))
    assert not [name for name in shapes if name in ("vessels_see", "vessel_map_sized")]
    fundus = model.get_layer("fundus")
    assert [type(layer).__name__ for layer in fundus.layers[:3]] == ["InputLayer", "ZeroPadding2D", "Conv2D"]


def test_what_does_not_fit_is_refused():
    exclusive = Masks(DISC_AND_CUP.labels, exclusive=True)
    with pytest.raises(ValueError, match=r"masks that are not exclusive\. Received: m \(exclusive masks\)"):
        build("refuge_disc_cup", {"m": exclusive}, 64)
    with pytest.raises(ValueError, match=r"image_size must be divisible by 64\. Received: 96"):
        build("refuge_disc_cup", {"m": DISC_AND_CUP}, 96)
    with pytest.raises(ValueError, match=r"vessels must be a mapping with the preset of a network.*Received: 'unet'"):
        build("refuge_disc_cup", {"m": DISC_AND_CUP}, 64, vessels="unet")
    with pytest.raises(ValueError, match=r"palm_classifier answers one output of labels"):
        build("refuge_disc_cup", {"m": DISC_AND_CUP}, 64, vessels={"preset": "palm_classifier"})
    pixels = keras.Input((64, 64, 3))
    pooled = Network(pixels, {"g": keras.layers.GlobalAveragePooling2D()(pixels)})
    with pytest.raises(ValueError, match=r"vessels must be a network with one output of one mask\. Received"):
        disc_cup_network("masks", 2, pooled, "mobilenet_v2", "mobilenet_v2", 64)
