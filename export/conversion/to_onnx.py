"""Keras → ONNX: the deploy graph written layer by layer with `onnx.helper`, or converted by tf2onnx."""

from pathlib import Path
from typing import Any

import keras
import onnx
from onnx import helper

from export.conversion.onnx_writer import attention, convolutions, elementwise, heads, maps, pictures
from export.conversion.onnx_writer.writer import PRECISIONS, Rule, Writer
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError

__all__ = [
    "OPSET",
    "PORTABLE_OPSET",
    "PRECISIONS",
    "RULES",
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
RULES: dict[type, Rule] = {
    **elementwise.RULES,
    **convolutions.RULES,
    **maps.RULES,
    **attention.RULES,
    **heads.RULES,
    **pictures.RULES,
}


def to_onnx(
    model: keras.Model,
    path: Path,
    batch_size: int | None = 1,
    opset: int = OPSET,
    precision: str = "float32",
    **deployment: Any,
) -> Path:
    """Writes `deploy_graph(model)` as an ONNX model, from any Keras backend.

    Input `images` float32 (batch, h, w, 3), 0–255; outputs those of the deploy graph, float32: of a RealMNet
    `probabilities` (batch, classes), `class_maps` (batch, h', w', classes) and `features` (batch, dim). Only operations
    of the ONNX standard. Convolutions work channels first, dense layers channels last, with a Transpose where the two
    meet. The attention bias stays a small table and a Gather on constants, which engines compute once, when they open
    the model.

    Args:
        batch_size: `None` leaves it open.
        opset: from `PORTABLE_OPSET[precision]`, which older engines read, to `OPSET`, where Attention is one operation.
        precision: one of `PRECISIONS`, of weights and activations. In the smaller ones the first convolution, whose
            weights contain the scale of the pixels, and the head, which decides, stay float32.
        deployment: `outputs`, `activations`, `class_maps` and `features` of `deploy_graph`.

    Raises:
        ValueError: for another precision or opset.
        RealMNetError: as `deploy_graph`, or `graph_to_onnx`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    if opset not in range(PORTABLE_OPSET[precision], OPSET + 1):
        raise ValueError(f"opset must be {PORTABLE_OPSET[precision]} to {OPSET} in {precision}. Received: {opset!r}")
    return save_checked(graph_to_onnx(deploy_graph(model, batch_size=batch_size, **deployment), opset, precision), path)


def graph_to_onnx(graph: keras.Model, opset: int = OPSET, precision: str = "float32") -> onnx.ModelProto:
    """The ONNX model of a deploy graph, layer by layer.

    Raises:
        RealMNetError: a layer, or a setting of one, that has no rule here; names it.
    """
    return Writer(opset, precision, RULES).write(graph)


def to_onnx_by_tf2onnx(model: keras.Model, path: Path, batch_size: int | None = 1, **deployment: Any) -> Path:
    """As `to_onnx` in float32, by tf2onnx from TensorFlow's graph: LayerNorm and GELU in their parts, and slower.

    Raises:
        RealMNetError: the Keras backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RealMNetError(f"tf2onnx needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}")
    import tensorflow as tf
    import tf2onnx

    graph = deploy_graph(model, batch_size=batch_size, **deployment)
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
