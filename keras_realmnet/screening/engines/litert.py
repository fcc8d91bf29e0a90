"""LiteRT (.tflite) with XNNPACK: any CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import BundleMismatch
from keras_realmnet.screening.engines.base import EngineRuntime

__all__ = ["LiteRTRuntime"]


class LiteRTRuntime(EngineRuntime):
    """A model with the signature `serving_default`. At a path it is mapped, not copied."""

    SUFFIX = ".tflite"
    SIGNATURE = "serving_default"

    def _open(self, model: Path | bytes, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise self._missing("ai-edge-litert", "pip install -r requirements-edge.txt", error) from error
        content: dict[str, Any] = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
        try:
            self._interpreter = Interpreter(**content, num_threads=threads)
            self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_list().get(self.SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise self._cannot_open(error) from error
        if signature is None:
            raise BundleMismatch(f"{self._name}: expected a signature {self.SIGNATURE!r}. Received: none")
        self._runner = self._interpreter.get_signature_runner(self.SIGNATURE)
        details = self._runner.get_input_details()
        inputs = [(name, np.dtype(d["dtype"]).name) for name, d in details.items()]
        self._check_signature(inputs, list(signature["outputs"]))
        self.input_shape = tuple(int(n) for n in details[self.input_name]["shape"])

    def _run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        outputs = self._runner(**{self.input_name: images})
        return [np.asarray(outputs[name]) for name in self.outputs]
