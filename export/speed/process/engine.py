"""One engine in a process of its own, so that its memory is its own: run by `process.worker`, never by hand.

Reads one JSON object a line from stdin ({"do": …}) and answers each with one line of JSON. Between requests it waits
for the next line and takes no processor time.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from export.speed.board import peak_memory
from export.speed.networks.peers import PEERS, open_peer
from export.speed.process.operator_profile import operator_times
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES


class Engine:
    """What is timed: `stages` of the path from file to class map, and inference alone."""

    def __init__(
        self, engine: str, file: str, network: str, preprocessing: dict[str, int], modality: str, threads: int
    ):
        cv2.setNumThreads(threads)
        self.spec, self.modality, self.threads = PreprocessSpec.from_dict(preprocessing), modality, threads
        self.engine, self.file = engine, Path(file)
        self.predict: Callable[[np.ndarray], Any]
        if engine in PEERS:
            self.predict = open_peer(engine, network, self.spec.size, threads, Path(file))
        else:
            self.predict = engine_class(engine)(Path(file), threads).predict
        self.squares: list[np.ndarray] = []
        self.overlay = Path(tempfile.mkdtemp()) / "overlay.jpg"

    def prepare(self, files: Sequence[str]) -> None:
        """Reads the images that `inference` cycles through."""
        self.squares = [self._prepared(file)[0] for file in files]

    def inference(self, count: int) -> list[float]:
        """Milliseconds of `count` predictions; one before them does not count."""
        times = []
        for k in range(count + 1):
            square = self.squares[k % len(self.squares)][None]
            began = time.perf_counter()
            self.predict(square)
            times.append((time.perf_counter() - began) * 1000)
        return times[1:]

    def stages(self, file: str) -> dict[str, float]:
        """Milliseconds of each step for one image file, and of all ("total")."""
        times: dict[str, float] = {}
        began = last = time.perf_counter()

        def done(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            times[stage], last = (now - last) * 1000, now

        image = read_image(file, min_side=self.spec.min_side)
        done("decode")
        assess(image.pixels, image.source, self.modality)
        done("quality")
        square, geometry = preprocess(image.pixels, self.spec)
        done("preprocess")
        predicted = self.predict(square[None])
        done("inference")
        if isinstance(predicted, dict):  # the peers have no class maps
            self._draw(image.pixels, geometry, predicted)
            done("class map")
        times["total"] = (last - began) * 1000
        return times

    def offline(self, files: Sequence[str], count: int) -> float:
        """Images per second, the next ones being decoded while the network works on one."""
        with ThreadPoolExecutor(self.threads) as pool:
            cv2.setNumThreads(1)
            began = time.perf_counter()
            for square, _ in pool.map(self._prepared, (files[k % len(files)] for k in range(count))):
                self.predict(square[None])
            seconds = time.perf_counter() - began
            cv2.setNumThreads(self.threads)
        return count / seconds

    def profile(self) -> list[dict[str, Any]]:
        """The time by operator; the model is opened anew for it."""
        times = operator_times(self.engine, self.file, self.threads, self.squares[0][None])
        return [asdict(time) for time in times]

    def _prepared(self, file: str) -> tuple[np.ndarray, FieldGeometry]:
        return preprocess(read_image(file, min_side=self.spec.min_side).pixels, self.spec)

    def _draw(self, pixels: np.ndarray, geometry: FieldGeometry, predicted: dict[str, np.ndarray]) -> None:
        strongest = None
        if {CLASS_MAPS, PROBABILITIES} <= set(predicted):
            strongest = predicted[CLASS_MAPS][0, ..., int(predicted[PROBABILITIES][0].argmax())]
        overlay.draw(self.overlay, pixels, overlay.Evidence("benchmark", geometry, strongest))


def answer(engine: Engine, request: dict[str, Any]) -> Any:
    """The reply to one request of `export.speed.process.worker.Worker`."""
    match request["do"]:
        case "prepare":
            engine.prepare(request["files"])
            return None
        case "inference":
            return engine.inference(request["count"])
        case "stages":
            return [engine.stages(file) for file in request["files"]]
        case "offline":
            return engine.offline(request["files"], request["count"])
        case "profile":
            return engine.profile()
        case "memory":
            return peak_memory()
    raise ValueError(f"unknown request {request}")


def main() -> None:
    """The loop; libraries that print must not spoil the answers, so their stdout becomes stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        engine = Engine(**json.loads(sys.stdin.readline()))
        say({"answer": peak_memory()})
        for line in sys.stdin:
            say({"answer": answer(engine, json.loads(line))})
    except RealMNetError as error:
        say({"error": str(error)})


if __name__ == "__main__":
    main()
