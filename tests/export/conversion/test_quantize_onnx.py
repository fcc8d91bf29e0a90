"""Quantized ONNX models: near the float one, in the engines' fast operations, by TensorRT's rules."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.contract.keras_source import keras_predictions
from export.conversion.quantize_onnx import to_onnx_int8, to_onnx_int8_dynamic
from export.conversion.to_onnx import opens_in, opset_of, to_onnx
from export.conversion.to_tensorrt import tensorrt_violations
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.engines.registry import ENGINES

DENSE = 4 * 6  # query, key, value, proj, fc1 and fc2 of four blocks


@pytest.fixture(scope="module")
def models(tmp_path_factory, small_model, pictures):
    folder = tmp_path_factory.mktemp("onnx")
    float32 = to_onnx(small_model, folder / "float32.onnx")
    portable = to_onnx(small_model, folder / "portable.onnx", opset=20)
    float16 = to_onnx(small_model, folder / "float16.onnx", opset=20, precision="float16")
    return {
        "portable": portable,
        "float32": float32,
        "static": to_onnx_int8(portable, folder / "static.onnx", pictures),
        "dynamic": to_onnx_int8_dynamic(float32, folder / "dynamic.onnx"),
        "tensorrt": to_onnx_int8(portable, folder / "tensorrt.onnx", pictures, target="tensorrt"),
        "tensorrt half": to_onnx_int8(float16, folder / "half.onnx", pictures, target="tensorrt"),
        "float8": to_onnx_int8(float16, folder / "float8.onnx", pictures, target="tensorrt-float8"),
    }


@pytest.mark.parametrize(
    ("target", "precision", "limit"),
    [
        ("onnxruntime", "float32", 0.03),
        ("tensorrt", "float32", 0.03),
        ("tensorrt", "float16", 0.03),
        ("tensorrt-float8", "float16", 0.06),
    ],
)
def test_dead_channels_have_scales_and_keep_their_biases(dying_model, pictures, tmp_path, target, precision, limit):
    whole = to_onnx(dying_model, tmp_path / "float.onnx", opset=20, precision=precision)
    path = to_onnx_int8(whole, tmp_path / "int8.onnx", pictures, target=target)
    expected = keras_predictions(dying_model, pictures)["probabilities"]
    received = ENGINES["onnxruntime"](path).predict(pictures)["probabilities"]
    assert np.abs(received - expected).mean() < limit
    constants = {c.name: numpy_helper.to_array(c) for c in onnx.load(path).graph.initializer}
    scales = [constants[n.input[1]] for n in onnx.load(path).graph.node if n.op_type == "DequantizeLinear"]
    assert all((scale.astype("float32") > 0).all() for scale in scales)
    integers = [np.abs(values.astype("int64")).max() for values in constants.values() if values.dtype == np.int32]
    assert max(integers) < 2**31 - 1


def test_a_weight_that_is_no_number_stops_it_by_name(small_model, pictures, tmp_path):
    broken = RealMNet.from_config(small_model.get_config())
    broken.set_weights(small_model.get_weights())
    layer = broken.backbone.get_layer("stages_1_blocks_0_mlp_fc2")
    layer.set_weights([np.full_like(value, np.nan) for value in layer.get_weights()])
    whole = to_onnx(broken, tmp_path / "float.onnx", opset=20)
    for make in (to_onnx_int8, to_onnx_int8_dynamic):
        with pytest.raises(RealMNetError, match=r"mlp_fc2\.kernel: not all of its values are finite"):
            make(whole, tmp_path / "int8.onnx", pictures)


def test_models_for_boards_are_of_an_opset_that_python_310_reads(models, pictures, tmp_path):
    """ONNX Runtime 1.23.2 is the newest for Python 3.10 (JetPack 6): it has no QuantizeLinear of opset 23."""
    for name in ("static", "tensorrt", "tensorrt half", "float8"):
        assert opset_of(onnx.load(models[name])) <= 21
        assert opens_in(models[name]) == "ONNX Runtime 1.17 or newer (opset 20)"
    assert opens_in(models["dynamic"]) == "ONNX Runtime 1.23 or newer (opset 23)"
    with pytest.raises(RealMNetError, match=r"opset 21 or older expected.*Received: 23"):
        to_onnx_int8(models["float32"], tmp_path / "no.onnx", pictures)


def test_what_cannot_be_quantized_is_refused(models, pictures, tmp_path, small_model):
    half = to_onnx(small_model, tmp_path / "half.onnx", opset=20, precision="float16")
    for make in (to_onnx_int8, to_onnx_int8_dynamic):
        with pytest.raises(RealMNetError, match="FLOAT expected for this kind of int8"):
            make(half, tmp_path / "no.onnx", pictures)
    other = onnx.load(models["portable"])
    for node in other.graph.node:
        node.name = f"other_{node.name}"
    onnx.save(other, tmp_path / "other.onnx")
    for make in (to_onnx_int8, to_onnx_int8_dynamic):
        with pytest.raises(RealMNetError, match=r"other\.onnx: it has no dense layers"):
            make(tmp_path / "other.onnx", tmp_path / "no.onnx", pictures)


def optimized_operations(path, folder):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


# The weights are untrained and the pictures noise, which is harder on int8 than what a bundle's limits are for.
@pytest.mark.parametrize(
    ("name", "limit"),
    [("static", 0.02), ("dynamic", 0.02), ("tensorrt", 0.02), ("tensorrt half", 0.02), ("float8", 0.06)],
)
def test_quantized_models_stay_near(models, small_model, pictures, name, limit):
    expected = keras_predictions(small_model, pictures)["probabilities"]
    received = ENGINES["onnxruntime"](models[name]).predict(pictures)["probabilities"]
    assert 1e-6 < np.abs(received - expected).mean() < limit


@pytest.mark.parametrize("name", ["static", "dynamic"])
def test_sums_of_two_products_of_bytes_fit_16_bits(models, name):
    """ONNX Runtime makes them on x86 processors without VNNI: of unsigned activations, up to 255, and our weights."""
    kernels = [numpy_helper.to_array(c) for c in onnx.load(models[name]).graph.initializer if c.name.endswith("kernel")]
    kernels = [kernel for kernel in kernels if kernel.dtype == np.int8]
    assert len(kernels) == DENSE
    assert {int(np.abs(kernel.astype(int)).max()) for kernel in kernels} == {64}
    assert 2 * 255 * 64 < 2**15


def test_onnx_runtime_multiplies_integers(models, tmp_path):
    assert optimized_operations(models["static"], tmp_path).count("QGemm") == DENSE
    dynamic = optimized_operations(models["dynamic"], tmp_path)
    assert dynamic.count("DynamicQuantizeMatMul") + dynamic.count("MatMulIntegerToFloat") == DENSE


def test_int8_makes_the_file_smaller_and_spares_head_and_convolutions(models):
    assert models["static"].stat().st_size < 0.6 * models["float32"].stat().st_size
    kernels = {c.name: c.data_type for c in onnx.load(models["static"]).graph.initializer if c.name.endswith("kernel")}
    integer = {name for name, kind in kernels.items() if kind == TensorProto.INT8}
    assert len(integer) == DENSE
    assert not any(word in name for name in integer for word in ("head", "conv", "downsample"))


@pytest.mark.parametrize("name", ["portable", "tensorrt", "tensorrt half", "float8"])
def test_models_for_tensorrt_keep_its_rules(models, name):
    assert tensorrt_violations(onnx.load(models[name])) == []


def test_models_for_onnx_runtime_are_told_to_break_them(models):
    told = " ".join(tensorrt_violations(onnx.load(models["static"])))
    for rule in ("int8 or float8 expected, not UINT8", "not INT32", "zero point must be 0"):
        assert rule in told
    assert "DynamicQuantizeLinear is not one" in " ".join(tensorrt_violations(onnx.load(models["dynamic"])))


def _open_batch(graph):
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _float_kernel(graph):
    gemm = next(n for n in graph.node if n.op_type == "Gemm" and n.input[1].endswith("dequantized"))
    gemm.input[1] = gemm.input[1].replace(".kernel.dequantized", ".kernel.float")
    graph.initializer.append(numpy_helper.from_array(np.zeros((16, 16), "float32"), gemm.input[1]))


def _other_axis(graph):
    node = next(n for n in graph.node if n.op_type == "DequantizeLinear" and n.attribute)
    node.attribute[0].i = 0


def _quantized_reader(graph):
    node = next(n for n in graph.node if n.op_type == "QuantizeLinear")
    graph.node.append(helper.make_node("Cast", [node.output[0]], ["cast"], to=1))


def _activation_scales(graph):
    name = next(n for n in graph.node if n.op_type == "QuantizeLinear").input[1]
    scale = next(c for c in graph.initializer if c.name == name)
    scale.CopyFrom(numpy_helper.from_array(np.ones(4, "float32"), name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_open_batch, "fixed shape"),
        (_float_kernel, "one of its factors is quantized"),
        (_other_axis, "per output channel"),
        (_quantized_reader, "only DequantizeLinear may read"),
        (_activation_scales, "an activation has one scale"),
    ],
)
def test_each_broken_rule_is_told(models, change, message):
    model = onnx.load(models["tensorrt"])
    change(model.graph)
    assert any(message in line for line in tensorrt_violations(model))


def test_an_unknown_target_is_refused(models, pictures, tmp_path):
    with pytest.raises(ValueError, match="'openvino'"):
        to_onnx_int8(models["portable"], tmp_path / "no.onnx", pictures, target="openvino")
