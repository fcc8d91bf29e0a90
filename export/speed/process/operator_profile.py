"""Where an engine spends its time, by kind of operation: as the engine itself measures it.

LiteRT's Python package does not tell: there the ONNX artifact of the same network is the nearest answer.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError

__all__ = ["OperatorTime", "operator_times"]

WARM_UP = 3


@dataclass(frozen=True)
class OperatorTime:
    """All operations of a kind in one inference: how many there are and what they take together, `ms`."""

    operator: str
    count: int
    ms: float


def operator_times(
    engine: str, file: Path, threads: int, images: NDArray[np.uint8], runs: int = 20
) -> list[OperatorTime]:
    """The time by operator of one inference, the slowest first: medians over `runs` of each operation, added up.

    Measuring costs time itself: shares are to be read, not sums.

    Args:
        images: uint8 (1, size, size, 3).

    Raises:
        RealMNetError: the engine tells no times.
    """
    profile = PROFILES.get(engine)
    if profile is None:
        raise RealMNetError(f"{engine}: tells no time of its operators; {' and '.join(PROFILES)} do")
    times: dict[str, tuple[str, list[float]]] = {}
    for name, kind, milliseconds in profile(file, threads, images.astype("float32"), runs):
        times.setdefault(name, (kind, []))[1].append(milliseconds)
    by_kind: dict[str, list[float]] = {}
    for kind, measured in times.values():
        by_kind.setdefault(kind, []).append(median(measured))
    found = [OperatorTime(kind, len(medians), sum(medians)) for kind, medians in by_kind.items()]
    return sorted(found, key=lambda row: -row.ms)


def _onnxruntime(file, threads, images, runs):
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + runs):
            session.run(None, {session.get_inputs()[0].name: images})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    warm = len(nodes) * WARM_UP // (WARM_UP + runs)
    return [(event["name"], event["args"]["op_name"], event["dur"] / 1000) for event in nodes[warm:]]


def _openvino(file, threads, images, runs):
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    request = openvino.Core().compile_model(str(file), "CPU", options).create_infer_request()
    found = []
    for run in range(WARM_UP + runs):
        request.infer([images])
        if run >= WARM_UP:
            found += [
                (node.node_name, node.node_type, node.real_time.total_seconds() * 1000)
                for node in request.profiling_info
                if node.real_time.total_seconds()
            ]
    return found


PROFILES: dict[str, Callable] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
