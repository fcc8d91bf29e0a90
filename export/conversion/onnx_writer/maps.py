"""Poolings and changes of the size of maps."""

from typing import Any

from keras import layers

from export.conversion.onnx_writer.convolutions import pads_of
from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.deploy.settings import expect
from keras_realmnet.models.refuge.pictures import Resized

__all__ = ["RULES"]

RESIZE_MODES = {"nearest": "nearest", "bilinear": "linear"}  # of Keras and of ONNX


def _pooling(w: Writer, layer) -> None:
    """What padding "same" adds is neither a maximum nor counted in a mean."""
    expect(layer, data_format="channels_last")
    pads = (0, 0, 0, 0)
    if layer.padding == "same":
        sides = zip(layer.input.shape[1:3], layer.pool_size, layer.strides, strict=True)
        (top, bottom), (left, right) = (pads_of(*side) for side in sides)
        pads = (top, left, bottom, right)
    kind = "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool"
    x = w.get(layer.input, "NCHW")
    x = w.op(layer.name, kind, x, kernel_shape=layer.pool_size, strides=layer.strides, pads=pads)
    w.put(layer.output, x, "NCHW")


def _global_pooling(w: Writer, layer) -> None:
    expect(layer, data_format="channels_last")
    layout = w.layout(layer.input)
    axes = (1, 2) if layout == "NHWC" else (2, 3)
    kind = "ReduceMax" if isinstance(layer, layers.GlobalMaxPooling2D) else "ReduceMean"
    axes_name = w.integers("axes_" + "_".join(map(str, axes)), *axes)
    x = w.op(layer.name, kind, w.get(layer.input, layout), axes_name, keepdims=int(layer.keepdims))
    w.put(layer.output, x, layout if layer.keepdims else "NHWC")


def _resizing(w: Writer, layer) -> None:
    """Positions as TensorFlow counts them: i of the output lies at (i + ½)·scale − ½ of the input.

    Of two neighbours that are equally near, "nearest" takes the later one.
    """
    expect(layer, data_format="channels_last")
    if isinstance(layer, layers.Resizing):
        expect(layer, crop_to_aspect_ratio=False, pad_to_aspect_ratio=False, antialias=False)
    if layer.interpolation not in RESIZE_MODES:
        w.refuse(layer, f"interpolation must be {' or '.join(RESIZE_MODES)}. Received: {layer.interpolation}")
    mode = RESIZE_MODES[layer.interpolation]
    options: dict[str, Any] = {"nearest_mode": "round_prefer_ceil"} if mode == "nearest" else {}
    batch, height, width, channels = layer.output.shape
    if batch is None:
        sizes, options["axes"] = w.integers(f"{layer.name}.sizes", height, width), (2, 3)
    else:
        sizes = w.integers(f"{layer.name}.sizes", batch, channels, height, width)
    x = w.get(layer.input, "NCHW")
    options["coordinate_transformation_mode"] = "half_pixel"
    w.put(layer.output, w.op(layer.name, "Resize", x, "", "", sizes, mode=mode, **options), "NCHW")


def _cropping(w: Writer, layer) -> None:
    expect(layer, data_format="channels_last")
    (top, _), (left, _) = layer.cropping
    layout = w.layout(layer.input)
    axes = (1, 2) if layout == "NHWC" else (2, 3)
    height, width = layer.output.shape[1:3]
    x = w.op(
        layer.name,
        "Slice",
        w.get(layer.input, layout),
        w.integers(f"{layer.name}.from", top, left),
        w.integers(f"{layer.name}.to", top + height, left + width),
        w.integers("axes_" + "_".join(map(str, axes)), *axes),
    )
    w.put(layer.output, x, layout)


RULES: dict[type, Rule] = {
    layers.MaxPooling2D: _pooling,
    layers.AveragePooling2D: _pooling,
    layers.GlobalMaxPooling2D: _global_pooling,
    layers.GlobalAveragePooling2D: _global_pooling,
    layers.UpSampling2D: _resizing,
    layers.Resizing: _resizing,
    Resized: _resizing,
    layers.Cropping2D: _cropping,
}
