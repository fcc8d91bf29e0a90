"""Multi-label scores as scikit-learn defines them, for a thousand bootstrap replicates at once.

A replicate only changes how often each image counts. So everything is prepared once: what is linear in those counts
(numbers of hits, losses of single images) becomes one matrix product for many replicates, and the curves behind AUROC
and average precision become running sums over images that are sorted once.

Truth may be unknown (NaN): scores of single labels use the images whose label is known, scores of whole images
(coverage, ranking loss, exact match) those whose labels all are. A score that does not exist, such as the AUROC of a
label without a positive image, is None, never 0; means over labels leave that label out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LabelSet

__all__ = [
    "HEADLINE",
    "LOSSES",
    "UNITS",
    "Bootstrap",
    "Cases",
    "Interval",
    "as_json",
    "auroc",
    "average_precision",
    "draws",
    "interval",
    "pathologic",
    "resample",
    "score",
    "score_cases",
    "thinned",
    "undefined",
    "weighted_scores",
]

Array = NDArray[Any]

# RealMNet: labels are predicted at a sigmoid of .5; besides at .6, .7 and .8, and the two with the highest scores.
RULES: dict[str, float | None] = {"": 0.5, "@0.6": 0.6, "@0.7": 0.7, "@0.8": 0.8, "@top2": None}
HEADLINE = (
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "micro_f1",
    "map",
    "macro_auroc",
    "micro_auroc",
    "hamming_loss",
    "coverage_error",
    "ranking_loss",
    "brier",
    "exact_match",
    "pathologic_auroc",
    "sensitivity",
    "specificity",
)
LOSSES = ("hamming_loss", "coverage_error", "ranking_loss", "brier")  # lower is better; elsewhere higher is
UNITS = ("patient", "image", "paper")
PAPER_SIZE = 1000  # RealMNet: images in each of its bootstrap samples
TINY = np.finfo(np.float64).tiny
BLOCK = 32  # replicates at a time: their running sums stay in the processor's cache


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % bootstrap interval.

    `replicates` is how many resamples had a score at all; `mean` and `sd` are over those.
    """

    value: float | None
    low: float | None
    high: float | None
    replicates: int
    mean: float | None = None
    sd: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        return f"{self.value:.4f}" + (f" ({self.low:.4f} to {self.high:.4f})" if self.low is not None else "")


@dataclass(frozen=True)
class Bootstrap:
    """How replicates are drawn and what interval they give.

    `unit`: "patient" resamples whole patients with replacement (images of one patient are alike; resampling them one by
    one makes intervals too narrow), "image" as many images (eyes, where eyes are scored) as there are, both with 95 %
    percentile intervals; "paper" resamples 1,000 images and gives mean ± 1.96 SD, as RealMNet's text does (the ± of its
    tables is SD/√1000, in points).
    """

    unit: str = "patient"
    replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}. Received: {self.unit!r}")
        if self.replicates < 0:
            raise ValueError(f"replicates must not be negative. Received: {self.replicates}")

    def describe(self) -> dict[str, Any]:
        kind = f"mean ± 1.96 SD of {PAPER_SIZE} images" if self.unit == "paper" else "95 % percentile"
        return {"replicates": self.replicates, "unit": self.unit, "interval": kind, "seed": self.seed}


