"""Window attention."""

import keras

from export.conversion.onnx_writer.convolutions import dense_gemm
from export.conversion.onnx_writer.elementwise import layer_norm_op
from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.deploy.layers import DeployedWindowAttention

__all__ = ["RULES"]


def _attention(w: Writer, layer) -> None:
    _, height, width, dim = layer.input.shape
    (window_h, window_w), name = layer.window_size, layer.name
    rows, columns = -(-height // window_h), -(-width // window_w)
    pad_h, pad_w = rows * window_h - height, columns * window_w - width
    x = layer_norm_op(w, f"{name}_norm", w.get(layer.input), layer.norm)
    if pad_h or pad_w:  # zeros are what the LayerNorm makes of zeros
        pads = w.constant(f"{name}_pads", [0, 0, 0, 0, 0, pad_h, pad_w, 0], "int64")
        x = w.op(f"{name}_pad", "Pad", x, pads)
    if columns > 1:
        x = w.reshape(f"{name}_rows", x, -1, window_h, columns, window_w * dim)
        x = w.transpose(f"{name}_windows", x, 0, 2, 1, 3)
    x = w.reshape(f"{name}_tokens", x, -1, dim)
    x = _attend(w, layer, x)
    if columns > 1:
        x = w.reshape(f"{name}_split", x, -1, columns, window_h, window_w * dim)
        x = w.transpose(f"{name}_unsplit", x, 0, 2, 1, 3)
    x = w.reshape(f"{name}_map", x, -1, rows * window_h, columns * window_w, dim)
    if pad_h or pad_w:
        bounds = (w.constant(f"{name}_{k}", v, "int64") for k, v in (("from", [0, 0]), ("to", [height, width])))
        x = w.op(f"{name}_crop", "Slice", x, *bounds, w.constant("axes_1_2", [1, 2], "int64"))
    w.put(layer.output, x)


def _attend(w: Writer, layer, x: str) -> str:
    """x (windows · tokens, dim) → the same shape."""
    name, heads, tokens = layer.name, layer.num_heads, layer.window_size[0] * layer.window_size[1]
    dim = heads * layer.head_dim
    table = w.constant(f"{name}_biases", keras.ops.convert_to_numpy(layer.attention_biases))
    index = w.constant("bias_index_{}_{}".format(*layer.window_size), layer.bias_index, "int32")
    bias = w.op(f"{name}_bias", "Gather", table, index, axis=1)  # (heads, tokens, tokens)
    parts = (("query", layer.query), ("key", layer.key), ("value", layer.value))
    q, k, v = (dense_gemm(w, f"{name}_{part}_gemm", x, dense) for part, dense in parts)
    if w.opset >= 23:
        q, k, v = (w.reshape(f"{part}_tokens", part, -1, tokens, dim) for part in (q, k, v))
        bias = w.op(f"{name}_bias_4d", "Unsqueeze", bias, w.constant("axis_0", [0], "int64"))
        x = w.op(f"{name}_mixed", "Attention", q, k, v, bias, q_num_heads=heads, kv_num_heads=heads, scale=1.0)
    else:
        q, k, v = (w.reshape(f"{part}_heads", part, -1, tokens, heads, layer.head_dim) for part in (q, k, v))
        q, v = (w.transpose(f"{part}_by_head", part, 0, 2, 1, 3) for part in (q, v))
        products = w.op(f"{name}_products", "MatMul", q, w.transpose(f"{k}_by_head", k, 0, 2, 3, 1))
        weights = w.op(f"{name}_weights", "Softmax", w.op(f"{name}_scores", "Add", products, bias), axis=-1)
        x = w.op(f"{name}_mixed", "MatMul", weights, v)  # (windows, heads, tokens, head_dim)
        x = w.transpose(f"{name}_by_token", x, 0, 2, 1, 3)
    return dense_gemm(w, f"{name}_proj_gemm", w.reshape(f"{name}_joined", x, -1, dim), layer.proj)


RULES: dict[type, Rule] = {DeployedWindowAttention: _attention}
