"""Keras → ONNX: the deploy graph written layer by layer with `onnx.helper`, or converted by tf2onnx."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import keras
import ml_dtypes
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from keras_realmnet import RealMNet, compat
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.deploy.layers import DeployedWindowAttention, erf_gelu
from keras_realmnet.deploy.settings import expect, expect_last_axis
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.heads import MAX_POOLING, ClassMaps, LinearHead, ResidualAttentionHead, shift_matrix

__all__ = [
    "OPSET",
    "PORTABLE_OPSET",
    "PRECISIONS",
    "graph_to_onnx",
    "opens_in",
    "opset_of",
    "to_onnx",
    "to_onnx_by_tf2onnx",
]

OPSET = 23  # the first with Attention, which ONNX Runtime and OpenVINO run faster than its parts
PORTABLE_OPSET = {"float32": 20, "float16": 20, "bfloat16": 22}  # without Attention; the first with Gelu in that type
TF2ONNX_OPSET = 18  # its newest
# The oldest ONNX Runtime that opens our models of an opset: 20, 21 and 23 tried with 1.17.3, 1.18.1 and 1.23.2; 18 by
# ONNX Runtime's own table of compatibility. Of 22 no version older than 1.23 was tried.
OLDEST_ONNX_RUNTIME = {18: "1.14", 20: "1.17", 21: "1.18", 23: "1.23"}
PRECISIONS = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def to_onnx(
    model: RealMNet, path: Path, batch_size: int | None = 1, opset: int = OPSET, precision: str = "float32"
) -> Path:
    """Writes `deploy_graph(model)` as an ONNX model, from any Keras backend.

    Input `images` float32 (batch, h, w, 3), 0–255; outputs `probabilities` (batch, classes), `class_maps`
    (batch, h', w', classes) and `features` (batch, dim), float32. Only operations of the ONNX standard. Convolutions
    work channels first, dense layers channels last, with a Transpose where the two meet. The attention bias stays a
    small table and a Gather on constants, which engines compute once, when they open the model.

    Args:
        batch_size: `None` leaves it open.
        opset: from `PORTABLE_OPSET[precision]`, which older engines read, to `OPSET`, where Attention is one operation.
        precision: one of `PRECISIONS`, of weights and activations. In the smaller ones the first convolution, whose
            weights contain the scale of the pixels, and the head, which decides, stay float32.

    Raises:
        ValueError: for another precision or opset.
        RealMNetError: `model` is no RealMNet, or as `graph_to_onnx`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    if opset not in range(PORTABLE_OPSET[precision], OPSET + 1):
        raise ValueError(f"opset must be {PORTABLE_OPSET[precision]} to {OPSET} in {precision}. Received: {opset!r}")
    return save_checked(graph_to_onnx(deploy_graph(model, batch_size=batch_size), opset, precision), path)


def graph_to_onnx(graph: keras.Model, opset: int = OPSET, precision: str = "float32") -> onnx.ModelProto:
    """The ONNX model of a deploy graph, layer by layer.

    Raises:
        RealMNetError: a layer, or a setting of one, that has no rule here; names it.
    """
    return _Writer(opset, precision).write(graph)


def to_onnx_by_tf2onnx(model: RealMNet, path: Path, batch_size: int | None = 1) -> Path:
    """As `to_onnx` in float32, by tf2onnx from TensorFlow's graph: LayerNorm and GELU in their parts, and slower.

    Raises:
        RealMNetError: the Keras backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RealMNetError(f"tf2onnx needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}")
    import tensorflow as tf
    import tf2onnx

    graph = deploy_graph(model, batch_size=batch_size)
    signature = [tf.TensorSpec(graph.input.shape, tf.float32, name=graph.input.name)]
    function = tf.function(lambda images: graph(images, training=False), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, signature, opset=TF2ONNX_OPSET)
    return save_checked(converted, path)


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard's operations in `model`."""
    return next(entry.version for entry in model.opset_import if not entry.domain)


