"""What a calibrated task says of images with truth: reliability before and after, decisions of patients, coverage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.fitted.doubts import LabelSets
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.rules import OUTCOMES, Outcome, Verdict
from keras_realmnet.tasks.task import Task
from training.calibrating.conformal import (
    covered,
    fit_label_sets,
    fit_missed_risk,
    referral_score,
    referral_truth,
)
from training.calibrating.curves import AS_IT_IS, fit_calibration
from training.calibrating.fitting import Settings, Validation, classified, half
from training.calibrating.operating import exact_interval, patient_scores
from training.calibrating.reliability import reliability
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap

__all__ = ["coverage_of_splits", "decisions", "in_words", "measure", "splits_in_words", "verdicts"]

SQUARE = 8  # px: labels and grades have no place, so that any picture will do


def measure(task: Task, images: Validation, replicates: int = 1000) -> dict[str, Any]:
    """Of each output its reliability without and with calibration; of the whole the decisions, unless they look at
    masks, points or measures, too; JSON-safe."""
    bootstrap = Bootstrap("patient", replicates)
    outputs: dict[str, Any] = {}
    for name, output in classified(task).items():
        raw, truth = images.predicted[name], images.truth[name]
        known = (truth, output.labels.codes, images.patients, bootstrap)
        outputs[name] = {"before": reliability(raw, *known)}
        if name in task.fitted.calibration:
            outputs[name]["after"] = reliability(task.calibrated(name, raw), *known)
        for doubt in task.fitted.doubts:
            if isinstance(doubt, LabelSets) and doubt.output == name:
                outputs[name]["coverage"] = {
                    " ".join(group): _coverage(doubt, k, task, images) for k, group in enumerate(doubt.groups)
                }
    result: dict[str, Any] = {"images": len(images.patients), "patients": len(set(images.patients)), "outputs": outputs}
    decides = task.refers and set(task.trained) == set(classified(task)) and not task.measures
    return result | ({"decisions": decisions(task, images)} if decides else {})


def verdicts(task: Task, predicted: Mapping[str, Array]) -> Iterator[Verdict]:
    """What the task decides of each image, of a network's answer {output: (n, labels)}; of labels and grades alone."""
    others = sorted(set(task.trained) - set(classified(task)))
    if others or task.measures:
        raise DataSetError(f"decisions of labels and grades alone expected. Received: also {', '.join(others)}")
    geometry = FieldGeometry((SQUARE, SQUARE), (0, 0, SQUARE, SQUARE), SQUARE)
    blank = np.zeros((SQUARE, SQUARE, 3), np.uint8)
    for k in range(len(next(iter(predicted.values())))):
        said = {name: values[k] for name, values in predicted.items()}  # no maps, no features, which decide nothing
        yield task.verdict(task.findings(said, geometry, blank))


def decisions(task: Task, images: Validation) -> dict[str, Any]:
    """Of patients with and without something to refer, how many are referred, uncertain and negative, with exact
    intervals: a patient has the worst outcome of the images."""
    outcomes: list[Outcome] = [verdict.outcome for verdict in verdicts(task, images.predicted)]
    rank = np.array([OUTCOMES.index(outcome) for outcome in outcomes])
    true = np.full(len(rank), np.nan)
    for name, output in classified(task).items():
        referred = task.rule.referred(name, output.labels)
        if referred:
            true = np.fmax(true, referral_truth(output, images.truth[name], referred))
    names, group = np.unique(images.patients, return_inverse=True)
    worst, positive = np.full(len(names), len(OUTCOMES)), np.full(len(names), np.nan)
    np.minimum.at(worst, group, rank)
    np.fmax.at(positive, group, true)
    found: dict[str, Any] = {}
    for what, chosen in (("with", positive == 1), ("without", positive == 0)):
        count = int(chosen.sum())
        found[f"patients {what}"] = {"patients": count} | {
            outcome: _share(int((worst[chosen] == OUTCOMES.index(outcome)).sum()), count)
            for outcome in ("refer", "uncertain", "negative")
        }
    found["images"] = {outcome: outcomes.count(outcome) for outcome in OUTCOMES if outcome in outcomes}
    return found


