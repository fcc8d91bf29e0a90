"""How fast this processor multiplies matrices: no engine can take less time than a network's products at that rate.

    python -m export.benchmarks.multiply_peak [--threads 1] [--threads 2] [--macs 13.7]

One large product in ONNX Runtime, where nothing else costs time: float32, and 8-bit integers (unsigned × signed).
"""

import statistics
import sys
import time
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import TensorProto, helper

from keras_realmnet.command_line import run
from keras_realmnet.screening.engines.base import available_threads

__all__ = ["multiply_peak"]

SIDE = 1536  # of the square matrices: large enough for the peak, small enough to repeat


def multiply_peak(kind: str, threads: int, repetitions: int = 15, side: int = SIDE) -> float:
    """Median of multiply-accumulates per second, in 10⁹.

    Args:
        kind: "float32" or "int8".
    """
    operation, left, right, product = {
        "float32": ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT),
        "int8": ("MatMulInteger", TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32),
    }[kind]
    rng = np.random.default_rng(0)
    values = [
        rng.integers(0, 100, (side, side)).astype(helper.tensor_dtype_to_np_dtype(element)) for element in (left, right)
    ]
    graph = helper.make_graph(
        [helper.make_node(operation, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", left, (side, side))],
        [helper.make_tensor_value_info("product", product, (side, side))],
        [helper.make_tensor("right", right, (side, side), values[1].tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seconds = []
    for _ in range(repetitions + 2):
        began = time.perf_counter()
        session.run(None, {"left": values[0]})
        seconds.append(time.perf_counter() - began)
    return side**3 / statistics.median(seconds[2:]) / 1e9  # the first ones warm up


app = typer.Typer(add_completion=False)


@app.command()
def main_command(
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable. Default: all cores.")] = None,
    macs: Annotated[float, typer.Option(min=0, help="Of a network, in 10⁹; 21m at 384 px has 13.70.")] = 13.70,
) -> None:
    """Print the rates, and the least time that a network's products take at them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"one product of {SIDE} × {SIDE} matrices in ONNX Runtime")
    for heading in ("kind", "threads", "G MAC / s", f"ms for {macs:g} G MAC"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for count in threads or [available_threads()]:
        for kind in ("float32", "int8"):
            rate = multiply_peak(kind, count)
            table.add_row(kind, f"{count}", f"{rate:.1f}", f"{1000 * macs / rate:.0f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run(app, "python -m export.benchmarks.multiply_peak"))
