"""Multi-label scores as scikit-learn defines them, for a thousand bootstrap replicates at once.

A replicate only changes how often each image counts. So everything is prepared once: what is linear in those counts
(numbers of hits, losses of single images) becomes one matrix product for many replicates, and the curves behind AUROC
and average precision become running sums over images that are sorted once.

Truth may be unknown (NaN): scores of single labels use the images whose label is known, scores of whole images
(coverage, ranking loss, exact match) those whose labels all are. A score that does not exist, such as the AUROC of a
label without a positive image, is None, never 0; means over labels leave that label out.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.statistics.arrays import TINY, Array, ratio
from training.scoring.statistics.bootstrap import Bootstrap, Interval, replicates_of, with_intervals
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.ranking import Ranking

__all__ = [
    "HEADLINE",
    "LOSSES",
    "PER_LABEL",
    "RULES",
    "LabelScorer",
    "as_json",
    "resample",
    "score",
    "score_cases",
    "thinned",
    "undefined",
    "weighted_scores",
]

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
PER_LABEL = ("f1", "ap", "auroc")  # of each label, the ones that are shown


# ---------------------------------------------------------------------------------------------------------- all scores


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
        "precision": ratio(hit, np.where(true > 0, np.maximum(predicted, TINY), 0)),
        "recall": ratio(hit, true),
        "f1": ratio(2 * hit, np.where(true > 0, true + predicted, 0)),
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


class LabelScorer:
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
        self.rankings = [Ranking(y_true[:, k], y_score[:, k], units, count) for k in classes]
        self.all_labels = Ranking(y_true.ravel(), y_score.ravel(), np.repeat(units, len(classes)), count)
        self.pathologic = Ranking(cases.pathologic_true, cases.pathologic_score, units, count)

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

        brier = ratio(total["square"], total["known"])
        per_label("brier", list(brier))
        scores["brier"] = mean(list(brier), self.per_unit[self.names["known"]].sum(axis=1) > 0)
        scores["hamming_loss"] = ratio(total["wrong"].sum(axis=0), total["known"].sum(axis=0))
        for name, column in (("coverage_error", "coverage"), ("ranking_loss", "ranking"), ("exact_match", "exact")):
            scores[name] = ratio(total[column][0], total["complete"][0])
        scores["pathologic_auroc"] = self.pathologic(weights)[0]
        if self.refers:
            scores["sensitivity"] = ratio(total["right 1"][0], total["pathologic 1"][0])
            scores["specificity"] = ratio(total["right 0"][0], total["pathologic 0"][0])
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
    return LabelScorer(cases, units)(np.asarray(weights, np.float64))


# ------------------------------------------------------------------------------------------------------ with intervals


def resample(cases: Cases, bootstrap: Bootstrap) -> dict[str, Array]:
    """Every score in every bootstrap replicate, {name: (replicates,)}, NaN where a replicate lost it.

    The same cases and the same `bootstrap` draw the same replicates, whatever the scores: two networks can be paired.
    """
    return replicates_of(partial(LabelScorer, cases), cases.patients, bootstrap)


def score_cases(cases: Cases, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Every score of `weighted_scores` with its interval; no intervals for 0 replicates. The main scores come first."""
    return with_intervals(partial(LabelScorer, cases), cases.patients, bootstrap)


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