def coverage_of_splits(
    task: Task,
    images: Validation,
    splits: int,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
) -> dict[str, Any]:
    """How often what is promised holds, over random splits of the patients into three thirds.

    On the first the curves are fitted, of the kind that the task has; on the second the limits; on the third it is
    counted: which share of the images of a patient has its true label in the set, and which share of the patients with
    something to refer has no image at or above the limit of what is missed.

    Returns:
        JSON-safe: of each group of labels the mean coverage over the splits with its standard error, which is at least
        `settings.coverage` up to chance; "missed": the mean share, and in which share of the splits it was above
        `settings.risk`, which is at most 1 − confidence up to the chance of the third part.
    """
    of_groups: dict[str, list[float]] = {}
    missed: list[tuple[int, int]] = []
    for seed in range(splits):
        part = half(images.patients, seed, parts=3)
        curves, bounds, left = (images.take(part == k) for k in range(3))
        for name, output in classified(task).items():
            referred = task.rule.referred(name, output.labels)
            if not referred:
                continue
            fitted = task
            if name in task.fitted.calibration:
                kinds = [curve.kind for curve in task.fitted.calibration[name].curves.values() if curve != AS_IT_IS]
                calibration = fit_calibration(output, kinds[0], curves.predicted[name], curves.truth[name])
                fitted = replace(task, fitted=Fitted({name: calibration}))
            probability, unseen = (fitted.calibrated(name, each.predicted[name]) for each in (bounds, left))
            known = (output, probability, bounds.truth[name], bounds.patients)
            for doubt in task.fitted.doubts:
                if isinstance(doubt, LabelSets) and doubt.output == name:
                    sets = fit_label_sets(name, doubt.groups, *known, settings.coverage, "a part")
                    for k, group in enumerate(sets.groups):
                        inside, there = covered(sets, k, output, unseen, left.truth[name])
                        share = _mean_of_patients(inside[there], left.patients[there])
                        of_groups.setdefault(f"{name}: {', '.join(group)}", []).append(share)
            limit = fit_missed_risk(name, *known, referred, settings.risk, settings.confidence, "a part").limit
            positive = referral_truth(output, left.truth[name], referred)
            scores = patient_scores(positive, referral_score(output, unseen, referred), left.patients)
            missed.append((int((scores < limit).sum()), len(scores)))
    shares = np.array([count / patients for count, patients in missed])
    return {
        "splits": splits,
        "coverage": {
            name: {
                "asked": settings.coverage,
                "mean": float(np.mean(values)),
                "standard error": float(np.std(values, ddof=1) / np.sqrt(len(values))),
                "lowest": float(np.min(values)),
            }
            for name, values in of_groups.items()
        },
        "missed": {
            "allowed": settings.risk,
            "mean": float(shares.mean()),
            "splits above": float((shares > settings.risk).mean()),
            "allowed splits": round(1 - settings.confidence, 6),
        },
    }


def _coverage(sets: LabelSets, group: int, task: Task, images: Validation) -> dict[str, Any]:
    output = classified(task)[sets.output]
    probability = task.calibrated(sets.output, images.predicted[sets.output])
    inside, known = covered(sets, group, output, probability, images.truth[sets.output])
    columns = [output.labels.codes.index(code) for code in sets.groups[group]]
    size = sets.members(probability[:, columns], group).sum(axis=1)
    return {
        "asked": sets.coverage,
        "of patients images": _mean_of_patients(inside[known], images.patients[known]),
        "labels in a set": {str(n): int((size == n).sum()) for n in sorted(set(size.tolist()))},
    }


def _mean_of_patients(values: Array, patients: Array) -> float:
    _, group, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return float((np.bincount(group, values) / counts).mean())


def _share(count: int, cases: int) -> dict[str, Any]:
    if not cases:
        return {"count": 0, "share": None, "low": None, "high": None}
    low, high = exact_interval(count, cases)
    return {"count": count, "share": count / cases, "low": low, "high": high}


def in_words(measured: Mapping[str, Any], parts: Sequence[str] = ("ece", "brier")) -> Iterator[str]:
    """Lines for people: reliability before and after, coverage, decisions."""
    yield f"{measured['images']} images of {measured['patients']} patients"
    for name, output in measured["outputs"].items():
        for when in ("before", "after"):
            scores = output.get(when)
            if scores is not None:
                said = ", ".join(f"{part} {_interval(scores[part])}" for part in parts)
                yield f"  {name}, {when} calibration: {said}"
        for group, of_group in output.get("coverage", {}).items():
            yield (
                f"  {name}: the sets of {group} hold the true label in {of_group['of patients images']:.3f}, "
                f"asked {of_group['asked']:g}; labels in a set: {of_group['labels in a set']}"
            )
    for what, of_patients in measured.get("decisions", {}).items():
        if what != "images":
            said = ", ".join(
                f"{outcome} {each['count']} ({each['share']:.3f}, {each['low']:.3f}–{each['high']:.3f})"
                for outcome, each in of_patients.items()
                if outcome != "patients" and each["share"] is not None
            )
            yield f"  {of_patients['patients']} {what} something to refer: {said}"


def splits_in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines for people about what `coverage_of_splits` gives; none of nothing."""
    for name, group in found.get("coverage", {}).items():
        yield (
            f"{found['splits']} random splits: {name}: coverage {group['mean']:.4f} ± {group['standard error']:.4f} "
            f"(asked {group['asked']:g}, lowest {group['lowest']:.3f})"
        )
    if found:
        missed = found["missed"]
        yield (
            f"{found['splits']} random splits: missed {missed['mean']:.4f} of the patients with something to refer "
            f"(allowed {missed['allowed']:g}), more in {missed['splits above']:.3f} of the splits"
        )


def _interval(score: Mapping[str, Any]) -> str:
    low, high = score["low"], score["high"]
    return f"{score['value']:.4f}" + ("" if low is None else f" ({low:.4f}–{high:.4f})")
