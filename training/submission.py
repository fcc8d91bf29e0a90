"""What networks say of REFUGE's pictures, in the files that are handed in; several of the same answer are averaged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.outputs import Labels, Masks, Output, Points
from keras_realmnet.tasks.task import Task
from training.data.files.challenge_list import find_pictures
from training.data.glaucoma.submission import write_classification, write_fovea_locations, write_segmentations
from training.datasets.found.glaucoma import GLAUCOMA
from training.datasets.landmarks import CUP, DISC, DISC_AND_CUP, FOVEA
from training.runs import activated, load_run, read_task

__all__ = ["Network", "hand_in", "network_of_run"]

Array = NDArray[Any]
# Which output answers each of the challenge's questions: its kind, and the labels that it must have.
_QUESTIONS: Mapping[str, tuple[type[Output], tuple[str, ...]]] = {
    "glaucoma": (Labels, (GLAUCOMA.codes[0],)),
    "disc and cup": (Masks, (DISC.code, CUP.code)),
    "fovea": (Points, (FOVEA.code,)),
}


@dataclass(frozen=True)
class Network:
    """`answer`: of a square as `spec` makes it, uint8 (side, side, 3), what a deployed network of `task` says, {output:
    its values for one image, without the batch axis}."""

    task: Task
    spec: PreprocessSpec
    answer: Callable[[NDArray[np.uint8]], Mapping[str, Array]]

    def answers(self, question: str) -> str | None:
        """The output that answers one of the questions; None where there is none."""
        kind, codes = _QUESTIONS[question]
        for name, output in self.task.trained.items():
            apart = isinstance(output, Masks) and output.exclusive  # a disc without its cup
            if isinstance(output, kind) and set(codes) <= set(output.labels.codes) and not apart:
                return name
        return None


def network_of_run(run: Path) -> Network:
    """That of a run folder. Raises RealMNetError: `run` is not the folder of a finished run."""
    model, recipe = load_run(run)
    task = read_task(run)

    def answer(square: NDArray[np.uint8]) -> dict[str, Array]:
        said = model.predict(square[None].astype(np.float32), verbose=0)
        named = said if isinstance(said, dict) else {next(iter(task.trained)): said}
        return {name: activated(output, np.asarray(named[name]))[0] for name, output in task.trained.items()}

    return Network(task, recipe.spec(), answer)


def hand_in(networks: Sequence[Network], pictures: Path, out: Path) -> dict[str, int]:
    """Writes what `training.data.glaucoma.submission` describes, of the questions that some network answers.

    Where several answer one, their probabilities, and the places of the fovea, are averaged, in the picture's own
    pixels; so they may see pictures at different sizes. Masks are then found as on the box, by the first one's
    threshold.

    Args:
        pictures: folder of the pictures that are asked about.

    Returns:
        {question: how many networks answer it}.

    Raises:
        RealMNetError: none of the networks answers any of the questions.
        DataSetError: there are no pictures, or two of the same name. UnreadableImage: one cannot be read.
    """
    asked = {question: [each for each in networks if each.answers(question)] for question in _QUESTIONS}
    asked = {question: some for question, some in asked.items() if some}
    if not asked:
        known = "; ".join(", ".join(each.task.trained) for each in networks)
        raise RealMNetError(f"expected networks that answer {', '.join(_QUESTIONS)}. Received: {known}")
    paths = find_pictures(pictures, "the pictures that are asked about")
    names = [path.name for path in paths]
    risks, foveas = [], []
    for path in paths:
        said = _said_of(path, networks, asked)
        if "glaucoma" in said:
            risks.append(float(said["glaucoma"]))
        if "fovea" in said:
            foveas.append(said["fovea"])
        if "disc and cup" in said:
            write_segmentations(out, [path.name], [said["disc and cup"]])
    if risks:
        write_classification(out, names, np.array(risks))
    if foveas:
        write_fovea_locations(out, names, np.array(foveas))
    return {question: len(some) for question, some in asked.items()}


def _said_of(path: Path, networks: Sequence[Network], asked: Mapping[str, Sequence[Network]]) -> dict[str, Array]:
    """{question: its answer for one picture}: a risk, a mask bool (height, width, 2), or a place (2,) in pixels."""
    found: dict[str, list[Array]] = {question: [] for question in asked}
    size = (0, 0)
    for network in networks:
        image = read_image(path, min_side=network.spec.min_side)
        square, decoded = preprocess(image.pixels, network.spec)
        size = image.source.size
        geometry = decoded.on(size[::-1])
        values = network.answer(square)
        for question, places in found.items():
            if (name := network.answers(question)) is not None:
                codes = _QUESTIONS[question][1]
                places.append(_in_picture(network.task.trained[name], values[name], codes, geometry))
    said = {question: np.mean(places, axis=0) for question, places in found.items()}
    if "fovea" in said:
        said["fovea"] = np.clip(said["fovea"], 0, np.array(size) - 1)  # the challenge takes a place in the picture
    if "disc and cup" in said:
        first = asked["disc and cup"][0]
        output = first.task.trained[first.answers("disc and cup") or ""]
        assert isinstance(output, Masks)
        thresholds = tuple(output.thresholds[code] for code in DISC_AND_CUP.labels.codes)
        found_by = replace(DISC_AND_CUP, threshold=thresholds)
        said["disc and cup"] = found_masks(found_by, said["disc and cup"]) == 1
    return said


def _in_picture(output: Output, values: Array, codes: Sequence[str], geometry: FieldGeometry) -> Array:
    """A probability; those of the masks of `codes`, (height, width, codes); or a place in the picture, (2,)."""
    assert isinstance(output, Labels | Masks | Points)
    columns = [output.labels.codes.index(code) for code in codes]
    if isinstance(output, Masks):
        return np.stack([geometry.map_to_source(values[..., column]) for column in columns], axis=-1)
    if isinstance(output, Points):
        return geometry.to_source(values[columns, :2].astype(np.float64) * geometry.size - 0.5)[0]
    return np.asarray(values[columns[0]])
