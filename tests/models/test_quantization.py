import keras
import numpy as np
import onnx
import pytest
from keras import ops
from onnx.reference import ReferenceEvaluator

from keras_realmnet import RealMNet, ResidualAttentionHead, TinyViTBackbone
from keras_realmnet.deploy.quantization import fake_quantize, quantize_activations, quantize_weights
from keras_realmnet.errors import RealMNetError

RNG = np.random.default_rng(0)
ACTIVATIONS = (RNG.normal(0.4, 1, (64, 48)) * np.logspace(-3, 2, 64)[:, None]).astype("float32")


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def assert_same(received, expected):
    """Bit for bit; on JAX to the last digit, since XLA divides by a constant with a multiplication."""
    rtol = 5e-7 if keras.backend.backend() == "jax" else 0
    np.testing.assert_allclose(numpy(received), expected, rtol=rtol, atol=0)


def tensor(x):
    return ops.convert_to_tensor(x, "float32")


def small():
    backbone = TinyViTBackbone(
        64, embed_dims=(16, 32, 64, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), name="backbone"
    )
    model = RealMNet(backbone, ResidualAttentionHead(7, name="head"))
    for weight in model.weights:
        if weight.name in ("gamma", "beta"):
            weight.assign(RNG.uniform(0.5, 1.5, weight.shape))
    return model


def test_activations_are_rounded_as_onnx_rounds_them():
    """As DynamicQuantizeLinear then DequantizeLinear, row by row."""
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (value(name, onnx.TensorProto.FLOAT, [48]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "rows", [x], [y])
    reference = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))
    rows = np.concatenate([ACTIVATIONS, np.abs(ACTIVATIONS[:8]), -np.abs(ACTIVATIONS[:8])])  # zero within, below, above
    expected = np.stack([reference.run(None, {"x": row})[0] for row in rows])
    assert_same(quantize_activations(tensor(rows)), expected)


def test_a_row_of_zeros_stays_zero():
    np.testing.assert_array_equal(numpy(quantize_activations(tensor(np.zeros((2, 4))))), 0)
    np.testing.assert_array_equal(numpy(quantize_weights(tensor(np.zeros((2, 4))))), 0)


@pytest.mark.parametrize("shape", [(48, 32), (1, 1, 48, 32)])
def test_weights_are_rounded_as_the_quantizer_rounds_them(shape):
    quantize = pytest.importorskip("litert_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor")
    from litert_quantizer import qtyping

    kernel = (RNG.normal(0, 1, shape) * np.logspace(-3, 1, 32)).astype("float32")
    largest = np.abs(kernel).max(axis=tuple(range(len(shape) - 1)), keepdims=True)
    zero, scale = quantize.tensor_zp_scale_from_min_max(
        -largest, largest, 8, True, qtyping.QuantGranularity.CHANNELWISE
    )
    parameters = qtyping.UniformQuantParams(
        scale=scale, zero_point=zero, num_bits=8, symmetric=True, quantized_dimension=len(shape) - 1
    )
    expected = quantize.uniform_dequantize(quantize.uniform_quantize(kernel, parameters), parameters)
    assert_same(quantize_weights(tensor(kernel)), expected.astype("float32"))


@pytest.mark.parametrize("function", [quantize_activations, quantize_weights])
def test_gradient_passes_straight_through(function, value_and_gradient):
    factor = RNG.normal(size=ACTIVATIONS.shape).astype("float32")
    _, gradient = value_and_gradient(lambda x: ops.sum(function(x) * tensor(factor)), ACTIVATIONS)
    np.testing.assert_array_equal(gradient, factor)


def test_only_rounding_tells_the_quantized_network_from_the_float_one(monkeypatch):
    images = RNG.integers(0, 256, (2, 64, 64, 3)).astype("float32")
    model = small()
    expected = numpy(model(images))
    fake_quantize(model, "int8_mixed")
    rounded = numpy(model(images))
    assert 1e-5 < np.abs(rounded - expected).max() < 0.2
    for name in ("quantize_activations", "quantize_weights"):
        monkeypatch.setattr(f"keras_realmnet.deploy.quantization.{name}", lambda x: x)
    np.testing.assert_allclose(numpy(model(images)), expected, rtol=1e-4, atol=1e-5)


def test_each_scheme_rounds_more_than_the_one_before():
    images = RNG.integers(0, 256, (1, 64, 64, 3)).astype("float32")
    model = small()
    outputs = [numpy(fake_quantize(model, scheme)(images)) for scheme in ("int8", "int8_mixed", "int8_pointwise")]
    assert np.abs(np.diff(outputs, axis=0)).max(axis=(1, 2)).min() > 1e-6


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match=r"int8, int8_mixed, int8_pointwise\. Received: 'int4'"):
        fake_quantize(small(), "int4")


@pytest.mark.parametrize(
    ("layer", "setting"),
    [
        ("stages_1_blocks_0_mlp_fc1", {"activation": keras.activations.relu}),
        ("stages_1_blocks_0_mlp_fc2", {"activation": keras.activations.relu}),
        ("stages_0_blocks_0_conv1_conv", {"activation": keras.activations.relu}),
        ("stages_0_blocks_0_conv3_conv", {"strides": (2, 2)}),
        ("stages_1_blocks_0_mlp_norm", {"rms_scaling": True}),
    ],
)
def test_a_layer_that_does_more_stops_it_by_name(layer, setting):
    model = small()
    for name, value in setting.items():
        setattr(model.backbone.get_layer(layer), name, value)
    with pytest.raises(RealMNetError, match=f"{layer}: .*{next(iter(setting))}"):
        fake_quantize(model, "int8_mixed")