@dataclass(frozen=True)
class Cases:
    """What is scored, n images, eyes or patients.

    `y_true`: (n, classes), 1, 0 or NaN where not known. `y_score`: (n, classes), 0 to 1. `patients`: (n,) str.
    `pathologic_true` and `pathologic_score`, (n,): of "any pathologic label". `refers`: (n,) bool, whether the
    screening rule refers; `None` without a rule.
    """

    y_true: Array
    y_score: Array
    label_set: LabelSet
    patients: Array
    pathologic_true: Array
    pathologic_score: Array
    refers: Array | None

    def __len__(self) -> int:
        return len(self.y_true)

    @classmethod
    def of_images(
        cls,
        y_true: Array,
        y_score: Array,
        label_set: LabelSet,
        point: OperatingPoint | None = None,
        patients: Sequence[str] | Array | None = None,
    ) -> "Cases":
        """Images one by one; each is its own patient where `patients` is `None`."""
        y_true, y_score = np.asarray(y_true, np.float64), np.asarray(y_score)
        return cls(
            y_true=y_true,
            y_score=y_score,
            label_set=label_set,
            patients=np.asarray(patients if patients is not None else np.arange(len(y_true)), np.str_),
            pathologic_true=pathologic(y_true, label_set),
            pathologic_score=pathologic(y_score, label_set),
            refers=None if point is None else point.refers(y_score, label_set),
        )

    def take(self, rows: Array) -> "Cases":
        """The cases at these indices (or where a mask is true)."""
        arrays = ("y_true", "y_score", "patients", "pathologic_true", "pathologic_score", "refers")
        taken = {name: values[rows] for name in arrays if (values := getattr(self, name)) is not None}
        return Cases(label_set=self.label_set, **{"refers": None, **taken})

    def grouped(self, keys: Sequence[str] | Array) -> "Cases":
        """One case per distinct key: eyes or patients from their images.

        A label is true if it is true in an image and no image has a worse one of its exclusive group (an eye with A1
        in one image and A3 in another is A3; groups are listed from mildest to worst). Scores follow the same rule,
        "and" being the minimum, "or" the maximum, "not" 1 − score: the largest over the images of the label's score,
        each limited to 1 − the largest score of a worse grade in *another* image. Scores of a single image stay as they
        are, the worst grade's is the plain maximum, and a network that is right about every image is right about every
        eye. With A1 .9, A3 .1 in one image and A1 .2, A3 .8 in another, A3 gets .8 and A1 max(min(.9, 1 − .8),
        min(.2, 1 − .1)) = .2. Pathologic: the largest over the images; refers: any image refers.

        Args:
            keys: of shape (n,), e.g. the patient, or patient and eye, of each case.
        """
        _, first, group = np.unique(np.asarray(keys, np.str_), return_index=True, return_inverse=True)
        largest = partial(_group_max, group=group, count=len(first))
        true = [_any_true(self.y_true[:, k], largest) for k in range(len(self.label_set))]
        y_true, y_score = np.empty((len(first), len(true))), np.empty((len(first), len(true)), self.y_score.dtype)
        for k, worse in enumerate(_worse(self.label_set)):
            scores = self.y_score[:, k]
            y_true[:, k] = true[k]
            for other in worse:
                y_true[:, k] = _and_not(y_true[:, k], true[other])
            if worse:
                scores = np.minimum(scores, 1 - _group_max_of_others(self.y_score[:, worse].max(axis=1), group))
            y_score[:, k] = largest(scores)
        return Cases(
            y_true=y_true,
            y_score=y_score,
            label_set=self.label_set,
            patients=self.patients[first],
            pathologic_true=_any_true(self.pathologic_true, largest),
            pathologic_score=largest(self.pathologic_score),
            refers=None if self.refers is None else largest(self.refers.astype(np.float64)) == 1,
        )


def pathologic(values: Array, label_set: LabelSet) -> Array:
    """Truth or score of "any pathologic label", of shape (n,): the largest over the pathologic columns.

    In a truth, one known positive makes it 1; otherwise an unknown column (NaN) leaves it unknown.
    """
    columns = values[:, label_set.pathologic_columns]
    largest = np.max(np.where(np.isnan(columns), -np.inf, columns), axis=1)
    return np.where(np.isnan(columns).any(axis=1) & (largest < 1), np.nan, largest)


def _worse(label_set: LabelSet) -> list[list[int]]:
    """Per label, the columns of the labels after it in its exclusive group."""
    worse: list[list[int]] = [[] for _ in label_set.codes]
    for codes in label_set.exclusive:
        columns = [label_set.codes.index(code) for code in codes]
        for position, column in enumerate(columns):
            worse[column] = columns[position + 1 :]
    return worse


def _group_max(values: Array, group: Array, count: int) -> Array:
    largest = np.full(count, -np.inf)
    np.maximum.at(largest, group, values)
    return largest


def _group_max_of_others(values: Array, group: Array) -> Array:
    """For each row the largest value among the other rows of its group, of shape (n,); −∞ where it is alone."""
    count = int(group.max(initial=-1)) + 1
    order = np.lexsort((-values, group))
    first = order[np.searchsorted(group[order], np.arange(count))]  # the row with each group's largest value
    others = _group_max(values, group, count)[group]
    rest = values.astype(np.float64)
    rest[first] = -np.inf
    others[first] = _group_max(rest, group, count)
    return others


