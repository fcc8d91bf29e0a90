"""Do a network's class maps lie where lies what they show? A test that needs no truth.

A network may answer a cell beside its evidence: its convolutions can move features, and no loss on labels notices. But
an offset of its own does not turn with the image: between the map of an image and that of the flipped image, flipped
back, it shows twice.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_realmnet.models.layers.heads import ClassMaps

__all__ = ["FOUND", "MIN_MAPS", "MapOffset", "measure_map_offset"]

FOUND = 0.5  # probability from which a label counts as found, in the image and in the flipped one
MIN_MAPS = 30  # with fewer the offset is a guess


@dataclass(frozen=True)
class MapOffset:
    """By how much class maps lie below (`rows`) and right (`columns`) of what they show, in cells, to a half.

    Medians of their peaks over `maps` (of the flip that had fewer); (0, 0) where these are fewer than `MIN_MAPS`.
    """

    rows: float
    columns: float
    maps: int

    def describe(self) -> str:
        """What is done to the maps, as part of a sentence."""
        return f"moved back by {self.rows:g} rows and {self.columns:g} columns of cells"


def measure_map_offset(model, images, classes=None, batch_size=16) -> MapOffset:
    """The offset of the class maps of `model`, a RealMNet, whatever its own `map_offset` says.

    Args:
        images: float or uint8 (n, h, w, 3), 0–255; a hundred or more with findings.
        classes: indices of the labels whose maps count: those that show something in one place. Default: all.

    Raises:
        ValueError: no image, or images of another shape than the model's input.
    """
    shape = np.shape(images)
    if len(shape) != 4 or not shape[0] or shape[1:] != model.input_shape[1:]:
        expected = ", ".join(map(str, model.input_shape[1:]))
        raise ValueError(f"images must be (n, {expected}), n at least 1. Received: shape {shape}")
    classes = range(model.num_classes) if classes is None else classes
    explained = keras.Model(model.input, [model.output, ClassMaps(model.head)(model.feature_map)])
    batches = [np.asarray(images[i : i + batch_size], "float32") for i in range(0, len(images), batch_size)]
    found, peaks = _peaks(explained, batches)
    halves = []
    for axis in (0, 1):  # rows, columns
        flipped_found, flipped = _peaks(explained, [np.flip(batch, axis + 1) for batch in batches])
        both = (found & flipped_found)[:, list(classes)]
        # Flipped back, the evidence is where it was, and the offset points the other way.
        back = model.feature_map.shape[axis + 1] - 1 - flipped[axis]
        halves.append((peaks[axis] - back)[:, list(classes)][both] / 2)
    maps = min(map(len, halves))
    if maps < MIN_MAPS:
        return MapOffset(0.0, 0.0, maps)
    rows, columns = (float(np.round(2 * np.median(half)) / 2) for half in halves)
    return MapOffset(rows, columns, maps)


def _peaks(explained, batches):
    """Which labels are found with a place that speaks for them, (n, classes), and their peaks' rows and columns."""
    outputs = [[ops.convert_to_numpy(value) for value in explained(batch, training=False)] for batch in batches]
    logits, maps = (np.concatenate([output[k] for output in outputs]) for k in (0, 1))
    by_position = maps.reshape(len(maps), -1, maps.shape[-1])
    found = (1 / (1 + np.exp(-logits)) >= FOUND) & (by_position.max(axis=1) > 0)
    return found, np.unravel_index(by_position.argmax(axis=1), maps.shape[1:3])
