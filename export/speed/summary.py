"""The figures of a benchmark: percentiles, ratios of medians with their intervals, and everything as one document."""

import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.speed.benchmark import Measured
from export.speed.board import machine
from export.speed.contestants import whole_of
from export.speed.network_facts import network_facts
from export.speed.networks.peers import PROBABILITIES_ONLY, REFERENCE
from keras_realmnet.screening.image_io import read_header

__all__ = ["percentiles", "ratio_of_medians", "summary"]

PACKAGES = (
    "ai-edge-litert",
    "onnxruntime",
    "openvino",
    "torch",
    "timm",
    "tensorflow",
    "opencv-python-headless",
    "numpy",
)


def percentiles(values: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    """p50, p90, p99, max and mean of some times."""
    array = np.asarray(values, float)
    p50, p90, p99 = np.percentile(array, (50, 90, 99))
    return {
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(array.max()),
        "mean": float(array.mean()),
    }


def ratio_of_medians(
    times: Sequence[Sequence[float]], reference: Sequence[Sequence[float]], replicates: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """median(times) / median(reference) and its 95 % percentile interval from resampling rounds, the same for both.

    Args:
        times, reference: by round; the k-th rounds of both were measured next to each other.
    """
    if len(times) != len(reference) or not times:
        raise ValueError(f"as many rounds of both are needed. Received: {len(times)} and {len(reference)}")

    def ratio(rounds: Iterable[int]) -> float:
        chosen = list(rounds)
        above, below = (np.concatenate([np.asarray(x[k], float) for k in chosen]) for x in (times, reference))
        return float(np.median(above) / np.median(below))

    rng = np.random.default_rng(seed)
    drawn = [ratio(rng.integers(0, len(times), len(times))) for _ in range(replicates)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return ratio(range(len(times))), float(low), float(high)


def reference_of(results: Sequence[Measured], threads: int) -> Measured | None:
    """What ratios are taken to: timm in ONNX Runtime where it ran, else the first that did."""
    ran = [result for result in results if result.threads == threads and result.inference]
    return next((r for r in ran if r.contestant.engine == REFERENCE), ran[0] if ran else None)


def summary(results: Sequence[Measured], files: Sequence[Path], scenario: str) -> dict[str, Any]:
    """Everything, JSON-safe: machine, packages, images, and per contestant facts, times and ratio."""
    return {
        "machine": machine(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "scenario": scenario,
        "command": ["python", "-m", "export", *sys.argv[1:]],
        "images": [_image(file) for file in files],
        "results": [_row(result, results, scenario) for result in results],
    }


def _row(result: Measured, results: Sequence[Measured], scenario: str) -> dict[str, Any]:
    contestant = result.contestant
    row: dict[str, Any] = {
        "name": contestant.name,
        "engine": contestant.engine,
        "file": contestant.file.name,
        "sha256": contestant.sha256,
        "precision": contestant.precision,
        "network": f"tiny_vit_{contestant.network} at {contestant.spec.size}"
        if contestant.network
        else f"at {contestant.spec.size}",
        "threads": result.threads,
        "note": contestant.note,
        "accuracy against Keras": contestant.accuracy,
    }
    if result.error is not None:
        return {**row, "error": result.error}
    if contestant.file.suffix in (".tflite", ".onnx"):
        row["network facts"] = asdict(network_facts(contestant.file))
    times = np.concatenate(result.inference)
    row["inference_ms"] = percentiles(times) | {"count": len(times), "rounds": len(result.inference)}
    reference = reference_of(results, result.threads)
    if reference is not None:
        ratio, low, high = ratio_of_medians(result.inference, reference.inference)
        row["ratio"] = {"to": reference.contestant.name, "value": ratio, "low": low, "high": high}
    if contestant.engine in PROBABILITIES_ONLY:
        row["all outputs"] = _all_outputs(result, [other for other in results if other.threads == result.threads])
    if result.stages:
        row["stages_ms"] = {
            stage: percentiles([times[stage] for times in result.stages]) for stage in result.stages[0]
        } | {"count": len(result.stages)}
        queries = np.concatenate(result.queries)
        figure = {"singlestream": "p90", "multistream": "p99"}[scenario]
        row["query_ms"] = percentiles(queries) | {"count": len(queries), "figure": figure}
    if result.offline:
        row["images_per_second"] = float(np.median(result.offline))
    if result.operators is not None:
        row["operators"] = result.operators
    return row | {"peak_memory_mb": result.memory_mb, "warm_up_s": result.warm_up_s, "power": result.power}


def _all_outputs(cut: Measured, results: Sequence[Measured]) -> dict[str, Any] | None:
    """The time of the model with all outputs as a ratio to `cut`, the same with probabilities alone."""
    whole = whole_of(cut.contestant.engine, [result.contestant for result in results if result.inference])
    if whole is None:
        return None
    (times,) = (result.inference for result in results if result.contestant is whole)
    ratio, low, high = ratio_of_medians(times, cut.inference)
    return {"of": whole.name, "value": ratio, "low": low, "high": high}


def _image(file: Path) -> dict[str, Any]:
    header = read_header(file)
    size = file.stat().st_size
    return {"file": file.name, "format": header.format, "width": header.width, "height": header.height, "bytes": size}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
