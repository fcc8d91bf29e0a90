"""Nodes, constants and tensors of an ONNX graph while it is written; what a layer becomes is said by the rules."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import ml_dtypes
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from keras_realmnet import compat
from keras_realmnet.deploy.steps import CONVOLUTIONS
from keras_realmnet.errors import RealMNetError

__all__ = ["PRECISIONS", "Rule", "Writer"]

PRECISIONS = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
NCHW_TO_NHWC, NHWC_TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)

Rule = Callable[["Writer", Any], None]


class Writer:
    """Writes a deploy graph. Each tensor is known by the name it has in the ONNX graph, its layout and precision.

    A layout is "NHWC", as in Keras, also of tensors that are no maps, or "NCHW".
    """

    def __init__(self, opset: int, precision: str, rules: Mapping[type, Rule]):
        self.opset, self.precision, self.rules = opset, precision, rules
        self.current = "float32"  # precision of the layer that is being written
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.written: dict[str, onnx.NodeProto] = {}
        self.names: dict[tuple[str, str, str], str] = {}  # (Keras tensor, layout, precision) → ONNX tensor
        # Output of a ZeroPadding2D → its input, and the zeros around it: (top, left, bottom, right).
        self.paddings: dict[str, tuple[Any, tuple[int, ...]]] = {}

    def write(self, graph: keras.Model) -> onnx.ModelProto:
        whole = _float32_layers(graph)
        for layer in graph.layers:
            self.current = "float32" if layer in whole else self.precision
            rule = self.rules.get(type(layer))
            if rule is None:
                self.refuse(layer, f"only {', '.join(known.__name__ for known in self.rules)} are known")
            else:
                rule(self, layer)
        self.current = "float32"
        outputs = []
        for name, tensor in graph.output.items():
            computed = self.get(tensor)
            if computed != name:
                self._rename(name, f"{name}_nchw")  # of the layer that is called as the output, where there is one
                self.op(name, "Identity", computed)
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shape(tensor)))
        images = helper.make_tensor_value_info(graph.input.name, TensorProto.FLOAT, self._shape(graph.input))
        written = helper.make_graph(self.nodes, graph.name, [images], outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        version = helper.find_min_ir_version_for(opsets)
        return helper.make_model(written, opset_imports=opsets, ir_version=version, producer_name="realmnet")

    @staticmethod
    def _shape(tensor):
        return ["batch" if side is None else side for side in tensor.shape]

    @staticmethod
    def refuse(layer, why: str) -> None:
        raise RealMNetError(f"{layer.name}: this {type(layer).__name__} cannot be written as ONNX: {why}")

    # Nodes and constants

    def op(self, name: str, op_type: str, *inputs: str, **attributes) -> str:
        """Adds a node called `name`, once; returns the name of its output.

        Raises RealMNetError where another node has that name.
        """
        node = helper.make_node(op_type, inputs, [name], name=name, **attributes)
        if name not in self.written:
            self.written[name] = node
            self.nodes.append(node)
        elif self.written[name] != node:
            raise RealMNetError(f"{name}: two operations of the ONNX model would have this name")
        return name

    def constant(self, name: str, values, dtype=None) -> str:
        """Adds a constant called `name`, once, by default in the precision of the current layer."""
        if name not in self.initializers:
            values = np.ascontiguousarray(values, dtype or PRECISIONS[self.current])
            self.initializers[name] = numpy_helper.from_array(values, name)
        return name

    def integers(self, name: str, *values: int) -> str:
        """A constant of int64, one-dimensional."""
        return self.constant(name, values, "int64")

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.op(name, "Reshape", x, self.integers("shape_" + "_".join(map(str, shape)), *shape))

    def transpose(self, name: str, x: str, *axes: int) -> str:
        return self.op(name, "Transpose", x, perm=axes)

    def _rename(self, old: str, new: str) -> None:
        """Calls the node `old`, and its output, `new`."""
        if old not in self.written:
            return
        node = self.written[new] = self.written.pop(old)
        node.name, node.output[0] = new, new
        for reader in self.nodes:
            for k, name in enumerate(reader.input):
                if name == old:
                    reader.input[k] = new

    # Tensors

    def put(self, tensor, name: str, layout: str = "NHWC") -> None:
        self.names[tensor.name, layout, self.current] = name

    def get(self, tensor, layout: str = "NHWC") -> str:
        """Name of `tensor` in `layout` and the current precision.

        Transpose and Cast are added where it has others, and Pad where it is the output of a ZeroPadding2D.
        """
        if (tensor.name, layout, self.current) not in self.names:
            there_is = [key for key in self.names if key[0] == tensor.name]
            if not there_is:
                self.put(tensor, self._padded(tensor, layout), layout)
                return self.names[tensor.name, layout, self.current]
            _, other, precision = min(there_is, key=lambda key: (key[2] != self.current, key[1] != layout))
            name = self.names[tensor.name, other, precision]
            if precision != self.current:
                to = helper.np_dtype_to_tensor_dtype(np.dtype(PRECISIONS[self.current]))
                name = self.op(f"{name}_{self.current}", "Cast", name, to=to)
            if other != layout:
                axes = NCHW_TO_NHWC if layout == "NHWC" else NHWC_TO_NCHW
                name = self.transpose(f"{name}_{layout.lower()}", name, *axes)
            self.put(tensor, name, layout)
        return self.names[tensor.name, layout, self.current]

    def _padded(self, tensor, layout):
        source, (top, left, bottom, right) = self.paddings[tensor.name]
        begin, end = ((0, top, left, 0), (0, bottom, right, 0))
        if layout == "NCHW":
            begin, end = ([side[axis] for axis in NHWC_TO_NCHW] for side in (begin, end))
        name = compat.operation_of(tensor).name
        pads = self.integers(f"{name}.pads_{layout.lower()}", *begin, *end)
        return self.op(f"{name}_{layout.lower()}_{self.current}", "Pad", self.get(source, layout), pads)

    def layout(self, tensor) -> str:
        """The layout `tensor` was computed in."""
        if tensor.name in self.paddings:
            return self.layout(self.paddings[tensor.name][0])
        return next(layout for name, layout, _ in self.names if name == tensor.name)

    @staticmethod
    def axis(tensor, axis: int, layout: str) -> int:
        """Where `axis` of a Keras tensor lies in `layout`."""
        axis %= len(tensor.shape)
        return NHWC_TO_NCHW.index(axis) if layout == "NCHW" else axis


def _float32_layers(graph: keras.Model) -> set[Any]:
    """Layers that compute in float32 whatever the precision.

    The first convolutions, whose weights contain the scale of the pixels, and what comes before them; the layers that
    decide, which no layer with weights comes after, with a LayerNorm that only they read.
    """
    sources = {layer: [compat.operation_of(x) for x in keras.tree.flatten(layer.input)] for layer in graph.layers}
    sources |= {layer: [] for layer in graph.layers if isinstance(layer, layers.InputLayer)}
    convolved, decided = set(), set()  # have a convolution or dense layer before them, a layer with weights after them
    for layer in graph.layers:
        if any(x in convolved or isinstance(x, (*CONVOLUTIONS, layers.Dense)) for x in sources[layer]):
            convolved.add(layer)
    for layer in reversed(graph.layers):
        if layer in decided or layer.weights:
            decided.update(sources[layer])
    late = set(graph.layers) - decided
    readers: dict[Any, list[Any]] = {layer: [] for layer in graph.layers}
    for layer in graph.layers:
        for source in sources[layer]:
            readers[source].append(layer)
    norms = {
        layer
        for layer in graph.layers
        if isinstance(layer, layers.LayerNormalization) and readers[layer] and late.issuperset(readers[layer])
    }
    return (set(graph.layers) - convolved) | late | norms
