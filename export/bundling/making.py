"""Artifacts made and measured against Keras, before any of them is in a bundle; and the images for that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from export.contract.images import CACHE, Images
from export.contract.keras_source import keras_predictions
from export.contract.parity import Parity, incomparable, measure, refuse, runtime_predictions
from export.conversion.artifacts import ArtifactMaker, is_convolutional, kind_of
from export.conversion.deployment import deployment_of
from export.speed.costs import with_costs
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import Task

__all__ = ["Meaning", "calibration_images", "halves", "make_and_measure"]

CALIBRATION_IMAGES = 128


@dataclass(frozen=True)
class Meaning:
    """What a model's input and output mean: in the words of a bundle."""

    task: Task
    spec: PreprocessSpec


def make_and_measure(
    model: keras.Model,
    artifacts: Sequence[str],
    folder: Path,
    calibration: NDArray[np.uint8] | None,
    images: Images,
    meaning: Meaning,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, ArtifactSource], dict[str, Parity], Prediction]:
    """Artifacts with their costs, how far each is from Keras on `images`, and what Keras gives for these.

    Raises:
        BundleMismatch: some break a limit of their precision, do not run or cannot be made; names each of them.
        RealMNetError: there is no artifact of a name.
    """
    for name in artifacts:
        kind_of(name, is_convolutional(model))  # before anything is made
    maker = ArtifactMaker(model, folder, calibration, **deployment_of(model, meaning.task))
    sources: dict[str, ArtifactSource] = {}
    parity: dict[str, Parity] = {}
    failed: dict[str, str] = {}
    for name in artifacts:
        tell(f"making {name}")
        try:
            sources[name] = maker.make(name)
        except RealMNetError as error:
            failed[name] = str(error)
    tell(f"Keras float32 on {len(images.pixels)} images")
    expected = keras_predictions(model, images.pixels, meaning.task)
    for name, source in sources.items():
        tell(f"{name} on {len(images.pixels)} images")
        try:
            received = runtime_predictions(
                engine_class(source.engine)(source.path, outputs=tuple(meaning.task.outputs)), images.pixels
            )
        except RealMNetError as error:
            failed[name] = str(error)
            continue
        reason = incomparable(expected, received)
        if reason is not None:
            failed[name] = reason
            continue
        parity[name] = measure(expected, received, meaning.task, images)
    refuse(parity, {name: source.precision for name, source in sources.items()}, failed)
    for name, source in sources.items():
        tell(f"memory of {name}")
        sources[name] = with_costs(source, meaning.spec, meaning.task.modality)
    return sources, parity, expected


def calibration_images(data: Any, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Some of the training images, from all over the set. Raises RealMNetError where there are none."""
    train = data.load("train", spec, CACHE)
    if train is None or not len(train):
        raise RealMNetError(f"{data.kind}: there are no training images to calibrate on")
    return np.asarray(train.pixels[_evenly(train.rows)])


def halves(images: Images) -> tuple[Images, NDArray[np.uint8]]:
    """Every second image for measuring, and the others for calibration."""
    if len(images.pixels) < 2:
        raise RealMNetError(f"{images.origin}: static int8 needs two images or more. Received: {len(images.pixels)}")
    origin = f"{images.origin}, every second one; the others calibrated static int8"
    return Images(images.pixels[1::2], origin, left_out=images.left_out), _evenly(images.pixels[::2])


def _evenly(values: NDArray[Any]) -> NDArray[Any]:
    """At most `CALIBRATION_IMAGES` of them, from all over."""
    return values[:: max(1, len(values) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
