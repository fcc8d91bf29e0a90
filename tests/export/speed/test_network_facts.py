import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.speed.network_facts import network_facts
from keras_realmnet.errors import RealMNetError


def test_litert_by_hand(tmp_path):
    """8 x 8 x 3 → convolution 3 x 3 to 5 → depthwise 3 x 3 → dense to 4 in each of the 64 positions."""
    images = keras.Input((8, 8, 3), batch_size=1)
    x = keras.layers.Conv2D(5, 3, padding="same", bias_initializer="random_normal")(images)
    x = keras.layers.DepthwiseConv2D(3, padding="same", bias_initializer="random_normal", activation="relu")(x)
    x = keras.layers.Dense(4, bias_initializer="random_normal")(x)
    path = tmp_path / "model.tflite"
    keras.Model(images, keras.ops.tanh(x)).export(
        str(path),
        format="litert",
        verbose=False,
        input_signature=[keras.InputSpec(shape=(1, 8, 8, 3), dtype="float32")],
    )
    facts = network_facts(path)
    assert facts.macs == 64 * (9 * 3 * 5 + 9 * 5 + 5 * 4)
    assert facts.parameters == (9 * 3 * 5 + 5) + (9 * 5 + 5) + (5 * 4 + 4)
    assert facts.bytes == path.stat().st_size


@pytest.mark.parametrize("quantized", [False, True])
def test_onnx_by_hand(tmp_path, quantized):
    """Convolution 4 → 6 in two groups on 4 x 4, then Gemm 6 · 16 → 7, then MatMul 7 → 2."""
    rng = np.random.default_rng(0)
    weights = {
        "conv": rng.normal(size=(6, 2, 3, 3)).astype("float32"),
        "gemm": rng.normal(size=(96, 7)).astype("float32"),
        "matmul": rng.normal(size=(7, 2)).astype("float32"),
    }
    nodes, stored = [], []
    for name, values in weights.items():
        if quantized:
            stored += [
                numpy_helper.from_array(np.clip(values * 20, -127, 127).astype("int8"), f"{name}_q"),
                numpy_helper.from_array(np.float32(0.05), f"{name}_scale"),
            ]
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [name]))
        else:
            stored.append(numpy_helper.from_array(values, name))
    stored.append(numpy_helper.from_array(np.array([1, 96]), "shape"))
    nodes += [
        helper.make_node("Conv", ["x", "conv"], ["a"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Gemm", ["b", "gemm"], ["c"]),
        helper.make_node("MatMul", ["c", "matmul"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        stored,
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    facts = network_facts(path)
    assert facts.macs == 6 * 16 * 2 * 9 + 96 * 7 + 7 * 2
    assert facts.parameters == 6 * 2 * 9 + 96 * 7 + 7 * 2


@pytest.mark.parametrize("shape", [(2, 3, 10, 8), (2, 10, 24)])
def test_attention_in_one_operation(tmp_path, shape):
    """Two images, three heads of width 8, ten tokens: every token meets every other, once for QKᵀ and once for PV."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "qkvy"]
    heads = {} if len(shape) == 4 else {"q_num_heads": 3, "kv_num_heads": 3}
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], **heads)
    graph = helper.make_graph([node], "g", tensors[:3], tensors[3:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), path)
    assert network_facts(path).macs == 2 * (2 * 3 * 10 * 10 * 8)


def test_other_files(tmp_path):
    with pytest.raises(RealMNetError, match=r"engine\.plan: operations are counted"):
        network_facts(tmp_path / "engine.plan")
