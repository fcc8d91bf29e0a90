"""What is done to the picture as a whole, as in keras_realmnet.models.refuge.pictures."""

import numpy as np

from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.models.refuge.pictures import ChannelStandardization, ZeroLocalMean

__all__ = ["RULES"]


def _channel_standardization(w: Writer, layer) -> None:
    name, layout = layer.name, w.layout(layer.input)
    axes = (1, 2) if layout == "NHWC" else (2, 3)
    over = w.integers("axes_" + "_".join(map(str, axes)), *axes)
    x = w.get(layer.input, layout)
    centred = w.op(f"{name}_centred", "Sub", x, w.op(f"{name}_mean", "ReduceMean", x, over, keepdims=1))
    squares = w.op(f"{name}_squares", "Mul", centred, centred)
    deviation = w.op(f"{name}_root", "Sqrt", w.op(f"{name}_variance", "ReduceMean", squares, over, keepdims=1))
    deviation = w.op(f"{name}_deviation", "Max", deviation, w.constant(f"{name}.least", 1.0))
    w.put(layer.output, w.op(name, "Div", centred, deviation), layout)


def _zero_local_mean(w: Writer, layer) -> None:
    name, (_, height, width, channels) = layer.name, layer.input.shape
    x = blurred = w.get(layer.input, "NCHW")
    reach, size = len(layer.kernel) // 2, len(layer.kernel)
    for axis, shape, sides, pads in (
        ("rows", (size, 1), (height, 1), (reach, 0, reach, 0)),
        ("columns", (1, size), (1, width), (0, reach, 0, reach)),
    ):
        kernel = w.constant(f"{name}.{axis}", np.tile(layer.kernel.reshape(1, 1, *shape), (channels, 1, 1, 1)))
        blurred = w.op(f"{name}_{axis}", "Conv", blurred, kernel, kernel_shape=shape, pads=pads, group=channels)
        within = w.constant(f"{name}.within_{axis}", 1 / layer.within(max(sides)).reshape(1, 1, *sides))
        blurred = w.op(f"{name}_{axis}_within", "Mul", blurred, within)
    four, middle, least, most = (w.constant(f"{name}.{value}", float(value)) for value in (4, 128, 0, 255))
    strong = w.op(f"{name}_strong", "Mul", w.op(f"{name}_difference", "Sub", x, blurred), four)
    w.put(layer.output, w.op(name, "Clip", w.op(f"{name}_shifted", "Add", strong, middle), least, most), "NCHW")


RULES: dict[type, Rule] = {ChannelStandardization: _channel_standardization, ZeroLocalMean: _zero_local_mean}
