"""Ranges of activations for static int8, from histograms over calibration images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.compat import operations_of

__all__ = ["RANGE_METHODS", "activation_histograms", "activation_ranges", "ranges_of", "with_zero"]

BINS = 2048  # per activation
LEVELS = 256  # of int8
PERCENTILE = 99.99


def activation_ranges(float_model: Path, images: NDArray[np.uint8], method: str = "percentile") -> dict[str, Any]:
    """What `litert_quantizer.Quantizer.quantize` takes as the result of a calibration.

    Args:
        float_model: a LiteRT model with the signature of `export.conversion.to_litert.to_litert`.
        images: uint8 (n, size, size, 3).
        method: one of `RANGE_METHODS`.
    """
    return ranges_of(activation_histograms(float_model, images), method)


def activation_histograms(float_model: Path, images: NDArray[np.uint8]) -> dict[str, tuple[int, Any]]:
    """Rank and histogram, over all `images`, of every float activation of the model, by name."""
    from ai_edge_litert.interpreter import Interpreter
    from litert_quantizer.utils.histogram_utils import DynamicHistogram

    interpreter = Interpreter(str(float_model), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    computed = {number for operation in operations_of(interpreter) for number in operation["outputs"]}
    activations = [
        detail
        for detail in interpreter.get_tensor_details()
        if detail["index"] in computed and detail["dtype"] == np.float32 and detail["name"]
    ]
    histograms = {detail["name"]: (len(detail["shape"]), DynamicHistogram(BINS)) for detail in activations}
    for image in images:
        runner(images=image[None].astype("float32"))
        for detail in activations:
            histograms[detail["name"]][1].add(interpreter.get_tensor(detail["index"]))
    return histograms


def ranges_of(histograms: dict[str, tuple[int, Any]], method: str) -> dict[str, Any]:
    """The range of each activation by one of `RANGE_METHODS`, as the quantizer wants it."""
    ranges = {}
    for name, (rank, histogram) in histograms.items():
        (of_tensor,) = histogram.to_dict()["channels"]
        low, high = RANGE_METHODS[method](of_tensor["hist_counts"], of_tensor["bin_edges"])
        # The bins reach beyond the outermost values.
        low, high = max(low, float(histogram.global_min[0])), min(high, float(histogram.global_max[0]))
        low, high = (low, high) if low < high else with_zero(low, high)
        ranges[name] = {"min": np.full((1,) * rank, low, "float32"), "max": np.full((1,) * rank, high, "float32")}
    return ranges


def with_zero(low: float, high: float) -> tuple[float, float]:
    """The range with 0 in it; 0 to 1 for an activation that was 0 on all images, since a scale cannot be 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if low < high else (0.0, 1.0)


def _min_max(counts, edges):
    return edges[0], edges[-1]


def _percentile(counts, edges):
    """From where (100 − PERCENTILE) % of the values lie below, to where as many lie above."""
    share = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    outside = 1 - PERCENTILE / 100
    return np.interp([outside, 1 - outside], share, edges)


def _entropy(counts, edges):
    """The range in which LEVELS levels lose the least information.

    Of 64 ranges, each the whole one shrunk about zero, the one with the smallest Kullback-Leibler divergence from the
    values, clipped to the range, to what is left of them after the levels. Source: S. Migacz, "8-bit inference with
    TensorRT", GTC 2017.
    """
    centres, best, least = (edges[1:] + edges[:-1]) / 2, (edges[0], edges[-1]), np.inf
    for shrink in np.linspace(1, 1 / 64, 64):
        low, high = shrink * min(edges[0], 0), shrink * max(edges[-1], 0)
        inside = (centres >= low) & (centres <= high)
        if inside.sum() < LEVELS or not counts[inside].any():
            break
        kept = counts[inside].astype("float64")
        clipped = kept.copy()
        clipped[0] += counts[centres < low].sum()
        clipped[-1] += counts[centres > high].sum()
        filled = clipped > 0
        level = np.minimum((centres[inside] - low) / (high - low) * LEVELS, LEVELS - 1).astype(int)
        width = np.bincount(level, filled, LEVELS)  # of each level, in bins that hold values
        quantized = (np.bincount(level, kept, LEVELS) / np.maximum(width, 1))[level][filled]
        p, q = clipped[filled] / clipped.sum(), np.maximum(quantized / quantized.sum(), 1e-9)
        divergence = float((p * np.log(p / q)).sum())
        if divergence < least:
            best, least = (low, high), divergence
    return best


RANGE_METHODS: dict[str, Callable[[NDArray, NDArray], Any]] = {
    "min-max": _min_max,
    "percentile": _percentile,
    "entropy": _entropy,
}
