"""What a model file holds: multiply-accumulates, numbers, bytes; counted from the shapes in its graph."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from export.compat import operations_of
from keras_realmnet.errors import RealMNetError

__all__ = ["NetworkFacts", "network_facts"]


@dataclass(frozen=True)
class NetworkFacts:
    """`macs`: multiply-accumulates of convolutions and matrix products for one image, those by additions and
    activations not counted. `parameters`: numbers in the file that go into them. `bytes`: of the file.
    """

    macs: int
    parameters: int
    bytes: int


def network_facts(path: Path) -> NetworkFacts:
    """Reads a .tflite or .onnx file.

    Raises:
        RealMNetError: another kind of file; engines built for a board do not tell what is inside.
    """
    count = {".tflite": _of_litert, ".onnx": _of_onnx}.get(path.suffix)
    if count is None:
        raise RealMNetError(f"{path}: operations are counted in .tflite and .onnx files")
    return NetworkFacts(*count(path), bytes=path.stat().st_size)


def _of_litert(path: Path) -> tuple[int, int]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides the operations it takes over
    interpreter = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=plain)
    shapes = {t["index"]: [int(n) for n in t["shape"]] for t in interpreter.get_tensor_details()}
    produced: set[int] = set()
    behind: dict[int, int] = {}  # weights that are stored smaller than they are used
    macs, weights = 0, dict[int, int]()
    for operation in operations_of(interpreter):
        inputs, outputs = [int(i) for i in operation["inputs"] if i >= 0], [int(i) for i in operation["outputs"]]
        produced.update(outputs)
        size = prod(shapes[outputs[0]]) if outputs else 0
        match operation["op_name"]:
            case "CONV_2D" | "FULLY_CONNECTED":  # kernel (out, [h, w,] in)
                macs += size * prod(shapes[inputs[1]][1:])
            case "DEPTHWISE_CONV_2D":  # kernel (1, h, w, channels)
                macs += size * prod(shapes[inputs[1]][1:3])
            case "BATCH_MATMUL":
                macs += size * shapes[inputs[0]][-1]
            case "DEQUANTIZE":
                behind[outputs[0]] = inputs[0]
                continue
            case _:
                continue
        weights.update({behind.get(i, i): prod(shapes[i]) for i in inputs[1:]})
    return macs, sum(count for tensor, count in weights.items() if tensor not in produced)


def _of_onnx(path: Path) -> tuple[int, int]:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]  # an open batch is one
    stored = {tensor.name for tensor in graph.initializer}
    behind = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    macs, weights = 0, dict[str, int]()
    for node in graph.node:
        size = prod(shapes.get(node.output[0], [0]))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        match node.op_type:
            case "Conv" | "ConvInteger" | "QLinearConv":
                kernel = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]]  # (out, in / group, h, w)
                macs += size * prod(kernel[1:])
            case "Gemm":
                a = shapes[node.input[0]]
                macs += size * a[0 if attributes.get("transA") else 1]
            case "MatMul" | "MatMulInteger" | "FusedMatMul":
                macs += size * shapes[node.input[0]][-1]
            case "Attention":  # queries, keys, values (batch, [heads,] tokens, width)
                query, key, value = (shapes[name] for name in node.input[:3])
                macs += key[-2] * (prod(query) + query[-2] * prod(value) // value[-2])
                continue
            case "MatMulNBits":
                macs += size * attributes["K"]
            case _:
                continue
        names = [behind.get(name, name) for name in node.input]
        weights.update({name: prod(shapes[name]) for name in names if name in stored})
    return int(macs), int(np.sum(list(weights.values()), dtype=np.int64))
