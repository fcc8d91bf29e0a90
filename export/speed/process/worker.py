"""The process of a contestant, as the benchmark holds it."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from export.speed.contestants import Contestant
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.process_memory import engine_environment

__all__ = ["Worker"]


class Worker:
    """A contestant in its own process (`export.speed.process.engine`), doing nothing until it is asked."""

    def __init__(self, contestant: Contestant, threads: int):
        # A pipe that nobody reads would fill up.
        self._said: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "export.speed.process.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=engine_environment(),
            text=True,
            bufsize=1,
        )
        self.spans: list[tuple[float, float]] = []  # of its turns
        try:
            self._send(
                {
                    "engine": contestant.engine,
                    "file": str(contestant.file),
                    "network": contestant.network,
                    "preprocessing": contestant.spec.to_dict(),
                    "modality": contestant.modality,
                    "threads": threads,
                }
            )
            self._receive()
        except BaseException:  # nobody else can close what was never made
            self.close()
            raise

    def ask(self, do: str, **options: Any) -> Any:
        """Raises RealMNetError with what the worker says, or that it died."""
        began = time.monotonic()
        self._send({"do": do, **options})
        answer = self._receive()
        self.spans.append((began, time.monotonic()))
        return answer

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        message = json.loads(line)
        if "error" in message:
            raise RealMNetError(message["error"])
        return message["answer"]

    def _death(self) -> RealMNetError:
        """The status it ended with, and what it said last where it was not killed: the text of an exception."""
        status = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        said = f": {lines[-1]}" if status > 0 and lines else ""
        return RealMNetError(f"the process ended with status {status}{said}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it may have died
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._said.close()