def opens_in(path: Path) -> str:
    """The oldest engine that opens one of our ONNX files, in words; the file says it itself."""
    properties = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return properties["opens in"]


def save_checked(model: onnx.ModelProto, path: Path) -> Path:
    """Infers the shapes inside `model`, checks it, notes which engines open it and writes it to `path`.

    Raises RealMNetError for an opset that was not tried with an engine.
    """
    oldest = next((version for opset, version in OLDEST_ONNX_RUNTIME.items() if opset >= opset_of(model)), None)
    if oldest is None:
        raise RealMNetError(
            f"{path}: an opset of at most {max(OLDEST_ONNX_RUNTIME)} expected. Received: {opset_of(model)}"
        )
    helper.set_model_props(model, {"opens in": f"ONNX Runtime {oldest} or newer (opset {opset_of(model)})"})
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


class _Writer:
    """Writes a deploy graph. Each tensor is known by the name it has in the ONNX graph, its layout and precision."""

    def __init__(self, opset, precision):
        self.opset, self.precision = opset, precision
        self.current = "float32"  # precision of the layer that is being written
        self.nodes, self.initializers = [], {}
        self.written: set[str] = set()
        self.names: dict[tuple[str, str, str], str] = {}  # (Keras tensor, layout, precision) → ONNX tensor
        # Output of a ZeroPadding2D → the zeros that the convolution after it adds: (top, left, bottom, right).
        self.paddings: dict[str, tuple[int, ...]] = {}

    def write(self, graph: keras.Model) -> onnx.ModelProto:
        for layer in graph.layers:
            self._write_layer(layer)
        for tensor in graph.output.values():
            if tensor.name in self.paddings:
                self._refuse(compat.operation_of(tensor), "its output cannot be one of the graph")
        outputs = [
            helper.make_tensor_value_info(self._get(tensor), TensorProto.FLOAT, self._shape(tensor))
            for tensor in graph.output.values()
        ]
        images = helper.make_tensor_value_info(graph.input.name, TensorProto.FLOAT, self._shape(graph.input))
        written = helper.make_graph(self.nodes, graph.name, [images], outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        version = helper.find_min_ir_version_for(opsets)
        return helper.make_model(written, opset_imports=opsets, ir_version=version, producer_name="realmnet")

    @staticmethod
    def _shape(tensor):
        return ["batch" if side is None else side for side in tensor.shape]

    def _write_layer(self, layer):
        small = layer.name.startswith(("patch_embed", "stages_")) and layer.name != "patch_embed_conv1_conv"
        self.current = self.precision if small else "float32"
        write = self.RULES.get(type(layer))
        if write is None:
            self._refuse(layer, f"only {', '.join(known.__name__ for known in self.RULES)} are known")
        for tensor in keras.tree.flatten(layer.input):
            if tensor.name in self.paddings and getattr(layer, "padding", None) != "valid":
                padding = compat.operation_of(tensor).name
                self._refuse(layer, f"only a convolution with padding 'valid' may follow the ZeroPadding2D {padding}")
        if "_downsample" in layer.name and getattr(layer, "kernel_size", None) == (1, 1):
            self._expect_plain(layer)
            expect(layer, strides=(1, 1), padding="same")
            write = type(self)._dense  # the maps around it are channels last anyway
        write(self, layer)

    @staticmethod
    def _refuse(layer, why):
        raise RealMNetError(f"{layer.name}: this {type(layer).__name__} cannot be written as ONNX: {why}")

    # Nodes, constants, tensors

    def op(self, name: str, op_type: str, *inputs: str, **attributes) -> str:
        """Adds a node called `name`, once; returns the name of its output."""
        if name not in self.written:
            self.written.add(name)
            self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values, dtype=None) -> str:
        """Adds a constant called `name`, once, by default in the precision of the current layer."""
        if name not in self.initializers:
            values = np.ascontiguousarray(values, dtype or PRECISIONS[self.current])
            self.initializers[name] = numpy_helper.from_array(values, name)
        return name

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.op(name, "Reshape", x, self.constant("shape_" + "_".join(map(str, shape)), shape, "int64"))

    def transpose(self, name: str, x: str, *axes: int) -> str:
        return self.op(name, "Transpose", x, perm=axes)

    def dense(self, name: str, x: str, layer) -> str:
        """x (rows, dim) → (rows, units); `layer` may be a 1 × 1 convolution."""
        expect(layer, activation=keras.activations.linear, use_bias=True)
        kernel, bias = layer.get_weights()
        kernel = kernel.reshape(kernel.shape[-2:])
        return self.op(
            name, "Gemm", x, self.constant(f"{layer.name}.kernel", kernel), self.constant(f"{layer.name}.bias", bias)
        )

    def layer_norm(self, name: str, x: str, layer) -> str:
        expect(layer, rms_scaling=False)
        dim = layer.get_build_config()["input_shape"][-1]
        weights = iter(layer.get_weights())
        scale = next(weights) if layer.scale else None
        gamma = self.constant(f"ones_{dim}", np.ones(dim)) if scale is None else self.constant(f"{name}.scale", scale)
        beta = [self.constant(f"{name}.bias", next(weights))] if layer.center else []
        return self.op(name, "LayerNormalization", x, gamma, *beta, axis=-1, epsilon=layer.epsilon)

    def _put(self, tensor, name, layout="NHWC"):
        self.names[tensor.name, layout, self.current] = name

    def _get(self, tensor, layout="NHWC"):
        """Name of `tensor` in `layout` and the current precision; Transpose and Cast are added where it has others."""
        if (tensor.name, layout, self.current) not in self.names:
            there_is = [key for key in self.names if key[0] == tensor.name]
            _, other, precision = min(there_is, key=lambda key: (key[2] != self.current, key[1] != layout))
            name = self.names[tensor.name, other, precision]
            if precision != self.current:
                to = helper.np_dtype_to_tensor_dtype(np.dtype(PRECISIONS[self.current]))
                name = self.op(f"{name}_{self.current}", "Cast", name, to=to)
            if other != layout:
                axes = NCHW_TO_NHWC if layout == "NHWC" else NHWC_TO_NCHW
                name = self.transpose(f"{name}_{layout.lower()}", name, *axes)
            self._put(tensor, name, layout)
        return self.names[tensor.name, layout, self.current]

    def _layout(self, tensor):
        """The layout `tensor` was computed in."""
        return next(layout for name, layout, _ in self.names if name == tensor.name)

    # Layers

    def _input(self, layer):
        self._put(layer.output, layer.output.name)

    def _padding(self, layer):
        expect(layer, data_format="channels_last")
        (top, bottom), (left, right) = layer.padding
        self.paddings[layer.output.name] = (top, left, bottom, right)
        self._put(layer.output, self._get(layer.input, "NCHW"), "NCHW")

    def _expect_plain(self, layer):
        """Refuses a convolution that does more than multiply and add, or leaves positions or channels out."""
        expect(layer, activation=keras.activations.linear, use_bias=True, data_format="channels_last")
        expect(layer, dilation_rate=(1, 1), **({} if self._is_depthwise(layer) else {"groups": 1}))

    @staticmethod
    def _is_depthwise(layer):
        return isinstance(layer, layers.DepthwiseConv2D)

    def _pads(self, layer):
        """The zeros that the convolution adds on each side: (top, left, bottom, right)."""
        if layer.padding == "valid":
            return self.paddings.get(layer.input.name, (0,) * 4)
        if layer.padding != "same" or layer.strides != (1, 1) or not all(side % 2 for side in layer.kernel_size):
            self._refuse(
                layer,
                f"padding {layer.padding} with strides {layer.strides} and kernel {layer.kernel_size}; 'valid', or "
                "'same' with strides of 1 and no even side, is known",
            )
        height, width = (side // 2 for side in layer.kernel_size)
        return height, width, height, width

    def _convolution(self, layer):
        self._expect_plain(layer)
        depthwise = self._is_depthwise(layer)
        if depthwise:
            expect(layer, depth_multiplier=1)
        kernel, bias = layer.get_weights()
        kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        x = self.op(
            layer.name,
            "Conv",
            self._get(layer.input, "NCHW"),
            self.constant(f"{layer.name}.kernel", kernel),
            self.constant(f"{layer.name}.bias", bias),
            kernel_shape=layer.kernel_size,
            strides=layer.strides,
            pads=self._pads(layer),
            group=len(kernel) if depthwise else 1,
        )
        self._put(layer.output, x, "NCHW")

    def _activation(self, layer):
        name = self.ACTIVATIONS.get(layer.activation)
        if name is None:
            known = " and ".join(function.__name__ for function in self.ACTIVATIONS)
            received = getattr(layer.activation, "__name__", layer.activation)
            self._refuse(layer, f"activation {received} is not one of {known}")
        layout = self._layout(layer.input)
        self._put(layer.output, self.op(layer.name, name, self._get(layer.input, layout)), layout)

    def _add(self, layer):
        if len(layer.input) != 2:
            self._refuse(layer, f"two summands are known, not {len(layer.input)}")
        layout = self._layout(layer.input[-1])
        self._put(layer.output, self.op(layer.name, "Add", *(self._get(x, layout) for x in layer.input)), layout)

    def _layer_norm(self, layer):
        expect_last_axis(layer)
        self._put(layer.output, self.layer_norm(layer.name, self._get(layer.input), layer))

    def _dense(self, layer):
        *outer, dim = layer.input.shape
        x = self.reshape(f"{layer.name}_rows", self._get(layer.input), -1, dim)
        x = self.dense(f"{layer.name}_gemm", x, layer)
        self._put(layer.output, self.reshape(layer.name, x, -1, *outer[1:], layer.output.shape[-1]))

    def _attention(self, layer):
        _, height, width, dim = layer.input.shape
        (window_h, window_w), name = layer.window_size, layer.name
        rows, columns = -(-height // window_h), -(-width // window_w)
        pad_h, pad_w = rows * window_h - height, columns * window_w - width
        x = self.layer_norm(f"{name}_norm", self._get(layer.input), layer.norm)
        if pad_h or pad_w:  # zeros are what the LayerNorm makes of zeros
            pads = self.constant(f"{name}_pads", [0, 0, 0, 0, 0, pad_h, pad_w, 0], "int64")
            x = self.op(f"{name}_pad", "Pad", x, pads)
        if columns > 1:
            x = self.reshape(f"{name}_rows", x, -1, window_h, columns, window_w * dim)
            x = self.transpose(f"{name}_windows", x, 0, 2, 1, 3)
        x = self.reshape(f"{name}_tokens", x, -1, dim)
        x = self._attend(layer, x)
        if columns > 1:
            x = self.reshape(f"{name}_split", x, -1, columns, window_h, window_w * dim)
            x = self.transpose(f"{name}_unsplit", x, 0, 2, 1, 3)
        x = self.reshape(f"{name}_map", x, -1, rows * window_h, columns * window_w, dim)
        if pad_h or pad_w:
            bounds = (self.constant(f"{name}_{k}", v, "int64") for k, v in (("from", [0, 0]), ("to", [height, width])))
            x = self.op(f"{name}_crop", "Slice", x, *bounds, self.constant("axes_1_2", [1, 2], "int64"))
        self._put(layer.output, x)

    def _attend(self, layer, x):
        """x (windows · tokens, dim) → the same shape."""
        name, heads, tokens = layer.name, layer.num_heads, layer.window_size[0] * layer.window_size[1]
        dim = heads * layer.head_dim
        table = self.constant(f"{name}_biases", keras.ops.convert_to_numpy(layer.attention_biases))
        index = self.constant("bias_index_{}_{}".format(*layer.window_size), layer.bias_index, "int32")
        bias = self.op(f"{name}_bias", "Gather", table, index, axis=1)  # (heads, tokens, tokens)
        parts = (("query", layer.query), ("key", layer.key), ("value", layer.value))
        q, k, v = (self.dense(f"{name}_{part}_gemm", x, dense) for part, dense in parts)
        if self.opset >= 23:
            q, k, v = (self.reshape(f"{part}_tokens", part, -1, tokens, dim) for part in (q, k, v))
            bias = self.op(f"{name}_bias_4d", "Unsqueeze", bias, self.constant("axis_0", [0], "int64"))
            x = self.op(f"{name}_mixed", "Attention", q, k, v, bias, q_num_heads=heads, kv_num_heads=heads, scale=1.0)
        else:
            q, k, v = (self.reshape(f"{part}_heads", part, -1, tokens, heads, layer.head_dim) for part in (q, k, v))
            q, v = (self.transpose(f"{part}_by_head", part, 0, 2, 1, 3) for part in (q, v))
            products = self.op(f"{name}_products", "MatMul", q, self.transpose(f"{k}_by_head", k, 0, 2, 3, 1))
            weights = self.op(f"{name}_weights", "Softmax", self.op(f"{name}_scores", "Add", products, bias), axis=-1)
            x = self.op(f"{name}_mixed", "MatMul", weights, v)  # (windows, heads, tokens, head_dim)
            x = self.transpose(f"{name}_by_token", x, 0, 2, 1, 3)
        return self.dense(f"{name}_proj_gemm", self.reshape(f"{name}_joined", x, -1, dim), layer.proj)

    def _pooling(self, layer):
        expect(layer, data_format="channels_last", keepdims=False)
        axes = self.constant("axes_1_2", [1, 2], "int64")
        self._put(layer.output, self.op(layer.name, "ReduceMean", self._get(layer.input), axes, keepdims=0))

    # Heads: as in keras_realmnet.models.heads; what depends on the weights alone is computed here

    def _positions(self, tensor):
        _, height, width, dim = tensor.shape
        return self.reshape("head_positions", self._get(tensor), -1, height * width, dim)

    def _residual_attention(self, head):
        kernel = self._unit_kernel(head)
        axis, x = self.constant("axis_1", [1], "int64"), self._positions(head.input)
        logits = []
        for k, temperature in enumerate(head.temperatures):
            name = f"head_{k}"
            scores = self.op(f"{name}_scores", "MatMul", x, self.constant(f"{name}.kernel", kernel[k]))
            if temperature == MAX_POOLING:
                attention = self.op(f"{name}_attention", "ReduceMax", scores, axis, keepdims=1)
            else:
                hot = self.op(f"{name}_hot", "Mul", scores, self.constant(f"{name}.temperature", temperature))
                weights = self.op(f"{name}_weights", "Softmax", hot, axis=1)
                attention = self.op(f"{name}_weighted", "Mul", scores, weights)
                attention = self.op(f"{name}_attention", "ReduceSum", attention, axis, keepdims=1)
            logits += [self.op(f"{name}_mean", "ReduceMean", scores, axis, keepdims=1)]
            logits += [self.op(f"{name}_residual", "Mul", attention, self.constant("lambda", head.lam))]
        logits = self.op("logits_sum", "Sum", *logits)
        self._put(head.output, self.reshape("logits", logits, -1, head.num_classes))

    @staticmethod
    def _unit_kernel(head):
        kernel = np.asarray(keras.ops.convert_to_numpy(head.kernel), "float64")
        return kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))

    def _mean(self, name, x, axis):
        return self.op(name, "ReduceMean", x, axis, keepdims=1)

    def _normalized(self, head):
        """The pooled and normalized features, (batch, 1, features), and their deviation before, (batch, 1, 1)."""
        across = self.constant("axis_last", [-1], "int64")
        pooled = self._mean("head_pooled", self._positions(head.input), self.constant("axis_1", [1], "int64"))
        centred = self.op("head_centred", "Sub", pooled, self._mean("head_mean", pooled, across))
        variance = self._mean("head_variance", self.op("head_squares", "Mul", centred, centred), across)
        variance = self.op("head_variance_eps", "Add", variance, self.constant("head.epsilon", head.EPSILON))
        deviation = self.op("head_deviation", "Sqrt", variance)
        return self.op("head_normalized", "Div", centred, deviation), deviation

    def _linear(self, head):
        gamma, beta, kernel, bias = (np.asarray(value, "float64") for value in head.get_weights())
        x, _ = self._normalized(head)
        logits = self.op("head_products", "MatMul", x, self.constant("head.kernel", gamma[:, None] * kernel))
        logits = self.op("head_logits", "Add", logits, self.constant("head.bias", beta @ kernel + bias))
        self._put(head.output, self.reshape("logits", logits, -1, head.num_classes))

    def _linear_gradients(self, head):
        """Of the logits by the features, the same at every position: (batch, classes, features)."""
        gamma, _, kernel, _ = (np.asarray(value, "float64") for value in head.get_weights())
        x, deviation = self._normalized(head)
        slope = (gamma[:, None] * kernel).T  # (classes, features)
        centred_slope = self.constant("head.slope", slope - slope.mean(axis=1, keepdims=True))
        along = self.op("maps_along", "Mul", x, self.constant("head.full_slope", slope))
        share = self._mean("maps_share", along, self.constant("axis_last", [-1], "int64"))
        gradients = self.op("maps_lost", "Sub", centred_slope, self.op("maps_parallel", "Mul", x, share))
        positions = self.constant("head.positions", np.prod(head.input.shape[1:3]))
        return self.op("maps_gradients", "Div", gradients, self.op("maps_scale", "Mul", deviation, positions))

    def _class_maps(self, layer):
        """Grad-CAM: the features by the mean gradient of each logit."""
        expect(layer, explanation="grad_cam")
        _, height, width, _ = layer.input.shape
        if isinstance(layer.head, LinearHead):
            weights = self.transpose("maps_by_feature", self._linear_gradients(layer.head), 0, 2, 1)
        else:
            mean_slope = (1 + layer.head.lam) / (height * width)
            weights = self.constant("maps.kernel", self._unit_kernel(layer.head).sum(axis=0) * mean_slope)
        products = self.op("maps_products", "MatMul", self._positions(layer.input), weights)
        maps = self.op("maps_positive", "Relu", products)
        if any(layer.offset):
            moved = self.constant("maps.moved_back", shift_matrix(height, width, layer.offset).T)
            maps = self.op("maps_moved", "MatMul", moved, maps)
        self._put(layer.output, self.reshape(layer.name, maps, -1, height, width, layer.head.num_classes))

    ACTIVATIONS: ClassVar[dict[Callable, str]] = {keras.activations.sigmoid: "Sigmoid", erf_gelu: "Gelu"}

    RULES: ClassVar[dict[type, Callable]] = {
        layers.InputLayer: _input,
        layers.ZeroPadding2D: _padding,
        layers.Conv2D: _convolution,
        layers.DepthwiseConv2D: _convolution,
        layers.Activation: _activation,
        layers.Add: _add,
        layers.LayerNormalization: _layer_norm,
        layers.Dense: _dense,
        DeployedWindowAttention: _attention,
        layers.GlobalAveragePooling2D: _pooling,
        ResidualAttentionHead: _residual_attention,
        LinearHead: _linear,
        ClassMaps: _class_maps,
    }