def _any_true(values: Array, largest: Callable[[Array], Array]) -> Array:
    """Per group: 1 with a known positive, else NaN with an unknown, else 0."""
    found, unknown = largest((values == 1).astype(np.float64)), largest(np.isnan(values).astype(np.float64))
    return np.where(found == 1, 1.0, np.where(unknown == 1, np.nan, 0.0))


def _and_not(left: Array, right: Array) -> Array:
    """left ∧ ¬right where both may be unknown (NaN)."""
    unknown = np.isnan(left) | np.isnan(right)
    return np.where((left == 0) | (right == 1), 0.0, np.where(unknown, np.nan, 1.0))


# ------------------------------------------------------------------------------------------------- AUROC and precision


class _Ranking:
    """AUROC and average precision of one column of scores, for many weightings at once.

    Only the distinct scores that positives have matter. For each of them ("step", highest first; G in all) sparse
    matrices of shape (G, units) hold how many rows of each unit are positives there, negatives tied with them, or
    anything since the step before.
    """

    def __init__(self, y_true: Array, y_score: Array, units: Array, count: int):
        known = ~np.isnan(y_true)
        y_true, y_score, units = y_true[known], y_score[known], units[known]
        order = np.argsort(-y_score, kind="stable")
        positive, score, units = y_true[order] == 1, y_score[order], units[order]
        distinct = np.cumsum(np.append(True, np.diff(score) != 0)[: len(score)]) - 1  # which distinct score
        is_step = np.bincount(distinct, positive) > 0
        step = (np.cumsum(is_step) - is_step)[distinct] if len(score) else distinct  # the next step at or below a row
        shape = (int(is_step.sum()), count)

        def counts(rows: Array) -> sparse.csr_matrix:
            return sparse.csr_matrix((np.ones(int(rows.sum())), (step[rows], units[rows])), shape)

        self.positives = counts(positive)
        self.passed = counts(step < shape[0])
        self.tied = counts(is_step[distinct] & ~positive)
        self.negatives = np.bincount(units[~positive], minlength=count).astype(np.float64)

    def __call__(self, weights: Array) -> tuple[Array, Array]:
        """AUROC and average precision, each (replicates,), for `weights` (units, replicates).

        NaN without a positive, and AUROC without a negative too.
        """
        if self.positives.shape[0] == 0:
            return (np.full(weights.shape[1], np.nan),) * 2
        positives = self.positives @ weights  # (G, replicates)
        found = np.cumsum(positives, axis=0)
        passed = np.cumsum(self.passed @ weights, axis=0)
        all_found, negatives = found[-1].copy(), self.negatives @ weights
        both = (all_found > 0) & (negatives > 0)
        below = negatives + found - passed  # negatives with a lower score
        if self.tied.nnz:
            below += (self.tied @ weights) / 2
        pairs = np.einsum("gr,gr->r", positives, below)
        np.maximum(passed, TINY, out=passed)  # nothing drawn yet: 0 of 0 adds nothing
        precision = np.divide(found, passed, out=found)
        return (
            _ratio(pairs, np.where(both, all_found * negatives, 0)),
            _ratio(np.einsum("gr,gr->r", positives, precision), all_found),
        )


