"""Which layers stand int8? Each group is quantized alone, and the change of the probabilities measured."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from export.compat import operations_of
from export.conversion.calibration import RANGE_METHODS, activation_histograms, ranges_of
from export.conversion.quantize_litert import BACKBONE_DENSE, LAYER_GROUPS, quantize_groups
from export.conversion.to_litert import to_litert
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.tasks.task import PROBABILITIES

__all__ = ["Sensitivity", "model_and_images", "sensitivities", "table", "write_report"]

DYNAMIC = ("FULLY_CONNECTED", "CONV_2D")  # operations that LiteRT runs with dynamic int8
CALIBRATION_IMAGES = 32
ROUNDS = 9  # of timing


@dataclass(frozen=True)
class Sensitivity:
    """What int8 in one group alone (or in all dense layers of the backbone, under each calibration) does.

    `mode`: "dynamic", or "static" with the method of its ranges. `mean`, `p99`, `largest`: |Δ probability| to the
    float32 model over all images and labels. `time`: of an inference on one thread, as a share of the float32 model's,
    median of interleaved pairs. `partitions`: how many pieces XNNPACK runs the model in; 1 is the whole.
    """

    group: str
    mode: str
    mean: float
    p99: float
    largest: float
    time: float
    partitions: int


def sensitivities(
    model: RealMNet,
    images: NDArray[np.uint8],
    calibration: NDArray[np.uint8],
    tell: Callable[[str], None] = lambda line: None,
) -> list[Sensitivity]:
    """Quantizes group by group, then all dense layers of the backbone with each way to find static ranges.

    Args:
        images: uint8 (n, size, size, 3), what differences are measured on.
        calibration: other images, for the ranges of static int8.
        tell: is handed a line as each variant begins.
    """
    with tempfile.TemporaryDirectory() as folder:
        float_model, path = to_litert(model, Path(folder) / "float32.tflite"), Path(folder) / "int8.tflite"
        reference = LiteRTRuntime(float_model, threads=1)
        expected = reference.predict(images)[PROBABILITIES]
        tell(f"calibration on {len(calibration)} images")
        histograms = activation_histograms(float_model, calibration)
        ranges = {method: ranges_of(histograms, method) for method in RANGE_METHODS}

        def measured(group, mode, **groups):
            tell(f"{group}, {mode}")
            quantize_groups(float_model, path, **groups)
            runtime = LiteRTRuntime(path, threads=1)
            difference = np.abs(runtime.predict(images)[PROBABILITIES] - expected)
            p99, largest = float(np.percentile(difference, 99)), float(difference.max())
            time_share = _time_ratio(reference, runtime, images[:1])
            return Sensitivity(group, mode, float(difference.mean()), p99, largest, time_share, _partitions(path))

        found = []
        for group, (_, operation) in LAYER_GROUPS.items():
            if operation in DYNAMIC:
                found.append(measured(group, "dynamic", dynamic=[group]))
            found.append(measured(group, "static percentile", static=[group], ranges=ranges["percentile"]))
        every = "all dense layers"
        found.append(measured(every, "dynamic", dynamic=BACKBONE_DENSE))
        for method in RANGE_METHODS:
            found.append(measured(every, f"static {method}", static=BACKBONE_DENSE, ranges=ranges[method]))
    return found


def _time_ratio(reference, runtime, image) -> float:
    def seconds(opened):  # of this process: on one thread the same as of the clock, but blind to other processes
        began = time.process_time()
        opened.predict(image)
        return time.process_time() - began

    return float(np.median([seconds(runtime) / seconds(reference) for _ in range(ROUNDS)]))


def _partitions(path) -> int:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return sum(operation["op_name"] == "DELEGATE" for operation in operations_of(interpreter))


def model_and_images(
    place: Path, sources: Sequence[Path] | None, number: int
) -> tuple[RealMNet, NDArray[np.uint8], NDArray[np.uint8]]:
    """The Keras model of a bundle or run, at most `number` images to measure on, and others for calibration.

    A run brings its validation images. For a bundle the images are those of the files in `sources`.

    Raises:
        RealMNetError: `place` is neither; there are too few images; a bundle without `sources`, or a run with them.
    """
    if (place / "bundle.json").is_file():
        from export.contract.images import images_of_files
        from export.contract.keras_source import load_realmnet
        from keras_realmnet.screening.bundle.bundle import Bundle

        if not sources:
            raise RealMNetError(f"{place} is a bundle: name the images to measure on with --images")
        bundle = Bundle.load(place)
        model, pixels = load_realmnet(bundle), images_of_files(sources, bundle).pixels
    else:
        from export.contract.images import CACHE
        from training.runs import load_run

        if sources:
            raise RealMNetError(f"{place} is a run: its own validation images are measured on, not --images")
        model, recipe = load_run(place)
        validation = recipe.data.load("validation", recipe.spec(), CACHE)
        if not isinstance(model, RealMNet) or validation is None:
            raise RealMNetError(f"{place}: expected the run of a RealMNet with validation images")
        pixels = validation.images
    if len(pixels) < 4:
        raise RealMNetError(f"sensitivity needs at least 4 images. Received: {len(pixels)}")
    calibration = pixels[:: max(2, len(pixels) // CALIBRATION_IMAGES)]
    rest = np.delete(pixels, np.s_[:: max(2, len(pixels) // CALIBRATION_IMAGES)], axis=0)
    return model, rest[:: -(-len(rest) // number)], calibration


def write_report(found: Sequence[Sensitivity], images: int, folder: Path) -> None:
    """Writes `sensitivity.json` and `sensitivity.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(row) for row in found]
    (folder / "sensitivity.json").write_text(json.dumps({"images": images, "rows": rows}, indent=1) + "\n")
    _picture(found, images).savefig(folder / "sensitivity.png", dpi=150)


def table(found: Sequence[Sensitivity], images: int) -> Table:
    """The same for a terminal."""
    out = Table(title=f"int8 in one group of layers at a time: |Δp| to float32 on {images} images")
    for heading in ("group", "mode", "mean", "99 %", "max", "time", "XNNPACK parts"):
        out.add_column(heading, justify="left" if heading in ("group", "mode") else "right")
    for row in found:
        differences = [f"{value:.4f}" for value in (row.mean, row.p99, row.largest)]
        out.add_row(row.group, row.mode, *differences, f"{row.time:.2f}", str(row.partitions))
    return out


def _picture(found: Sequence[Sensitivity], images: int) -> Figure:
    """Bars of the 99th percentile and the mean per group and mode, on a logarithmic axis, with the contract's limit."""
    colours = {"dynamic": "#0072b2", "static": "#d55e00"}
    figure = Figure(figsize=(8, 0.28 * len(found) + 1.2), layout="constrained")
    axis = figure.subplots()
    for y, row in enumerate(found):
        colour = colours[row.mode.split()[0]]
        axis.barh(y, row.p99, color=colour, alpha=0.45, height=0.8)
        axis.barh(y, row.mean, color=colour, height=0.8)
        over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(row.p99 * 1.08, y, f"{row.p99:.2g}", va="center", fontsize=7, bbox=over_the_line)
    axis.axvline(0.02, color="#51606f", linestyle="--", linewidth=1)
    axis.text(0.02, -0.9, " limit of the 99th percentile", fontsize=7, color="#51606f", va="center")
    axis.set_yticks(range(len(found)), [f"{row.group}, {row.mode}" for row in found], fontsize=8)
    axis.set_ylim(len(found) - 0.4, -1.4)
    axis.set_xscale("log")
    axis.set_xlabel(
        f"|Δ probability| to float32 on {images} images: mean (dark) and 99th percentile (light)", fontsize=8
    )
    axis.set_title("int8 in one group of layers at a time", loc="left", fontsize=10, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="#e3e8ed", linewidth=0.6)
    axis.set_axisbelow(True)
    return figure
