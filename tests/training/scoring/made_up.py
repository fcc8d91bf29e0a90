"""Truth and scores made up for the tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_realmnet.tasks.task import PROBABILITIES
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet
from training.scoring.statistics.scores import score

TIED = st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.7, 0.8, 1.0])
RANDOM = st.floats(0, 1, width=32)


@st.composite
def multilabel(draw):
    """(y_true, y_score): any truth, also columns and rows with one value, and scores with or without ties."""
    n = draw(st.integers(1, 25))
    y_true = draw(hnp.arrays(np.float64, (n, 7), elements=st.sampled_from([0.0, 1.0])))
    elements = draw(st.sampled_from([TIED, RANDOM]))
    return y_true, draw(hnp.arrays(np.float64, (n, 7), elements=elements))


def values_of(*args):
    return {name: found.value for name, found in score(*args).items()}


def image_set(labels, table):
    """Images without pixels, which scoring does not look at."""
    return ImageSet(
        pixels=np.zeros((len(table), 0, 0, 3), np.uint8),
        truth={PROBABILITIES: labels.astype(np.float32)},
        names=tuple(table.names.tolist()),
        patients=tuple(table.patients.tolist()),
        task=PhantomDataSet().task,
        sha256="",
    )