def auroc(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties counting half, for many weightings of the same images at once.

    Args:
        y_true: of shape (n,); 1, 0 or NaN (left out).
        y_score: of shape (n,).
        weights: of shape (replicates, n), how often each image counts; `None` for once each.

    Returns:
        Of shape (replicates,); NaN where only one class is present. Equal to scikit-learn's `roc_auc_score` with
        `sample_weight`, without its sort for every replicate.
    """
    return _ranking(y_true, y_score, weights)[0]


def average_precision(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Σ (R_k − R_(k−1))·P_k over the thresholds; arguments and result as in `auroc`, but 1 without a negative.

    Equal to scikit-learn's `average_precision_score` with `sample_weight`.
    """
    return _ranking(y_true, y_score, weights)[1]


def _ranking(y_true: Array, y_score: Array, weights: Array | None) -> tuple[Array, Array]:
    weights = np.ones((1, len(y_true))) if weights is None else np.asarray(weights, np.float64)
    ranking = _Ranking(np.asarray(y_true, np.float64), np.asarray(y_score), np.arange(len(y_true)), len(y_true))
    return ranking(np.ascontiguousarray(weights.T))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


# ----------------------------------------------------------------------------------------------------------- all scores


def _predicted(y_score: Array, threshold: float | None) -> Array:
    """bool (n, classes): at or above the threshold, or the two highest scores (of equal ones the earlier column)."""
    if threshold is not None:
        return y_score >= threshold
    highest = np.argsort(-y_score, axis=1, kind="stable")[:, :2]
    predicted = np.zeros(y_score.shape, bool)
    np.put_along_axis(predicted, highest, True, axis=1)
    return predicted


def _rates(hit: Array, predicted: Array, true: Array) -> dict[str, Array]:
    """Precision (0 where nothing is predicted, as published), recall and F1; NaN where nothing is true."""
    return {
        "precision": _ratio(hit, np.where(true > 0, np.maximum(predicted, TINY), 0)),
        "recall": _ratio(hit, true),
        "f1": _ratio(2 * hit, np.where(true > 0, true + predicted, 0)),
    }


def _coverage(y_true: Array, y_score: Array) -> Array:
    """How many labels score at least as high as the lowest-scoring true one, (n,); 0 without a true label."""
    lowest = np.where(y_true == 1, y_score, np.inf).min(axis=1, keepdims=True)
    return (y_score >= lowest).sum(axis=1)


def _ranking_loss(y_true: Array, y_score: Array) -> Array:
    """Share of (true, false) label pairs in the wrong order, (n,); ties are wrong, 0 where there is no pair."""
    true = y_true == 1
    pairs = true[:, :, None] & ~true[:, None, :]  # (n, classes, classes)
    wrong = pairs & (y_score[:, :, None] <= y_score[:, None, :])
    return wrong.sum(axis=(1, 2)) / np.maximum(pairs.sum(axis=(1, 2)), 1)


class _Scorer:
    """All scores of the same cases for many weightings, (units, replicates) each."""

    def __init__(self, cases: Cases, units: Array):
        self.label_set, self.refers = cases.label_set, cases.refers is not None
        y_true, y_score = cases.y_true, cases.y_score
        known: Array = ~np.isnan(y_true)
        true: Array = np.asarray(y_true == 1)
        complete: Array = np.all(known, axis=1)
        columns: dict[str, Array] = {"known": known, "true": true, "complete": complete}
        for rule, threshold in RULES.items():
            predicted = _predicted(y_score, threshold)
            columns |= {f"predicted{rule}": predicted & known, f"hit{rule}": predicted & true}
        columns["wrong"] = (true != (y_score > 0.5)) & known  # above .5 here, at or above it elsewhere: RealMNet
        columns["square"] = np.where(known, (y_score.astype(np.float64) - true) ** 2, 0)
        columns["coverage"] = np.where(complete, _coverage(y_true, y_score), 0)
        columns["ranking"] = np.where(complete, _ranking_loss(y_true, y_score), 0)
        columns["exact"] = complete & np.all(true == _predicted(y_score, RULES[""]), axis=1)
        if cases.refers is not None:
            for value, right in ((1, cases.refers), (0, ~cases.refers)):
                columns[f"pathologic {value}"] = cases.pathologic_true == value
                columns[f"right {value}"] = (cases.pathologic_true == value) & right
        wide = {name: values.reshape(len(cases), -1).astype(np.float64) for name, values in columns.items()}
        ends = np.cumsum([values.shape[1] for values in wide.values()]).tolist()
        self.names = dict(zip(wide, map(slice, [0, *ends], ends), strict=False))
        count = int(units.max(initial=-1)) + 1
        members = sparse.csr_matrix((np.ones(len(units)), (units, np.arange(len(units)))), (count, len(units)))
        self.per_unit = np.ascontiguousarray((members @ np.concatenate(list(wide.values()), axis=1)).T)

        self.has_positive = np.any(true, axis=0)
        self.has_both = self.has_positive & np.any(known & ~true, axis=0)
        classes = range(len(self.label_set))
        self.rankings = [_Ranking(y_true[:, k], y_score[:, k], units, count) for k in classes]
        self.all_labels = _Ranking(y_true.ravel(), y_score.ravel(), np.repeat(units, len(classes)), count)
        self.pathologic = _Ranking(cases.pathologic_true, cases.pathologic_score, units, count)

    def __call__(self, weights: Array) -> dict[str, Array]:
        codes, sums = self.label_set.codes, self.per_unit @ weights  # (columns, replicates)
        total = {name: sums[columns] for name, columns in self.names.items()}  # each (1 or classes, replicates)
        scores: dict[str, Array] = {}

        def per_label(name: str, values: Sequence[Array], rule: str = "") -> None:
            scores.update({f"{name}_{code}{rule}": value for code, value in zip(codes, values, strict=True)})

        def mean(values: Sequence[Array], included: Array) -> Array:
            some = [value for value, include in zip(values, included, strict=True) if include]
            return np.mean(some, axis=0) if some else np.full(weights.shape[1], np.nan)

        true = total["true"]
        for rule in RULES:
            hit, predicted = total[f"hit{rule}"], total[f"predicted{rule}"]
            for name, values in _rates(hit, predicted, true).items():
                per_label(name, list(values), rule)
                scores[f"macro_{name}{rule}"] = mean(list(values), self.has_positive)
            pooled = _rates(hit.sum(axis=0), predicted.sum(axis=0), true.sum(axis=0))
            scores |= {f"micro_{name}{rule}": values for name, values in pooled.items()}

        curves = [ranking(weights) for ranking in self.rankings]
        means = (("auroc", "macro_auroc", self.has_both), ("ap", "map", self.has_positive))
        for k, (name, average, included) in enumerate(means):
            per_label(name, [curve[k] for curve in curves])
            scores[average] = mean([curve[k] for curve in curves], included)
        scores["micro_auroc"] = self.all_labels(weights)[0]

        brier = _ratio(total["square"], total["known"])
        per_label("brier", list(brier))
        scores["brier"] = mean(list(brier), self.per_unit[self.names["known"]].sum(axis=1) > 0)
        scores["hamming_loss"] = _ratio(total["wrong"].sum(axis=0), total["known"].sum(axis=0))
        for name, column in (("coverage_error", "coverage"), ("ranking_loss", "ranking"), ("exact_match", "exact")):
            scores[name] = _ratio(total[column][0], total["complete"][0])
        scores["pathologic_auroc"] = self.pathologic(weights)[0]
        if self.refers:
            scores["sensitivity"] = _ratio(total["right 1"][0], total["pathologic 1"][0])
            scores["specificity"] = _ratio(total["right 0"][0], total["pathologic 0"][0])
        return dict(sorted(scores.items(), key=lambda item: _place(item[0])))


def _place(name: str) -> int:
    return HEADLINE.index(name) if name in HEADLINE else len(HEADLINE)


def weighted_scores(cases: Cases, weights: Array, units: Array | None = None) -> dict[str, Array]:
    """Every score for every weighting of the cases.

    Args:
        weights: of shape (units, replicates), how often each unit counts.
        units: int (n,), the unit each case belongs to (its patient, say); `None` where each case is one.

    Returns:
        {name: (replicates,)}, NaN where a score does not exist. `<metric>_<code>` is of one label, `macro_` the mean
        over labels (`map` that of the average precisions, `brier` that of the Brier scores), `micro_` of all labels
        pooled; the suffixes `@0.6`, `@0.7`, `@0.8`, `@top2` name the rule that predicts labels, without one `≥ 0.5`.
        Equal to scikit-learn: `precision_recall_fscore_support` (zero_division=0: a label that is never predicted has
        precision 0), `average_precision_score`, `roc_auc_score`, `hamming_loss` (> 0.5), `coverage_error` (2 is perfect
        for two true labels), `label_ranking_loss`, `brier_score_loss`, `accuracy_score` (exact match). Labels without a
        positive case have none of precision, recall, F1, AP, AUROC; without a negative one, no AUROC.
    """
    units = np.arange(len(cases)) if units is None else units
    return _Scorer(cases, units)(np.asarray(weights, np.float64))


# ------------------------------------------------------------------------------------------------------------ bootstrap


def draws(units: int, size: int, replicates: int, seed: int) -> Iterator[Array]:
    """Bootstrap weights in blocks: how often each unit is among `size` drawn with replacement.

    Yields:
        float64 of shape (units, up to `BLOCK` replicates); the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, BLOCK):
        width = min(BLOCK, replicates - start)
        drawn = rng.integers(units, size=(width, size)) * width + np.arange(width)[:, None]
        yield np.bincount(drawn.ravel(), minlength=units * width).reshape(units, width).astype(np.float64)


def resample(cases: Cases, bootstrap: Bootstrap) -> dict[str, Array]:
    """Every score in every bootstrap replicate, {name: (replicates,)}, NaN where a replicate lost it.

    The same cases and the same `bootstrap` draw the same replicates, whatever the scores: two networks can be paired.
    """
    by_patient = bootstrap.unit == "patient"
    units = np.unique(cases.patients, return_inverse=True)[1] if by_patient else np.arange(len(cases))
    count = int(units.max(initial=-1)) + 1
    size = PAPER_SIZE if bootstrap.unit == "paper" else count
    scorer = _Scorer(cases, units)
    blocks = [scorer(weights) for weights in draws(count, size, bootstrap.replicates, bootstrap.seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def interval(value: float, replicates: Array, unit: str) -> Interval:
    """A score with the interval its replicates give; those in which it does not exist (NaN) are left out."""
    drawn = replicates[~np.isnan(replicates)]
    if np.isnan(value) or len(drawn) == 0:
        return Interval(None if np.isnan(value) else float(value), None, None, len(drawn))
    mean, sd = float(drawn.mean()), float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    low, high = (mean - 1.96 * sd, mean + 1.96 * sd) if unit == "paper" else np.percentile(drawn, [2.5, 97.5]).tolist()
    return Interval(float(value), low, high, len(drawn), mean, sd)


def score_cases(cases: Cases, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Every score of `weighted_scores` with its interval; no intervals for 0 replicates. The main scores come first."""
    values = weighted_scores(cases, np.ones((len(cases), 1)))
    replicates = resample(cases, bootstrap)
    nothing = np.empty(0)
    return {
        name: interval(float(value[0]), replicates.get(name, nothing), bootstrap.unit) for name, value in values.items()
    }


def score(
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
    point: OperatingPoint | None = None,
    patients: Sequence[str] | Array | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every score of images (see `weighted_scores`), with intervals under resampling of whole patients.

    Args:
        y_true: of shape (n, classes); 1, 0 or NaN where not known.
        y_score: of shape (n, classes).
        point: for the sensitivity and specificity of its rule for "pathologic"; left out when `None`.
        patients: of each image; `None`: no intervals.
    """
    cases = Cases.of_images(y_true, y_score, label_set, point, patients)
    return score_cases(cases, Bootstrap("patient", replicates if patients is not None else 0, seed))


def undefined(cases: Cases, noun: str = "image") -> list[str]:
    """Why scores of single labels do not exist, one sentence per label: "A4: no positive image, …"."""
    notes = []
    for k, code in enumerate(cases.label_set.codes):
        if not (cases.y_true[:, k] == 1).any():
            notes.append(
                f"{code}: no positive {noun}, so it has no precision, recall, F1, AP or AUROC; means leave it out"
            )
        elif not (cases.y_true[:, k] == 0).any():
            notes.append(f"{code}: no negative {noun}, so it has no AUROC; the mean leaves it out")
    return notes


def thinned(scores: Mapping[str, Interval], replicates: int, noun: str = "image") -> list[str]:
    """Which intervals of means over labels rest on fewer than all `replicates`, one sentence for each."""
    needs = dict.fromkeys(("macro_f1", "macro_precision", "macro_recall", "map"), f"a positive {noun}")
    needs["macro_auroc"] = f"a positive and a negative {noun}"
    by_need: dict[tuple[str, int], list[str]] = {}
    for name, need in needs.items():
        found = scores.get(name)
        if found is not None and found.value is not None and found.replicates < replicates:
            by_need.setdefault((need, found.replicates), []).append(name)
    return [
        f"intervals of {', '.join(names)}: from {count:,} of {replicates:,} replicates, those in which every label has "
        f"{need}"
        for (need, count), names in by_need.items()
    ]


def as_json(scores: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """The scores as JSON has them."""
    return {name: vars(interval) for name, interval in scores.items()}
