"""What artifacts are measured on: images ready for the model, of files as the box takes them, or of a data set."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.image_io import UnreadableImage, may_be_image, read_image
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.guidance import deployed
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.task import Task

__all__ = [
    "CACHE",
    "Images",
    "data_of_folder",
    "data_of_run",
    "images_of_data",
    "images_of_data_set",
    "images_of_files",
    "images_of_run",
    "images_of_set",
]

CACHE = Path("data/cache")


@dataclass(frozen=True)
class Images:
    """What is verified on: n images ready for the model, uint8 (n, size, size, 3).

    `origin`: what they are, for people. `truth`: {output: (n, ...)}, see `training.tasks`; `None` where nothing is
    known. `patients`: (n,) names. `left_out`: files that are no gradable image. `expected`: what the Keras model gives
    for them; `None` until it has been asked. `whole`: of those decoded at half their size, {index: pixels after
    decoding whole}.
    """

    pixels: NDArray[np.uint8]
    origin: str
    truth: Mapping[str, NDArray[Any]] | None = None
    patients: Sequence[str] | None = None
    left_out: int = 0
    expected: Prediction | None = None
    whole: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


def images_of_files(sources: Iterable[Path], bundle: Bundle) -> Images:
    """Image files (or folders of them) as on the box: decoded, judged for quality, cropped and resized; no labels.

    Raises:
        RealMNetError: none of them is a gradable image.
    """
    sources = list(sources)
    files = [
        path
        for source in sources
        for path in (
            sorted(filter(may_be_image, filter(Path.is_file, source.rglob("*")))) if source.is_dir() else [source]
        )
    ]
    pixels: list[NDArray[np.uint8]] = []
    whole: dict[int, NDArray[np.uint8]] = {}
    left_out = 0
    for path in files:
        try:
            image = read_image(path, min_side=bundle.spec.min_side)
        except UnreadableImage:
            left_out += 1
            continue
        if assess(image.pixels, image.source, bundle.task.modality, bundle.task.looked_for).verdict != "gradable":
            left_out += 1
            continue
        if max(image.pixels.shape) < max(image.source.size):
            whole[len(pixels)] = preprocess(read_image(path).pixels, bundle.spec)[0]
        pixels.append(preprocess(image.pixels, bundle.spec)[0])
    origin = ", ".join(map(str, sources))
    if not pixels:
        raise RealMNetError(f"none of the {left_out} files in {origin} is a gradable image")
    return Images(np.stack(pixels), f"files in {origin}", left_out=left_out, whole=whole)


def images_of_data(folder: Path, bundle: Bundle) -> Images:
    """The test split of a labelled folder in PSMM's or PALM's layout, by the bundle's labels (`training.datasets`)."""
    data = data_of_folder(folder, bundle)
    return images_of_data_set(data, bundle, f"{data.kind} in {folder}")


def images_of_run(run: Path, bundle: Bundle) -> Images:
    """The test split that a finished run was scored on.

    Raises:
        RealMNetError: `run` is not the folder of a run, or its data has other labels than the bundle.
    """
    data = data_of_run(run)
    return images_of_data_set(data, bundle, f"{data.kind} images of {run}")


def data_of_folder(folder: Path, bundle: Bundle) -> Any:
    """The data set of a labelled folder in PSMM's or PALM's layout, by the bundle's labels.

    Raises RealMNetError for a bundle that answers anything else, or more.
    """
    if set(map(type, bundle.task.trained.values())) != {Labels} or len(bundle.task.trained) != 1:
        raise RealMNetError(
            f"{bundle.directory}: a labelled folder is for bundles that answer one output of labels; name a run instead"
        )
    from training.datasets.found.palm import PalmDataSet
    from training.datasets.found.psmm import PsmmDataSet

    name = bundle.task.label_set.name
    return PalmDataSet(str(folder)) if name == "palm" else PsmmDataSet(str(folder), labels=name)


def data_of_run(run: Path) -> Any:
    """The data set of a finished run. Raises RealMNetError where `run` is not the folder of one."""
    from training.recipe import Recipe

    path = Path(run) / "recipe.json"
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of a run")
    return Recipe.from_dict(json.loads(path.read_text())).data


def images_of_data_set(data: Any, bundle: Bundle, origin: str) -> Images:
    """The test images of a data set. Raises RealMNetError for one with other labels, or without test images."""
    labelled, asked = (_codes(task) for task in (deployed(data.task), bundle.task))
    if labelled != asked:
        raise RealMNetError(f"{origin}: labelled {labelled}; the bundle's labels are {asked}")
    test = data.load("test", bundle.spec, CACHE)
    if test is None or not len(test):
        raise RealMNetError(f"{origin}: there are no test images")
    return images_of_set(test, f"test split of {origin}")


def images_of_set(images: Any, origin: str) -> Images:
    """The images of a `training.datasets.image_set.ImageSet`."""
    truth = {name: images.truth_of(name) for name in deployed(images.task).trained}
    return Images(images.images, origin, truth, images.patients)


def _codes(task: Task) -> str:
    """The codes of a task's outputs, for people; of several outputs with their names."""
    codes = {name: ", ".join(output.labels.codes) for name, output in task.trained.items()}
    return "; ".join(of if len(codes) == 1 else f"{name}: {of}" for name, of in codes.items())
