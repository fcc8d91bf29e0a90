"""How much faster the vectorized bootstrap is than a loop over scikit-learn, and that both agree.

    python -m training.benchmarks.scores

Synthetic truth and scores of the size of PSMM's test set (6,574 images of 684 patients, 7 labels at PSMM's
frequencies), every score of `training.scoring.statistics.scores`, resampled by image. scikit-learn is looped over the
first few of the same replicates and extrapolated linearly.
"""

import time
import warnings
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn import metrics

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import PSMM
from training.scoring.statistics.bootstrap import Bootstrap, draws
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import RULES, resample

__all__ = ["measure", "psmm_like", "scikit_learn_scores"]

IMAGES, PATIENTS = 6574, 684
FREQUENCIES = {"S": (4522, 2052), "A": (294, 4887, 885, 412, 96)}  # images per label of PSMM's test.csv


def psmm_like(images: int = IMAGES, patients: int = PATIENTS, seed: int = 0) -> Cases:
    """Random truth at PSMM's label frequencies, with float32 scores that know some of it and are sometimes tied."""
    rng = np.random.default_rng(seed)
    y_true = np.zeros((images, len(PSMM)))
    for first, counts in ((0, FREQUENCIES["S"]), (2, FREQUENCIES["A"])):
        share = np.array(counts) / sum(counts)
        y_true[np.arange(images), first + rng.choice(len(counts), size=images, p=share)] = 1
    logits = 3 * y_true - 2 + rng.normal(0, 1.2, y_true.shape)
    y_score = (1 / (1 + np.exp(-logits))).round(4).astype(np.float32)
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand")
    return Cases.of_images(y_true, y_score, PSMM, point, rng.integers(patients, size=images).astype(np.str_))


def scikit_learn_scores(cases: Cases) -> dict[str, float]:
    """Every score of ours by scikit-learn's own functions; complete truth with both classes per label."""
    y_true, y_score, codes = cases.y_true.astype(int), cases.y_score, cases.label_set.codes
    scores: dict[str, float] = {}

    def per_label(name: str, values: NDArray[np.floating], mean: str, rule: str = "") -> None:
        scores.update({f"{name}_{code}{rule}": value for code, value in zip(codes, values, strict=True)})
        scores[f"{mean}{rule}"] = float(np.mean(values))

    with warnings.catch_warnings():  # precision of a label that is never predicted
        warnings.simplefilter("ignore")
        for rule, threshold in RULES.items():
            if threshold is None:
                y_pred = np.zeros_like(y_true)
                np.put_along_axis(y_pred, np.argsort(-y_score, axis=1, kind="stable")[:, :2], 1, axis=1)
            else:
                y_pred = (y_score >= threshold).astype(int)
            names = ("precision", "recall", "f1")
            classwise = metrics.precision_recall_fscore_support(y_true, y_pred, average=None, zero_division=0)
            pooled = metrics.precision_recall_fscore_support(y_true, y_pred, average="micro", zero_division=0)
            for name, values, value in zip(names, classwise, pooled, strict=False):
                per_label(name, values, f"macro_{name}", rule)
                scores[f"micro_{name}{rule}"] = value
    per_label("auroc", metrics.roc_auc_score(y_true, y_score, average=None), "macro_auroc")
    per_label("ap", metrics.average_precision_score(y_true, y_score, average=None), "map")
    brier = [metrics.brier_score_loss(y_true[:, k], y_score[:, k].astype(float)) for k in range(len(codes))]
    per_label("brier", np.array(brier), "brier")
    scores["micro_auroc"] = metrics.roc_auc_score(y_true, y_score, average="micro")
    scores["hamming_loss"] = metrics.hamming_loss(y_true, y_score > 0.5)
    scores["coverage_error"] = metrics.coverage_error(y_true, y_score)
    scores["ranking_loss"] = metrics.label_ranking_loss(y_true, y_score)
    scores["exact_match"] = metrics.accuracy_score(y_true, y_score >= 0.5)
    truth = cases.pathologic_true.astype(int)
    scores["pathologic_auroc"] = metrics.roc_auc_score(truth, cases.pathologic_score)
    if cases.refers is not None:
        for name, label in (("sensitivity", 1), ("specificity", 0)):
            scores[name] = metrics.recall_score(truth, cases.refers.astype(int), pos_label=label)
    return scores


def measure(cases: Cases, replicates: int, looped: int) -> dict[str, float]:
    """Seconds of both ways on the same replicates, and their largest difference over scores and replicates."""
    bootstrap = Bootstrap("image", replicates)
    start = time.perf_counter()
    ours = resample(cases, bootstrap)
    vectorized = time.perf_counter() - start

    weights = next(draws(len(cases), len(cases), replicates, bootstrap.seed))[:, :looped]
    start = time.perf_counter()
    reference = [scikit_learn_scores(cases.take(np.repeat(np.arange(len(cases)), w.astype(int)))) for w in weights.T]
    loop = time.perf_counter() - start
    start = time.perf_counter()
    resample(cases, Bootstrap("patient", replicates))
    by_patient = time.perf_counter() - start
    return {
        "scores": len(ours),
        "vectorized": vectorized,
        "vectorized_by_patient": by_patient,
        "looped": weights.shape[1],
        "loop": loop,
        "loop_extrapolated": loop / weights.shape[1] * replicates,
        "largest_difference": max(_difference(row, ours, k) for k, row in enumerate(reference)),
    }


def _difference(reference: Mapping[str, float], ours: Mapping[str, NDArray[np.floating]], k: int) -> float:
    if reference.keys() != ours.keys():
        raise ValueError(f"scores of one side only: {sorted(reference.keys() ^ ours.keys())}")
    return max(abs(value - ours[name][k]) for name, value in reference.items())


def main(
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")] = 1000,
    looped: Annotated[int, typer.Option(min=1, max=32, help="Replicates that scikit-learn is looped over.")] = 20,
) -> None:
    """Time both and print them with their ratio; exit status 1 where they differ by more than 1e-9."""
    cases = psmm_like()
    found = measure(cases, replicates, looped)
    print(f"{found['scores']} scores of {len(cases)} x {len(cases.label_set)}, {replicates} replicates, one process")
    print(f"vectorized, by image:    {found['vectorized']:9.2f} s")
    print(f"vectorized, by patient:  {found['vectorized_by_patient']:9.2f} s")
    print(f"scikit-learn, {found['looped']:4} measured: {found['loop']:9.2f} s")
    print(f"scikit-learn, {replicates:4} by extrapolation: {found['loop_extrapolated']:.2f} s")
    print(f"ratio, by image: {found['loop_extrapolated'] / found['vectorized']:.0f}")
    print(f"largest difference of a replicate's score: {found['largest_difference']:.1e}")
    if not found["largest_difference"] < 1e-9:
        raise SystemExit("the two differ by more than 1e-9")


if __name__ == "__main__":
    typer.run(main)
