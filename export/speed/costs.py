"""What a model asks of the machine that runs it, as its bundle states it."""

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from export.speed.contestants import Contestant
from export.speed.images import SAMPLES, image_files
from export.speed.network_facts import network_facts
from export.speed.process.worker import Worker
from keras_realmnet.screening.bundle.artifact import Costs
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.image_io import read_header
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = ["costs_of", "with_costs"]

TIMES = 3  # that the image is screened: memory that is kept for the next one counts, too


def with_costs(model: ArtifactSource, spec: PreprocessSpec, modality: str) -> ArtifactSource:
    """`model` with its costs; memory is measured on the first of the project's samples of scanner size."""
    return replace(model, costs=costs_of(model, spec, modality, image_files([SAMPLES])[0]))


def costs_of(model: ArtifactSource, spec: PreprocessSpec, modality: str, image: Path) -> Costs:
    """Operations and parameters of `model`, counted; and memory, measured in a process that screens `image` with it.

    The process is that of `export.speed.process.engine`, on one thread: Python and its packages, the model, the decoded
    image and the overlay picture are in it; a box's intake, web page and database are not.

    Raises:
        RealMNetError: the model does not open, or `image` cannot be read.
    """
    facts = network_facts(model.path)
    contestant = Contestant(model.path.name, model.engine, model.path, network="", spec=spec, modality=modality)
    with closing(Worker(contestant, threads=1)) as worker:
        worker.ask("stages", files=[str(image)] * TIMES)
        peak = worker.ask("memory")
    if math.isnan(peak):  # not on Linux
        return Costs(facts.macs, facts.parameters)
    header = read_header(image)
    doing = f"screening a {header.width} × {header.height} {header.format} on one thread, from decoding to the overlay"
    return Costs(facts.macs, facts.parameters, round(peak, 1), f"the whole process {doing} picture")
