import numpy as np
import pytest

from export.explanations.explained import SHOWN, Found
from export.explanations.pictures import Picture
from export.explanations.randomization import (
    OTHER,
    STAGES,
    randomization,
    rank_correlation,
    structural_similarity,
)
from keras_realmnet import RealMNet
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM

TASK = labels_task(PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen="by hand"))
GEOMETRY = FieldGeometry(source=(64, 64), box=(0, 0, 64, 64), size=64)


@pytest.fixture
def copied(small_model):
    """The weights are in disorder afterwards."""
    model = RealMNet.from_config(small_model.get_config())
    model.set_weights(small_model.get_weights())
    return model


def test_similarity_is_one_of_the_same_map_and_falls_with_the_order_of_cells():
    rng = np.random.default_rng(0)
    first, other = rng.random((7, 7), np.float32), rng.random((7, 7), np.float32)
    assert rank_correlation(first, 3 * first**2) == pytest.approx(1)  # ranks alone
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert abs(rank_correlation(first, other)) < 0.4
    assert rank_correlation(first, np.zeros_like(first)) == 0
    assert structural_similarity(first, 2 * first) == pytest.approx(1, abs=1e-5)
    assert structural_similarity(first, other) < 0.6
    assert np.isfinite(structural_similarity(first, np.zeros_like(first)))


def test_disorder_from_the_head_down_keeps_what_weights_there_are(copied, pictures):
    before = [weight.copy() for weight in copied.get_weights()]
    lesion = np.zeros((64, 64), bool)
    lesion[:32] = True
    found = []
    for i, square in enumerate(pictures):
        code = ("S1", "A3")[i % 2]
        picture = Picture(f"patient {i // 2}", square, GEOMETRY, np.ones((64, 64), bool), {code: lesion})
        found.append(Found(code, 0.9, picture, {SHOWN: np.ones((2, 2), np.float32)}))
    similar = randomization(copied, TASK, found, replicates=50)
    assert list(similar) == [*STAGES, OTHER]
    assert similar["trained"].ssim.value == pytest.approx(1, abs=1e-5)
    assert similar["head"].ssim.value < 0.999
    assert similar["all layers"].ssim.value < 0.999
    layers = [similar[stage].layers for stage in STAGES]
    assert layers[:2] == [0, 1]
    assert layers == sorted(layers)
    after = copied.get_weights()
    assert all((np.sort(a.ravel()) == np.sort(b.ravel())).all() for a, b in zip(after, before, strict=True))
    moved = [(a != b).any() for a, b in zip(after, before, strict=True) if np.ptp(b) > 0]
    assert np.mean(moved) > 0.95
    assert layers[-1] > 20
