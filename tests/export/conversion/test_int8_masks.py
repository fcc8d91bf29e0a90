"""Masks in static int8 beside a grade in float, of two encoders that have the same weights."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

from export.conversion.artifacts import ArtifactMaker
from export.conversion.quantize_litert import WEIGHTED, operation_name, read
from export.conversion.quantize_litert_convolutions import to_litert_int8_masks, with_own_constants
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.encoders.inverted_residuals import InvertedResiduals, Stage, inverted_residuals
from keras_realmnet.screening.engines.litert import LiteRTRuntime

SMALL = InvertedResiduals((Stage(1, 8, 1, 1), Stage(4, 16, 2, 1)), epsilon=1e-3, same=True, stem=8)
OUTPUTS = ("grade", "masks")


def encoder(size, name):
    images = keras.Input((size, size, 3))
    scaled = layers.Normalization(mean=(127.0,) * 3, variance=(128.0**2,) * 3)(images)
    return keras.Model(images, inverted_residuals(scaled, SMALL)[-1], name=name)


def deployed(model, folder, pictures):
    activations = {"grade": "softmax", "masks": "sigmoid"}
    own = {name: activations[name] for name in model.output}
    return ArtifactMaker(model, folder, pictures, activations=own)


@pytest.fixture(scope="module")
def pictures():
    """uint8 (8, 64, 64, 3): squares of their own brightness in each."""
    rng = np.random.default_rng(1)
    squares = rng.integers(0, 256, (8, 4, 4, 3)) * rng.uniform(0.2, 1, (8, 1, 1, 1))
    return squares.repeat(16, axis=1).repeat(16, axis=2).astype("uint8")


@pytest.fixture(scope="module")
def networks():
    """A grade of half the picture beside masks of the whole one; and the masks alone."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    main, part = encoder(32, "main"), encoder(64, "part")
    for weight, twin in zip(part.weights, main.weights, strict=True):
        fan_in = np.prod(weight.shape[:2]) if "depthwise" in weight.path else np.prod(weight.shape[:-1])
        norm = weight.name in ("gamma", "moving_variance")
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if norm else rng.normal(0, (2 / fan_in) ** 0.5, weight.shape))
        twin.assign(weight)
    images = keras.Input((64, 64, 3), name="images")
    pooled = layers.GlobalAveragePooling2D()(main(layers.AveragePooling2D(2)(images)))
    masks = layers.Conv2D(2, 1, name="masks")(part(images))
    grade = layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02), name="grade")(pooled)
    ends = {"grade": grade, "masks": masks}
    return keras.Model(images, ends), keras.Model(images, {"masks": masks})


@pytest.fixture(scope="module")
def made(networks, pictures, tmp_path_factory):
    both, alone = (deployed(each, tmp_path_factory.mktemp("artifacts"), pictures) for each in networks)
    files = {name: both.make(name).path for name in ("float32", "int8", "int8-masks")}
    return {**files, "alone": alone.make("int8").path}


def answers(path, pictures, outputs=OUTPUTS):
    return LiteRTRuntime(path, outputs=outputs).predict(pictures)


def constants(path):
    """Buffers that convolutions and dense layers read, each time one does."""
    model = read(path)
    (subgraph,) = model.subgraphs
    weighted = [op for op in subgraph.operators if operation_name(model, op) in WEIGHTED]
    buffers = [subgraph.tensors[number].buffer for op in weighted for number in op.inputs[1:] if number >= 0]
    return [buffer for buffer in buffers if model.buffers[buffer].data is not None]


def test_masks_are_those_of_the_masks_alone_and_the_grade_is_as_in_float(made, pictures):
    """Had both encoders one bias, corrected for what one of them sees, the other's would be wrong."""
    exact, received = answers(made["float32"], pictures), answers(made["int8-masks"], pictures)
    assert np.ptp(exact["grade"], axis=0).max() > 0.01
    np.testing.assert_allclose(received["grade"], exact["grade"], atol=1e-3)
    alone = answers(made["alone"], pictures, ("masks",))["masks"]
    np.testing.assert_array_equal(received["masks"], alone)
    np.testing.assert_array_equal(answers(made["int8"], pictures)["masks"], alone)
    assert 0 < np.abs(received["masks"] - exact["masks"]).mean() < 0.02
    errors = [np.abs(answers(made[name], pictures)["grade"] - exact["grade"]).max() for name in ("int8-masks", "int8")]
    assert 0 < errors[0] < errors[1] / 2


def test_the_grade_is_computed_in_float(made):
    interpreter = Interpreter(
        str(made["int8-masks"]), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    computed = [
        interpreter._get_tensor_details(operation["outputs"][0], 0)["dtype"]
        for operation in interpreter._get_ops_details()
        if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")
    ]
    integers = computed.count(np.int8)
    assert integers == (len(computed) - 1) / 2  # the last convolution of the masks is float, too
    assert computed.count(np.float32) == integers + 1


def test_convolutions_with_the_same_weights_share_them_until_each_gets_its_own(made, pictures, tmp_path):
    shared = constants(made["float32"])
    assert len(set(shared)) < len(shared)
    separate = with_own_constants(made["float32"], tmp_path / "separate.tflite")
    own = constants(separate)
    assert len(set(own)) == len(own) == len(shared)
    for name, values in answers(made["float32"], pictures).items():
        np.testing.assert_array_equal(answers(separate, pictures)[name], values)


def test_a_network_without_masks_has_nothing_for_int8(networks, pictures, tmp_path):
    both, _ = networks
    grade = deployed(keras.Model(both.input, {"grade": both.output["grade"]}), tmp_path, pictures)
    with pytest.raises(RealMNetError, match="nothing to quantize: no convolution before"):
        grade.make("int8-masks")
    with pytest.raises(ValueError, match="static int8 needs calibration images"):
        to_litert_int8_masks(tmp_path / "a", tmp_path / "b", None)
