"""Do two networks, scored on the same images, differ? Three answers, of which the first is only the published one.

- `bootstrap_t_test`: two-sided t-test on the bootstrap distributions, as RealMNet published it. Replicates of one test
  set are not independent samples: their number is chosen freely, and with it the p-value.
- `paired_difference`: paired bootstrap over patients; every score, and right about images of one patient being alike.
- `delong_test`: DeLong's test for two correlated AUROCs; exact about ties, but takes images as independent.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap, MakeScorer, interval, replicates_of, values_of
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import LabelScorer, resample

__all__ = [
    "DeLong",
    "Difference",
    "bootstrap_p_value",
    "bootstrap_t_test",
    "delong_covariance",
    "delong_test",
    "paired",
    "paired_difference",
    "t_tests",
]


@dataclass(frozen=True)
class Difference:
    """Score of B minus score of A, with its 95 % interval and two-sided p; `None` where it does not exist."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class DeLong:
    """AUROCs of A and B, B − A with its standard error and 95 % interval, and the two-sided p."""

    a: float | None
    b: float | None
    difference: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None


# ------------------------------------------------------------------------------------------------------------ bootstrap


def bootstrap_p_value(differences: Array) -> float:
    """Two-sided p of "no difference": twice the share of replicates on the rarer side of 0, each side plus one.

    min(1, 2·(1 + min(#{d ≤ 0}, #{d ≥ 0})) / (1 + R)). For d = −1, 1, 2, 3: 2·(1 + 1)/5 = .8. With 1,000 replicates
    no p is below .002: 1/1001 on each side (Davison & Hinkley 1997, section 4.2).
    """
    rarer = min(int(np.sum(differences <= 0)), int(np.sum(differences >= 0)))
    return min(1.0, 2 * (1 + rarer) / (1 + len(differences)))


def paired_difference(a: Cases, b: Cases, replicates: int = 1000, seed: int = 0) -> dict[str, Difference]:
    """B − A of every score, with intervals and p from resampling whole patients, the same ones for both.

    Args:
        a, b: the same cases in the same order, scored by two networks.

    Raises:
        ValueError: `a` and `b` are not the same cases, or only one has a screening rule.
    """
    _check_same(a, b)
    return paired(partial(LabelScorer, a), partial(LabelScorer, b), a.patients, replicates, seed)


def paired(
    a: MakeScorer, b: MakeScorer, patients: Array, replicates: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """As `paired_difference`, of scores of any kind. `patients`: of each case, (n,), for both the same."""
    values_a, values_b = (values_of(make, len(patients)) for make in (a, b))
    drawn_a, drawn_b = (replicates_of(make, patients, Bootstrap("patient", replicates, seed)) for make in (a, b))
    differences = {}
    for name, x in values_a.items():
        y = values_b[name]
        drawn = drawn_b[name] - drawn_a[name] if replicates else np.empty(0)
        found = interval(y - x, drawn, "patient")
        p = bootstrap_p_value(drawn[~np.isnan(drawn)]) if found.replicates else None
        differences[name] = Difference(_number(x), _number(y), found.value, found.low, found.high, p)
    return differences


def bootstrap_t_test(a: Array, b: Array) -> float:
    """Two-sided p of Student's t-test on the bootstrap replicates of one score for two networks, each (replicates,).

    NaN replicates are left out. Where neither set varies it is 1 for the same number and 0 for two.
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if max(np.ptp(a), np.ptp(b)) < 1e-12:
        return float(abs(a.mean() - b.mean()) < 1e-12)
    # From the moments, as `ttest_ind` warns where one of the two hardly varies.
    moments = [value for x in (a, b) for value in (x.mean(), x.std(ddof=1), len(x))]
    return float(stats.ttest_ind_from_stats(*moments).pvalue)


def t_tests(a: Cases, b: Cases, replicates: int = 1000, seed: int = 0) -> dict[str, float | None]:
    """Per score the published test: 1,000 images a replicate, drawn for each network on its own.

    None where a score does not exist. Raises ValueError as `paired_difference` does.
    """
    _check_same(a, b)
    drawn_a = resample(a, Bootstrap("paper", replicates, seed))
    drawn_b = resample(b, Bootstrap("paper", replicates, seed + 1))
    exists = {name: min(np.sum(~np.isnan(drawn[name])) for drawn in (drawn_a, drawn_b)) > 1 for name in drawn_a}
    return {name: bootstrap_t_test(drawn_a[name], drawn_b[name]) if exists[name] else None for name in drawn_a}


# --------------------------------------------------------------------------------------------------------------- DeLong


def delong_covariance(y_true: Array, y_scores: Array) -> tuple[Array, Array]:
    """AUROCs of several scores of the same images and the covariance of their estimates.

    By midranks (Sun & Xu, IEEE Signal Processing Letters 2014), O(n log n); ties count half (DeLong et al., Biometrics
    1988).

    Args:
        y_true: of shape (n,); 1 or 0, at least two of each.
        y_scores: of shape (models, n).

    Returns:
        AUROCs of shape (models,), covariance of shape (models, models).

    Raises:
        ValueError: fewer than two positives or two negatives: the variance cannot be estimated.
    """
    positive = np.asarray(y_true) == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        raise ValueError(f"DeLong's test needs two positives and two negatives. Received: {m} and {n}")
    ranks = stats.rankdata(y_scores, axis=1)  # midranks among all images
    v10 = (ranks[:, positive] - stats.rankdata(y_scores[:, positive], axis=1)) / n  # (models, m), placements
    v01 = 1 - (ranks[:, ~positive] - stats.rankdata(y_scores[:, ~positive], axis=1)) / m  # (models, n)
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def delong_test(y_true: Array, a: Array, b: Array) -> DeLong:
    """DeLong's test of AUROC(B) = AUROC(A) on the same images; all of shape (n,), NaN in `y_true` left out.

    For positives scored .8, .6, .35 and negatives .7, .4, .2 by A, and .9, .8, .7 and .6, .3, .1 by B, the AUROCs are
    6/9 and 1 and the standard error of their difference is √(2/27) = .2722: z = 1.2247, p = .2207. With fewer than
    two positives or negatives everything is None; where the standard error is 0 but the difference is not, p is.
    """
    known = ~np.isnan(y_true)
    y_true, scores = y_true[known], np.stack([a[known], b[known]]).astype(np.float64)
    if min(np.sum(y_true == 1), np.sum(y_true == 0)) < 2:
        return DeLong(None, None, None, None, None, None, None)
    values, covariance = delong_covariance(y_true, scores)
    difference = float(values[1] - values[0])
    error = float(np.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    if error > 1e-12:  # below it, rounding of what is 0
        p: float | None = float(2 * stats.norm.sf(abs(difference) / error))
    else:
        p = 1.0 if abs(difference) < 1e-12 else None
    width = float(stats.norm.ppf(0.975)) * error
    a_value, b_value = values.tolist()
    return DeLong(a_value, b_value, difference, error, difference - width, difference + width, p)


def _check_same(a: Cases, b: Cases) -> None:
    same = np.array_equal(a.y_true, b.y_true, equal_nan=True) and np.array_equal(a.patients, b.patients)
    if not same or (a.refers is None) != (b.refers is None):
        raise ValueError("`a` and `b` must be the same cases in the same order, both with a screening rule or without")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
