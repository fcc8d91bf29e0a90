"""Keras → LiteRT: the float32 model from which `export.conversion.quantize_litert` makes the smaller ones."""

import contextlib
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.tiny_vit import WindowAttention

__all__ = ["to_litert"]


def to_litert(model: keras.Model, path: Path, **deployment: Any) -> Path:
    """Writes `deploy_graph(model)` as a float32 LiteRT model.

    The signature `serving_default` takes `images` float32 (1, h, w, 3), 0–255, and gives the outputs of the deploy
    graph: of a RealMNet `probabilities` (1, classes), `class_maps` (1, h', w', classes) and `features` (1, dim). Only
    built-in operations; those of a RealMNet XNNPACK runs as a whole.

    Args:
        deployment: `outputs`, `activations`, `class_maps` and `features` of `deploy_graph`.

    Raises:
        RealMNetError: the Keras backend is not TensorFlow, which LiteRT's converter needs; or as `deploy_graph`.
    """
    if keras.backend.backend() != "tensorflow":
        backend = keras.backend.backend()
        raise RealMNetError(f"export to LiteRT needs KERAS_BACKEND=tensorflow. Received: {backend}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = deploy_graph(model, **deployment)
    images = keras.InputSpec(shape=graph.input.shape, dtype="float32", name="images")
    with contextlib.redirect_stdout(io.StringIO()):  # the converter prints what it does
        graph.export(path, format="litert", input_signature=[images], verbose=False)
    _gather_attention_biases(path, graph)
    return path


def _gather_attention_biases(path, graph):
    """Gives the model at `path` its small tables of attention biases back, which the converter expanded.

    Each constant (heads, tokens, tokens) becomes a GATHER of a table (heads, offsets) by indices (tokens, tokens).
    LiteRT runs an operation on constants once, when it allocates tensors: inference is as fast as before. At 384
    pixels the 21m model loses 98 of its 182 MB.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import read_model, write_model

    model = read_model(str(path))
    (subgraph,) = model.subgraphs

    def constant(name, values, kind):
        model.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), "uint8")))
        tensor = schema.TensorT(name=name, shape=values.shape, type=kind, buffer=len(model.buffers) - 1)
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1

    gather = schema.BuiltinOperator.GATHER
    model.operatorCodes.append(schema.OperatorCodeT(builtinCode=gather, deprecatedBuiltinCode=gather))
    gathers, indices, spent = [], {}, set()
    for layer in (layer for layer in graph.layers if isinstance(layer, WindowAttention)):
        table = keras.ops.convert_to_numpy(layer.attention_biases)
        expanded = table[:, layer.bias_index]
        for number, tensor in enumerate(list(subgraph.tensors)):
            data = model.buffers[tensor.buffer].data
            if data is None or len(data) != expanded.nbytes or data.tobytes() != expanded.tobytes():
                continue
            if layer.window_size not in indices:  # shared by all layers of the same window
                name = "bias_index_{}_{}".format(*layer.window_size)
                indices[layer.window_size] = constant(name, layer.bias_index, schema.TensorType.INT32)
            biases = constant(f"{layer.name}_biases", table, schema.TensorType.FLOAT32)
            gathers.append(
                schema.OperatorT(
                    opcodeIndex=len(model.operatorCodes) - 1,
                    inputs=[biases, indices[layer.window_size]],
                    outputs=[number],
                    builtinOptionsType=schema.BuiltinOptions.GatherOptions,
                    builtinOptions=schema.GatherOptionsT(axis=1),
                )
            )
            spent.add(tensor.buffer)
            tensor.shape, tensor.buffer = expanded.shape, 0  # buffer 0 is the empty one: the values are computed
    for number in spent:
        model.buffers[number].data = None
    subgraph.operators = gathers + subgraph.operators
    write_model(model, str(path))
