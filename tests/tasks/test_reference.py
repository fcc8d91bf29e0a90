"""The distance from known pictures against scikit-learn's covariance, what is told of it, and JSON there and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from keras_realmnet.tasks.outputs import Features
from keras_realmnet.tasks.reference import Distribution, Reference, directions, reference_from_dict
from tests.tasks.made_up import TASK

DIM, KEPT = 12, 3


def features(number: int, seed: int = 0) -> np.ndarray:
    """(number, DIM): float32, of which a few directions vary most; their mean is not 0."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(number, 4)) @ np.random.default_rng(99).normal(size=(4, DIM))
    return (3 + mixed + 0.3 * rng.normal(size=(number, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> tuple[Reference, PCA]:
    fit = PCA(KEPT, svd_solver="full").fit(directions(features(400)))
    reference = Reference(
        output="features",
        pictures="400 made up",
        mean=fit.mean_.astype(np.float32),
        components=fit.components_.astype(np.float16),
        variances=fit.explained_variance_.astype(np.float32),
        noise=float(fit.noise_variance_),
        threshold=1.5,
        false_alarm_rate=0.05,
        distances=(0.5, 0.9, 1.4),
        measures={"brightness": Distribution.of(np.arange(100.0))},
        outcomes={"refer": 20, "negative": 80},
    )
    return reference, fit


def test_the_distance_is_that_of_the_covariance_of_few_components(fitted):
    reference, fit = fitted
    others = features(20, seed=1)
    off = directions(others) - fit.mean_
    squared = np.einsum("ni,ij,nj->n", off, fit.get_precision(), off)
    assert np.allclose(reference.distance(others), np.sqrt(squared / DIM), rtol=2e-3)
    assert reference.distance(others[0]) == pytest.approx(reference.distance(others)[0])
    assert 0.8 < reference.distance(features(400)).mean() < 1.2


def test_the_length_of_the_features_does_not_matter_their_direction_does(fitted):
    reference, _ = fitted
    known = features(5)
    assert np.allclose(reference.distance(known), reference.distance(7 * known), rtol=1e-5)
    assert (reference.distance(-known) > reference.distance(known)).all()
    assert np.allclose((directions(known) ** 2).sum(-1), 1)
    assert not directions(np.zeros(DIM)).any()


def test_what_is_told_of_a_distance(fitted):
    reference = replace(fitted[0], refuse_above=4.0)
    assert reference.note(1.5) is None
    assert reference.note(2.0) == (
        "unlike the reference pictures of this model: feature distance 2.00, 95% of pictures like them stay within 1.50"
    )
    assert (reference.refuses(4.0), reference.refuses(4.01), fitted[0].refuses(1e9)) == (False, True, False)


def test_a_task_keeps_its_reference_in_json(fitted):
    task = replace(TASK, reference=fitted[0])
    again = type(task).from_dict(json.loads(json.dumps(task.to_dict())))
    assert again.reference == fitted[0]
    assert np.array_equal(again.reference.components, fitted[0].components)
    assert type(task).from_dict(replace(task, reference=None).to_dict()).reference is None


def test_a_reference_needs_its_features(fitted):
    without = {name: output for name, output in TASK.outputs.items() if not isinstance(output, Features)}
    with pytest.raises(ValueError, match="a reference needs an output of features"):
        replace(TASK, outputs=without, reference=fitted[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean": "no base64!"}, "mean of a reference"),
        ({"mean": ""}, "rows of 0 numbers"),
        ({"components": "AAAA"}, "components of a reference"),
        ({"components": "AAA"}, "components of a reference: no numbers"),
        ({"variances": ""}, "expected. Received"),
        ({"noise": 0.0}, "above 0"),
        ({"noise": "1"}, "noise must be a number"),
        ({"threshold": -1.0}, "a threshold above 0"),
        ({"false_alarm_rate": 1.0}, "a threshold above 0"),
        ({"refuse_above": 1.0}, "refuse_above must not be below 1.5"),
        ({"distances": [2.0, 1.0]}, "ascend"),
        ({"distances": 3}, "a reference"),
        ({"measures": {"brightness": {"edges": [2, 1], "shares": [0.5, 0.25, 0.25], "number": 4}}}, "ascend"),
        ({"measures": {"brightness": {"edges": [1], "shares": [0.5, 0.6], "number": 4}}}, "1 in all"),
        ({"colour": 1}, "no field 'colour'"),
    ],
)
def test_what_is_no_reference_is_refused(fitted, change, reason):
    with pytest.raises(ValueError, match=reason):
        reference_from_dict({**fitted[0].to_dict(), **change})


def test_another_number_of_features_is_refused(fitted):
    with pytest.raises(ValueError, match="12 features expected"):
        fitted[0].distance(np.zeros(DIM - 1))


def test_bins_hold_equally_many_and_count_as_numpy_does():
    values = np.random.default_rng(0).normal(size=1000)
    usual = Distribution.of(values)
    assert usual.shares == pytest.approx([0.1] * 10)
    others = np.random.default_rng(1).normal(1, 2, size=500)
    expected, _ = np.histogram(others, [-np.inf, *usual.edges, np.inf])
    assert usual.counts(others).tolist() == expected.tolist()
    repeated = Distribution.of(np.repeat([0.0, 1.0], [90, 10]))
    assert len(repeated.shares) == len(repeated.edges) + 1 < 10
    assert repeated.counts(np.zeros(3)).sum() == 3
