"""Each layer rule of the ONNX writer against Keras, with every padding and stride, in ONNX Runtime."""

import itertools

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from export.conversion.onnx_writer.convolutions import pads_of
from export.conversion.to_litert import to_litert
from export.conversion.to_onnx import RULES, graph_to_onnx, save_checked, to_onnx
from keras_realmnet import LinearHead, ResidualAttentionHead
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.deploy.steps import KNOWN
from keras_realmnet.models.layers.offset_maps import OffsetPeaks
from keras_realmnet.models.refuge.pictures import ChannelStandardization, Resized, ZeroLocalMean

TOLERANCE = 1e-5  # of the largest value: float32 sums in another order


def run(model, images):
    """{output: array} of an ONNX model, in memory or at a path."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def pixels(height, width, count=1):
    return np.random.default_rng(0).normal(0, 1, (count, height, width, 3)).astype("float32")


def randomized(model):
    rng = np.random.default_rng(1)
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.3, weight.shape))
    return model


def compare(stack, height=9, width=8, count=1, batch_size=1, tolerance=TOLERANCE):
    """Compares what a network of these layers gives in Keras and, deployed, in ONNX Runtime; the ONNX model."""
    x = inputs = keras.Input((height, width, 3), name="images")
    for layer in stack:
        x = layer(x)
    model = randomized(keras.Model(inputs, {"y": x}))
    written = graph_to_onnx(deploy_graph(model, batch_size=batch_size, activations={"y": None}))
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(written, True, True, True), full_check=True)
    images = pixels(height, width, count)
    expected = model(images)["y"].numpy()
    received = run(written, images)["y"]
    assert received.shape == expected.shape
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    return written


def operations(model):
    return [node.op_type for node in model.graph.node]


GEOMETRIES = list(itertools.product(("same", "valid"), (1, 2, 3), (1, 2, 3, (3, 2))))  # padding, stride, kernel


@pytest.mark.parametrize(("padding", "strides", "kernel"), GEOMETRIES)
def test_every_padding_stride_and_kernel(padding, strides, kernel):
    """For sides of odd and even numbers of positions, which "same" pads unlike."""
    for height, width in ((9, 8), (7, 10)):
        options = {"strides": strides, "padding": padding}
        compare([layers.Conv2D(4, kernel, **options)], height, width)
        compare([layers.DepthwiseConv2D(kernel, depth_multiplier=2, **options)], height, width)
        compare([layers.Conv2DTranspose(4, kernel, **options)], height, width)
        compare([layers.MaxPooling2D(kernel, **options)], height, width)
        compare([layers.AveragePooling2D(kernel, **options)], height, width)


@pytest.mark.parametrize("dilation", [2, (1, 3)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_dilated_convolutions(padding, dilation):
    compare([layers.Conv2D(4, (3, 2), padding=padding, dilation_rate=dilation)])
    compare([layers.Conv2D(4, 3, padding=padding, dilation_rate=dilation, use_bias=False)])
    compare([layers.DepthwiseConv2D(3, padding=padding, dilation_rate=2)])


def test_padding_same_by_hand():
    assert pads_of(224, 3, 2) == (0, 1)  # the last of 224 positions is one more beside the kernel
    assert pads_of(225, 3, 2) == (1, 1)
    assert pads_of(9, 3, 1, dilation=2) == (2, 2)
    assert pads_of(8, 1, 2) == (0, 0)


PLAIN = {
    "groups": [layers.Conv2D(6, 3, groups=3, padding="same")],
    "zeros around, then valid": [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.DepthwiseConv2D(3, 2)],
    "zeros around, then same": [layers.ZeroPadding2D(1), layers.Conv2D(4, 3, 2, "same")],
    "zeros twice": [layers.ZeroPadding2D(1), layers.ZeroPadding2D(((0, 1), (0, 0))), layers.Conv2D(4, 3, 2)],
    "zeros, then the highest": [layers.Rescaling(1.0, -9.0), layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)],
    "zeros at the end": [layers.Conv2D(4, 3), layers.ZeroPadding2D(2)],
    "zeros and a scale": [layers.ZeroPadding2D(1), layers.Rescaling(2.0, 1.0), layers.Conv2D(4, 3)],
    "BatchNorm alone": [layers.MaxPooling2D(), layers.BatchNormalization(), layers.ReLU()],
    "BatchNorm of a dense layer": [layers.GlobalAveragePooling2D(), layers.Dense(5), layers.BatchNormalization()],
    "BatchNorm of what is transposed": [layers.Conv2DTranspose(4, 3, 2, "same"), layers.BatchNormalization()],
    "Normalization": [layers.Normalization(mean=(1.0, 2, 3), variance=(4.0, 5, 6)), layers.Conv2D(4, 3, 2, "same")],
    "LayerNorm": [layers.LayerNormalization(), layers.Conv2D(4, 3)],
    "LayerNorm before a dense layer": [layers.LayerNormalization(), layers.Dense(4, "gelu", use_bias=False)],
    "a dense layer at each position": [layers.Conv2D(4, 3), layers.Dense(5, "relu"), layers.Conv2D(2, 1)],
    "Flatten": [layers.Conv2D(4, 3, 2), layers.Flatten(), layers.Dense(5)],
    "Reshape": [layers.Conv2D(4, 3, 2), layers.Reshape((4, -1)), layers.Dense(3)],
    "Reshape to a map": [layers.Flatten(), layers.Dense(24), layers.Reshape((2, 3, 4)), layers.Conv2D(2, 2)],
    "global maximum": [layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()],
    "global maximum, kept": [layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(keepdims=True), layers.Conv2D(3, 1)],
    "global mean of pixels": [layers.GlobalAveragePooling2D()],
    "global mean of pixels, kept": [layers.GlobalAveragePooling2D(keepdims=True)],
    "cropped": [layers.Conv2D(4, 3), layers.Cropping2D(((1, 2), (0, 1)))],
    "cropped pixels": [layers.Cropping2D(((1, 0), (2, 1))), layers.Conv2D(4, 3)],
    "enlarged": [layers.Conv2D(4, 3), layers.UpSampling2D((2, 3))],
    "enlarged bilinearly": [layers.Conv2D(4, 3), layers.UpSampling2D((3, 2), interpolation="bilinear")],
    "resized": [layers.Conv2D(4, 3), Resized(5, 13), layers.Conv2D(4, 3)],
    "resized pixels": [Resized(12, 5), layers.Conv2D(4, 3)],
    "standardized pixels": [ChannelStandardization(), layers.Conv2D(4, 3)],
    "a standardized map": [layers.Conv2D(4, 3), ChannelStandardization()],
    "zero local mean of pixels": [ZeroLocalMean(1.3), layers.Conv2D(4, 3)],
    "zero local mean of a map": [layers.Conv2D(4, 3), ZeroLocalMean(9.0)],
    "points of cells": [layers.Conv2D(6, 3), OffsetPeaks()],
    "points of cells, and how sure": [layers.Conv2D(3, 3), OffsetPeaks(confidence=True)],
    "softmax over rows": [layers.Conv2D(4, 3), layers.Softmax(1)],
    "softmax over classes": [layers.Conv2D(4, 3), layers.Softmax()],
    "softmax of a vector": [layers.Flatten(), layers.Dense(4), layers.Softmax()],
    "nothing": [layers.Conv2D(4, 3), layers.Dropout(0.5), layers.Activation("linear"), layers.Identity()],
}


@pytest.mark.parametrize("case", PLAIN)
def test_layers_in_a_row(case):
    compare(PLAIN[case])


def test_an_open_batch_takes_any_number_of_images():
    stack = [layers.Conv2D(4, 3), layers.UpSampling2D(2), layers.GlobalAveragePooling2D(), layers.Reshape((1, 1, 4))]
    compare([*stack, layers.Conv2D(5, 1), layers.Flatten(), layers.Dense(3)], count=3, batch_size=None)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_resizing_to_any_size(interpolation):
    for height, width in ((18, 16), (9, 5), (4, 13), (3, 3), (31, 8)):
        compare([layers.Resizing(height, width, interpolation)])


ACTIVATIONS = {
    **{name: layers.Activation(name) for name in ("relu", "relu6", "leaky_relu", "gelu", "tanh", "sigmoid")},
    **{name: layers.Activation(name) for name in ("hard_sigmoid", "silu", "swish", "hard_silu", "softmax")},
    "ReLU": layers.ReLU(),
    "ReLU6": layers.ReLU(max_value=6.0),
    "ReLU, leaky": layers.ReLU(negative_slope=0.1),
    "LeakyReLU": layers.LeakyReLU(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    wide = layers.Rescaling(5.0)  # beyond 6 and -3
    written = compare([wide, ACTIVATIONS[name]])
    compare([wide, layers.Conv2D(4, 3), ACTIVATIONS[name]])
    if name == "ReLU6":
        assert operations(written).count("Clip") == 1
    layer = ACTIVATIONS[name]
    if isinstance(layer, layers.Activation):  # within another layer
        compare([layers.Conv2D(4, 3, activation=layer.activation), layers.Dense(3, activation=layer.activation)])


MERGING = [layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum, layers.Concatenate]


@pytest.mark.parametrize(("kind", "count"), [(layers.Subtract, 2), *itertools.product(MERGING, (2, 4))])
def test_layers_of_several_inputs(kind, count):
    images = keras.Input((9, 8, 3), name="images")
    maps = [layers.Conv2D(3, 3, padding="same")(images) for _ in range(count - 1)]
    model = randomized(keras.Model(images, {"y": kind()([*maps, images])}))  # of both layouts
    check(model, pixels(9, 8))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation_along_every_axis(axis):
    images = keras.Input((9, 8, 3), name="images")
    maps = [layers.Conv2D(3, 3, padding="same")(images), layers.Conv2D(3, 1)(images)]
    check(randomized(keras.Model(images, {"y": layers.Concatenate(axis)(maps)})), pixels(9, 8))


def check(model, images, tolerance=TOLERANCE, path=None, **options):
    """Compares a model with its ONNX file in ONNX Runtime and, at a `path`, its LiteRT file, output by output."""
    options = options or {"activations": dict.fromkeys(model.output)}
    graph = deploy_graph(model, **options)
    expected = {name: value.numpy() for name, value in graph(images).items()}
    received = {"onnx": run(graph_to_onnx(graph), images)}
    if path is not None:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(to_litert(model, path, **options))).get_signature_runner()
        received["litert"] = runner(images=images)
    for engine, outputs in received.items():
        assert set(outputs) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(
                outputs[name], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=f"{engine}, {name}"
            )


def test_squeeze_and_excitation():
    images = keras.Input((9, 8, 3), name="images")
    x = layers.Conv2D(8, 3, activation="silu")(images)
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    squeezed = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="silu")(squeezed))
    model = randomized(keras.Model(images, {"y": layers.Multiply()([x, squeezed])}))
    check(model, pixels(9, 8))


def a_decoder():
    """A small network with skips, as for segmentation: transposed and dilated convolutions, pools, concatenation."""
    images = keras.Input((16, 24, 3), name="images")
    x = first = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="relu")(images))
    x = second = layers.Conv2D(8, 3, 2, "same", activation="swish")(layers.MaxPooling2D()(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", dilation_rate=2)(x))
    x = layers.BatchNormalization()(layers.Conv2DTranspose(6, 4, 2, "same", use_bias=False)(layers.ReLU(6.0)(x)))
    x = layers.Concatenate()([x, layers.UpSampling2D(2, interpolation="bilinear")(second)])
    x = layers.Concatenate()([layers.Resizing(16, 24)(layers.LeakyReLU()(x)), first])
    disc = layers.Conv2D(3, 1, name="disc")(x)
    lesions = layers.Conv2D(4, 3, 2, "same", name="lesions")(x)
    return randomized(keras.Model(images, {"disc": disc, "lesions": lesions}, name="decoder"))


def test_a_decoder_with_its_activations(tmp_path):
    options = {"activations": {"disc": "softmax", "lesions": "sigmoid"}}
    check(a_decoder(), pixels(16, 24), path=tmp_path / "decoder.tflite", **options)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_smaller_floats_spare_what_sees_the_pixels_and_what_decides(precision, tmp_path):
    model, images = a_decoder(), pixels(16, 24)
    options = {"activations": {"disc": "softmax", "lesions": "sigmoid"}}
    path = to_onnx(model, tmp_path / "small.onnx", opset=22, precision=precision, **options)
    kinds = {c.name: c.data_type for c in onnx.load(path).graph.initializer if c.name.endswith(".kernel")}
    whole = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT}
    (first,) = whole - {"disc_2.kernel", "lesions_2.kernel"}
    assert first.startswith("conv2d")
    assert len(kinds) == 6
    if precision == "float16":  # ONNX Runtime's processor kernels do not compute in bfloat16
        expected = deploy_graph(model, **options)(images)
        for name, value in run(path, images).items():
            assert 0 < np.abs(value - expected[name].numpy()).max() < 5e-3


@pytest.mark.parametrize("head", [ResidualAttentionHead, LinearHead])
def test_two_heads_with_class_maps(head):
    images = keras.Input((16, 16, 3), name="images")
    x = layers.Conv2D(8, 3, 4, "same", activation="relu")(images)
    logits = {"labels": head(5, name="head_of_labels")(x), "grades": head(3, name="head")(x)}
    check(
        randomized(keras.Model(images, logits, name="two")),
        pixels(16, 16),
        activations={"labels": "sigmoid", "grades": "softmax"},
        class_maps={"maps": "labels", "maps_of_grades": "grades"},
        features={"features": "labels"},
    )


def test_every_layer_a_deploy_graph_may_have_has_a_rule():
    replaced = {"BatchNormalization", "Normalization", "Rescaling", "WindowAttention", "MeanProbability"}
    known = {kind.__name__ for kind in KNOWN}
    assert replaced < known
    assert known - replaced <= {kind.__name__ for kind in RULES}


def test_the_file_is_checked_and_says_what_opens_it(tmp_path):
    written = compare(PLAIN["enlarged"])
    path = save_checked(written, tmp_path / "model.onnx")
    assert run(path, pixels(9, 8))["y"].shape == (1, 14, 18, 4)
