"""A model file of a bundle, as bundle.json describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_realmnet.screening.bundle.form import check_file_name, check_line
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Features
from keras_realmnet.tasks.task import Task

__all__ = ["MAX_SIZE", "Artifact", "Costs", "artifact_from_dict", "check_artifact_name", "check_fits"]

MAX_SIZE = 4096  # px, side of the model's square; images in a batch
MAX_TOLERANCE = 0.1  # of a probability: a check that allows more proves nothing
MAX_COUNT = 1 << 62  # operations, parameters, bytes


@dataclass(frozen=True)
class Costs:
    """What a model asks of the machine that runs it.

    macs: multiply-accumulates of its convolutions and matrix products for one image. parameters: numbers in the file
    that go into them. peak_memory_mb: largest resident set of a process that ran it, `None` where it was not measured;
    peak_memory_of: what that process did, in words.
    """

    macs: int
    parameters: int
    peak_memory_mb: float | None = None
    peak_memory_of: str | None = None

    def __post_init__(self) -> None:
        for name in ("macs", "parameters"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                raise ValueError(f"`{name}` must be a whole number, 0 or more. Received: {value!r}")
        memory = self.peak_memory_mb
        if memory is not None and (type(memory) not in (int, float) or not 0 < memory < MAX_COUNT):
            raise ValueError(f"`peak_memory_mb` must be a positive number or nothing. Received: {memory!r}")
        if (memory is None) != (self.peak_memory_of is None):
            raise ValueError(
                f"a peak memory comes with what was measured. Received: {memory!r}, {self.peak_memory_of!r}"
            )
        if self.peak_memory_of is not None:
            check_line("'peak_memory_of'", self.peak_memory_of)


@dataclass(frozen=True)
class Artifact:
    """One model file of a bundle.

    engine: a name of `engines.registry.ENGINES`. precision: "float32", "int8", ... as the exporter names it.
    input_shape: (batch, size, size, 3); `None` for a batch of any size.
    output_shapes: {output: shape for one image, (1, ...)}, of each output of the task; of features only where they were
        asked for while its file was there. The golden output is of these.
    tolerance: largest difference the golden check allows, see `runtimes.self_check`.
    device: where alone the model runs, as `EngineRuntime.this_device` says it, or `None`.
    costs: `None` in bundles that do not state them, as older ones.

    Raises ValueError for names and files that are none, shapes that no model has, and a tolerance that checks nothing.
    """

    name: str
    file: str
    engine: str
    precision: str
    sha256: str
    bytes: int
    input_name: str
    input_shape: tuple[int | None, ...]
    output_shapes: dict[str, tuple[int, ...]]
    tolerance: float
    device: dict[str, str] | None = None
    costs: Costs | None = None

    def __post_init__(self) -> None:
        check_artifact_name(self.name)
        check_file_name(self.file)
        for field in ("engine", "precision", "input_name"):
            check_line(f"{field!r} of {self.name}", getattr(self, field))
        if not 0 < self.bytes <= MAX_COUNT:
            raise ValueError(f"{self.name}: a file has at least one byte. Received: {self.bytes}")
        if not 0 < self.tolerance <= MAX_TOLERANCE:
            raise ValueError(
                f"{self.name}: a tolerance is a number above 0 and at most {MAX_TOLERANCE}. Received: {self.tolerance}"
            )
        batch, *sides = self.input_shape or (0,)
        if len(sides) != 3 or not all(side is not None and 0 < side <= MAX_SIZE for side in (batch or 1, *sides)):
            raise ValueError(f"{self.name}: an input shape is (batch, size, size, 3). Received: {self.input_shape}")

    @property
    def size(self) -> str:
        """Bytes and costs, as far as they are known, for people."""
        said = [f"{self.bytes / 1e6:.1f} MB"]
        if self.costs is not None:
            said.append(f"{self.costs.macs / 1e9:.2f} G multiply-accumulates for an image")
            said.append(f"{self.costs.parameters / 1e6:.2f} M parameters")
            if self.costs.peak_memory_mb is not None:
                said.append(f"{self.costs.peak_memory_mb:.0f} MB of memory at most ({self.costs.peak_memory_of})")
        return ", ".join(said)


def check_artifact_name(artifact: str) -> None:
    """Raises ValueError where an artifact cannot be called so: its file and its arrays have its name in theirs."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", artifact):
        raise ValueError(f"An artifact name is letters, digits, '-' and '_', at most 64. Received: {artifact!r}")


def check_fits(artifact: Artifact, task: Task, spec: PreprocessSpec) -> None:
    """Raises ValueError where an artifact takes or gives what the rest of its bundle does not."""
    if artifact.input_shape[1:] != (spec.size, spec.size, 3):
        raise ValueError(
            f"{artifact.name}: the images are {spec.size} × {spec.size} px; input shape {artifact.input_shape}"
        )
    optional = {name for name, output in task.outputs.items() if isinstance(output, Features)}
    if set(artifact.output_shapes) | optional != set(task.outputs):
        raise ValueError(
            f"{artifact.name}: the task {task.name!r} has the outputs {', '.join(task.outputs)}. "
            f"Received: {', '.join(artifact.output_shapes)}"
        )
    for output, shape in artifact.output_shapes.items():
        try:
            task.outputs[output].check_shape(shape, task.outputs)
        except ValueError as error:
            raise ValueError(f"{artifact.name}: {output}: {error}") from error


def artifact_from_dict(name: str, fields: Mapping[str, Any]) -> Artifact:
    """The artifact that an entry of bundle.json describes. Raises ValueError as `Artifact`."""
    values = dict(fields)
    values["input_shape"] = tuple(values["input_shape"])
    values["output_shapes"] = {output: tuple(shape) for output, shape in values["output_shapes"].items()}
    if "costs" in values:
        values["costs"] = Costs(**values["costs"])
    return Artifact(name=name, **values)
