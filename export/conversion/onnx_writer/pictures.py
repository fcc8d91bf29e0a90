"""What is done to the picture as a whole, as in keras_realmnet.models.refuge.pictures."""

from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.models.refuge.pictures import ChannelStandardization

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


RULES: dict[type, Rule] = {ChannelStandardization: _channel_standardization}
