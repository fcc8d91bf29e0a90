"""The Keras model that the artifacts of a bundle were made from, and what it gives for images."""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet import RealMNet  # the import also registers the classes that a saved model names
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.engines.base import Prediction

__all__ = ["keras_predictions", "load_source"]


def load_source(bundle: Bundle, path: Path | None = None) -> RealMNet:
    """The Keras model the bundle was made from.

    Args:
        path: a copy of it, by default the one in the bundle's folder.

    Raises:
        RealMNetError: the bundle was stripped of it (a box does not need it), `path` is another model, or the model is
            no RealMNet.
    """
    if path is None:
        path = bundle.directory / (bundle.source_file or SOURCE_FILE)
    if not path.is_file():
        raise RealMNetError(
            f"{path}: no such file; the Keras model is needed, to which every artifact is compared. A bundle may be "
            "without it: then name a copy where the command takes --source"
        )
    expected, received = bundle.source_sha256, sha256_of(path)
    if received != expected:
        stated = "no model" if expected is None else f"SHA-256 {expected[:16]}…"
        raise RealMNetError(
            f"{path}: not the Keras model that {bundle.directory} was made from: {stated} is stated there. "
            f"Received: {received[:16]}…"
        )
    model = keras.saving.load_model(path)
    if not isinstance(model, RealMNet):
        raise RealMNetError(f"{path}: a RealMNet expected. Received: {type(model).__name__}")
    return model


def keras_predictions(model: RealMNet, images: NDArray[np.uint8], batch_size: int = 16) -> Prediction:
    """What the Keras model gives for `images`, uint8 (n, size, size, 3)."""
    inference = model.inference_model()
    outputs = [
        {name: keras.ops.convert_to_numpy(value) for name, value in inference(batch).items()}
        for batch in (images[i : i + batch_size].astype("float32") for i in range(0, len(images), batch_size))
    ]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}
