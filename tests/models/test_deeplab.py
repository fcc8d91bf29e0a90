"""DeepLabv3: it is keras-hub's, but for the dilation of its ResNet, as torchvision has it; it is deployed."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.networks import build
from training.datasets.boundary import BOUNDARY, BOUNDARY_MASKS

pytestmark = pytest.mark.tensorflow_only
NAME = "deeplab_v3_resnet50"
TINY = {"depths": [1, 1, 1, 2]}


def made(size=64, **options):
    return build(NAME, {BOUNDARY: BOUNDARY_MASKS}, size, **options)


def images(count=2, size=64):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def told(model, pixels, **arguments):
    return ops.convert_to_numpy(model(pixels, **arguments)[BOUNDARY])


def convolutions(model):
    """{name: (stride, dilation)} of the 3 × 3 convolutions of the ResNet."""
    found = [each for each in model.get_layer("resnet50").layers if isinstance(each, layers.Conv2D)]
    return {each.name: (each.strides[0], each.dilation_rate[0]) for each in found if each.kernel_size == (3, 3)}


def test_it_is_keras_hubs():
    """The same weights in `DeepLabV3Backbone`, whose maps are enlarged before the last convolution, say the same."""
    import keras_hub

    model = made(stride=32, depths=[1, 1, 1, 1])
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(64, 64, 3),
    )
    hub = keras_hub.models.DeepLabV3Backbone(
        encoder, spatial_pyramid_pooling_key="P5", upsampling_size=1, dilation_rates=[3, 6, 9], image_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.8, 1.2, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.1, variable.shape))

    def weights_of(name):
        return [*model.get_layer(f"{name}_conv").get_weights(), *model.get_layer(f"{name}_norm").get_weights()]

    for layer in encoder.layers:
        layer.set_weights(model.get_layer("resnet50").get_layer(layer.name).get_weights() if layer.weights else [])
    (pyramid,) = (each for each in hub.layers if type(each).__name__ == "SpatialPyramidPooling")
    branches = ("aspp_1x1", "aspp_rate3", "aspp_rate6", "aspp_rate9", "aspp_image")
    for theirs, ours in zip(pyramid.aspp_parallel_channels, branches, strict=True):
        theirs.set_weights(weights_of(ours))
    pyramid.projection.set_weights(weights_of("aspp"))
    kernel, *norm = weights_of("segmentation_head")
    hub.get_layer("segmentation_head_conv").set_weights([kernel])
    hub.get_layer("segmentation_head_norm").set_weights(norm)
    scaled = (images() - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    kernel, bias = model.get_layer(BOUNDARY).get_weights()
    # Said outright: its layer for enlarging says True of itself, and what follows would normalize by this batch.
    expected = ops.convert_to_numpy(hub(scaled.astype("float32"), training=False)) @ kernel[0, 0] + bias
    enlarged = layers.UpSampling2D(32, interpolation="bilinear")(told(model, images()))
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(enlarged, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("stride", "side"), [(8, 8), (16, 4)])
def test_what_is_not_halved_is_dilated(stride, side):
    model = made(stride=stride, **TINY)
    assert told(model, images(1)).shape == (1, side, side, 3)
    expected = {
        "stack0_block0_2_conv": (1, 1),
        "stack1_block0_2_conv": (2, 1),
        "stack2_block0_2_conv": (1 if stride == 8 else 2, 1),
        "stack3_block0_2_conv": (1, 2 if stride == 8 else 1),
        "stack3_block1_2_conv": (1, 32 // stride),
    }
    assert convolutions(model) == expected


@pytest.mark.long
def test_it_learns_is_saved_and_deployed(tmp_path):
    model = made(32, depths=[1, 1, 1, 1])
    pixels = images(2, 32)
    truth = {BOUNDARY: np.where(np.indices((2, 32, 32))[1] < 16, 2, 0).astype("uint8")}
    truth[BOUNDARY][:, :4] = 255
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        {BOUNDARY: losses.CrossentropyDice(exclusive=True, dice_weight=0.0)},
        run_eagerly=True,  # three steps
    )
    first, _, last = (model.train_on_batch(pixels, truth, return_dict=True)["loss"] for _ in range(3))
    assert last < first
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(told(again, pixels), told(model, pixels))
    graph = deploy_graph(model, batch_size=2, activations={BOUNDARY: "softmax"})
    assert not any(isinstance(layer, layers.BatchNormalization | layers.Normalization) for layer in graph.layers)
    logits = told(model, pixels)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(told(graph, pixels), shares / shares.sum(axis=-1, keepdims=True), atol=1e-5)


def test_what_it_refuses(tmp_path):
    with pytest.raises(ValueError, match="image_size must be divisible by 32"):
        made(40)
    with pytest.raises(ValueError, match=r"stride must be 8, 16 or 32\. Received: 4"):
        made(stride=4)
    with pytest.raises(WeightsMismatch, match="keras-hub's preset of a ResNet50"):
        made(load_weights=str(tmp_path / "none"), **TINY)
