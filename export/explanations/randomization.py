"""Do class maps come from what was learned? The test of Adebayo et al. (NeurIPS 2018, arXiv 1810.03292).

The weights of the Keras network are put in disorder from the head down to the first layer, and its maps compared with
those of the trained network. A map that stays as it was shows the picture, or the network's form, and not what it
learned. Disorder: the entries of each weight change places, so that their distribution, and with it the size of what
flows through the network, stays (Adebayo et al. draw them anew).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from export.explanations.explained import Answer, Found, keras_answer
from export.explanations.means import means
from export.explanations.pointing import points_at, widened
from keras_realmnet.tasks.task import Task
from training.scoring.statistics.bootstrap import Interval

__all__ = ["OTHER", "STAGES", "Similarity", "randomization", "rank_correlation", "structural_similarity"]

STAGES = ("trained", "head", "top quarter", "top half", "top three quarters", "all layers")
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the layers that have weights, from the top
OTHER = "another picture's"


@dataclass(frozen=True)
class Similarity:
    """Maps of a network, compared with those of the trained one on the same pictures; means, 95 % intervals by patient.

    `spearman`: rank correlation of cells. `ssim`: structural similarity of the maps, each divided by its maximum and
    enlarged to the square. `hits`: share that points at the lesion. Of `OTHER`, the trained network's map of the same
    label on another picture: how alike maps are that share nothing but the label.
    """

    maps: int
    layers: int
    spearman: Interval
    ssim: Interval
    hits: Interval


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's, of the cells of two maps (h', w'); 0 where one is the same everywhere."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def structural_similarity(a: NDArray[np.floating], b: NDArray[np.floating], size: int = 224) -> float:
    """SSIM (Wang et al. 2004) of two maps (h', w'), each divided by its maximum and enlarged to size × size."""
    import tensorflow as tf

    laid = [
        cv2.resize(np.asarray(each / max(float(each.max()), 1e-12), np.float32), (size, size))[None, ..., None]
        for each in (a, b)
    ]
    return float(tf.image.ssim(*map(tf.constant, laid), max_val=1.0)[0])


def randomization(model: keras.Model, task: Task, found: Sequence[Found], replicates: int) -> dict[str, Similarity]:
    """By stage of `STAGES`, and `OTHER`. The weights of `model` are in disorder afterwards.

    Args:
        found: labels that are found, with their pictures; those on which the comparison is made.
    """
    answer = keras_answer(model, task)
    column = [task.label_set.codes.index(each.code) for each in found]
    trained = _maps(answer, found, column)
    result = {}
    for stage, layers in _in_disorder(model):
        maps = trained if stage == STAGES[0] else _maps(answer, found, column)
        result[stage] = _similarity(trained, maps, found, layers, replicates)
    # The next of the same label, of another patient.
    pairs = []
    for i, each in enumerate(found):
        later = [*range(i + 1, len(found)), *range(i)]
        others = (j for j in later if found[j].code == each.code and found[j].picture.patient != each.picture.patient)
        pairs.append(next(others, None))
    kept = [i for i, j in enumerate(pairs) if j is not None]
    if kept:
        maps = [trained[j] for j in pairs if j is not None]
        result[OTHER] = _similarity([trained[i] for i in kept], maps, [found[i] for i in kept], 0, replicates)
    return result


def _maps(answer: Answer, found: Sequence[Found], columns: Sequence[int]) -> list[NDArray[np.float32]]:
    maps = answer(np.stack([each.picture.square for each in found]))[1]
    return [maps[i, ..., k] for i, k in enumerate(columns)]


def _similarity(
    trained: Sequence[NDArray[np.float32]],
    maps: Sequence[NDArray[np.float32]],
    found: Sequence[Found],
    layers: int,
    replicates: int,
) -> Similarity:
    values = []
    for before, after, each in zip(trained, maps, found, strict=True):
        target = widened(each.lesion, each.picture.geometry, max(after.shape))
        hit = float(points_at(after, each.picture.geometry, target))
        values.append((rank_correlation(before, after), structural_similarity(before, after), hit))
    measured = means(np.array(values), [each.picture.patient for each in found], replicates)
    return Similarity(len(found), layers, *measured)


def _in_disorder(model: keras.Model) -> Iterator[tuple[str, int]]:
    """Puts more and more layers in disorder, from the head down: stage, and how many layers it is."""
    layers = list(_layers(model))[::-1]
    stops = (0, 1, *(max(1, round(share * len(layers))) for share in SHARES))
    rng, done = np.random.default_rng(0), 0
    for stage, stop in zip(STAGES, stops, strict=True):
        for layer in layers[done:stop]:
            layer.set_weights([rng.permuted(weight.ravel()).reshape(weight.shape) for weight in layer.get_weights()])
        done = max(done, stop)
        yield stage, done


def _layers(model: Any) -> Iterator[keras.Layer]:
    """The layers with weights, in the order of the graph, those of models inside of it one by one."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        elif layer.weights:
            yield layer
