"""From what a network says to what a clinician acts on, for a picture, an eye and a patient: see `OUTCOMES`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.quality import Quality, Shortfall, fovea_away
from keras_realmnet.tasks.findings import Finding, PointFinding
from keras_realmnet.tasks.rules import OUTCOMES, Outcome
from keras_realmnet.tasks.task import FOVEA_CODE, Task

__all__ = ["Analysis", "Decision", "Graded", "GradedImage", "Summary", "decide", "eye_summary", "patient_summary"]


@dataclass(frozen=True)
class Decision:
    """The outcome for one image, why, and on which findings; see `rules.Verdict`. evidence: only with a class map.

    shortfalls: of a picture's quality, see `Quality`.
    distance: from the pictures that the network knows; None where the task has no `reference`.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    triggered: tuple[str, ...] = ()
    evidence: str | None = None
    score: float | None = None
    findings: tuple[Finding, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    distance: float | None = None


@dataclass(frozen=True)
class Analysis:
    """What reached the network, and what it said.

    predicted: {output: array of the image, without batch axis}. image: the model's square, uint8 (size, size, 3).
    geometry: where that lies on the picture.
    """

    predicted: Mapping[str, NDArray[Any]]
    image: NDArray[np.uint8]
    geometry: FieldGeometry


def decide(analysis: Analysis | None, quality: Quality, task: Task) -> Decision:
    """The decision for one image.

    An image that is not gradable keeps the verdict and reasons of `quality`; what a network says of it, if anything,
    is not looked at. Where a task needs the macula and its network answers where the fovea is, a picture whose fovea
    it finds too far from the middle of the field, or not at all, is insufficient, and no finding is told. What the
    task's reference refuses, as too far from what the network knows, is not analysed.

    Raises:
        ValueError: a gradable image without an analysis, or with one that is none of the task: a wrong shape, NaN, a
            probability outside of [0, 1].
    """
    if quality.verdict != "gradable":
        return Decision(quality.verdict, tuple(quality.reasons), shortfalls=quality.shortfalls)
    if analysis is None:
        raise ValueError("a gradable image needs what the network says of it. Received: None")
    task.check({name: np.asarray(values)[None] for name, values in analysis.predicted.items()})
    distance = None
    if task.reference is not None:
        distance = float(task.reference.distance(analysis.predicted[task.reference.output]))
        if task.reference.refuses(distance):
            return Decision("not_analysed", (f"{task.reference.note(distance)}.",), distance=distance)
    findings = task.findings(analysis.predicted, analysis.geometry, analysis.image)
    if "macula" in task.needs and task.locates_fovea:
        away = fovea_away(_fovea(findings), analysis.geometry.box)
        if away is not None:
            shortfalls = () if away.shortfall is None else (away.shortfall,)
            return Decision("insufficient", (away.text,), shortfalls=shortfalls, distance=distance)
    verdict = task.verdict(findings)
    explained = {each.code for each in findings if task.maps_of(each.output) is not None}
    evidence = verdict.evidence if verdict.evidence in explained else None
    return Decision(
        verdict.outcome, verdict.reasons, verdict.triggered, evidence, verdict.score, findings, distance=distance
    )


def _fovea(findings: Sequence[Finding]) -> tuple[float, float] | None:
    """Where the network finds the fovea, (x, y) in pixels of the picture; None where it does not."""
    points = (each for each in findings if isinstance(each, PointFinding) and each.code == FOVEA_CODE)
    return next(((each.x, each.y) for each in points if each.x is not None and each.y is not None), None)


class GradedImage(Protocol):
    """What summaries look at, and `ScreeningRecord` has: the outcome of one image, and its eye (OD, OS or None)."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def eye(self) -> str | None: ...

    @property
    def missing(self) -> bool:
        """Whether its result is missing, so that no other image stands for it: it is one of several pictures of a file
        and has none (yet), its bundle is out of order, or another bundle has not seen it yet."""

    @property
    def bundle_name(self) -> str:
        """Of the bundle whose outcome it is: an image has one of each that screens its kind of picture."""


@dataclass(frozen=True)
class Graded:
    """A `GradedImage` and nothing else."""

    outcome: Outcome
    eye: str | None
    missing: bool = False
    bundle_name: str = ""


@dataclass(frozen=True)
class Summary:
    """One outcome for several images, and what stands in the way of (or behind) it.

    `missing`: it is not_analysed since a result is missing that would be there if all had worked, or is still to come.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    missing: bool = False

    @property
    def shown(self) -> str:
        """The outcome, or "missing", which people see in its place."""
        return "missing" if self.missing else self.outcome


def eye_summary(records: Sequence[GradedImage]) -> Summary:
    """Combines the images of one eye of one visit: of each bundle, the worst grade on the best quality; then the worst.

    - refer: at least one image refers;
    - uncertain: no image refers, at least one is uncertain: a person must look, whatever the others show;
    - not_analysed, with `missing`: the result of an image is missing (see `GradedImage.missing`), be it damaged or
      still waiting: the others are no retakes of it;
    - negative (described, of a bundle that decides on nothing): no image refers or is uncertain and at least one
      gradable image is negative (a good retake settles a poor first image; the ungraded images are named in the
      reasons);
    - insufficient: no gradable image, at least one of insufficient quality;
    - not_analysed: nothing was analysed, or there is no image at all.

    No bundle's outcome settles another's: an eye is negative only where no bundle that saw it is worse, and described
    only where none decides.

    Images whose eye is unknown may show different eyes, so among them one negative image does not settle another:
    the eye is then negative only if every image is.
    """
    bundles = dict.fromkeys(record.bundle_name for record in records)
    if len(bundles) < 2:
        return _of_one_bundle(records)
    summaries = {name: _of_one_bundle([each for each in records if each.bundle_name == name]) for name in bundles}
    outcome = min((summary.outcome for summary in summaries.values()), key=OUTCOMES.index)
    reasons = [f"{name}: {reason}" for name, summary in summaries.items() for reason in summary.reasons]
    return Summary(outcome, tuple(reasons), any(each.missing for each in summaries.values() if each.outcome == outcome))


def _of_one_bundle(records: Sequence[GradedImage]) -> Summary:
    outcomes = [record.outcome for record in records]
    unsettled = sum(outcome in ("insufficient", "not_analysed") for outcome in outcomes)
    mixed = 0 < unsettled < len(outcomes)
    ungraded = (f"{unsettled} of {len(outcomes)} images could not be analysed",) if mixed else ()
    acted_on: tuple[Outcome, ...] = ("refer", "uncertain")
    for outcome in acted_on:
        if outcome in outcomes:
            return Summary(outcome, ungraded)
    if missing := sum(record.missing for record in records):
        return Summary("not_analysed", (f"the result of {missing} of {len(outcomes)} images is missing",), True)
    known = all(record.eye is not None for record in records)
    settled: tuple[Outcome, ...] = ("negative", "described")
    for outcome in settled:
        if outcome in outcomes and (known or not unsettled):
            return Summary(outcome, ungraded)
    if "insufficient" in outcomes:
        return Summary("insufficient", ungraded)
    return Summary("not_analysed", ungraded if outcomes else ("no image",))


def patient_summary(records: Sequence[GradedImage]) -> Summary:
    """Combines all images of one patient's visit.

    - refer: either eye refers;
    - uncertain: none refers, either eye is uncertain;
    - negative: both the right and the left eye are negative, and so is every image whose eye is unknown;
    - described: both are negative or described, and at least one was not decided on;
    - insufficient, not_analysed: otherwise, the worse of the eyes; an eye without an image counts as not analysed.
    """
    names = {"OD": "right eye", "OS": "left eye", None: "eye unknown"}
    summaries: dict[str | None, Summary] = {}
    for eye in names:
        images = [record for record in records if record.eye == eye]
        if images or eye is not None:
            summaries[eye] = eye_summary(images)
    worst_first = ("refer", "uncertain", "insufficient", "not_analysed", "described", "negative")
    outcome = min((summary.outcome for summary in summaries.values()), key=worst_first.index)
    reasons = [f"{names[eye]}: {reason}" for eye, summary in summaries.items() for reason in summary.reasons]
    missing = any(summary.missing for summary in summaries.values() if summary.outcome == outcome)
    return Summary(outcome, tuple(reasons), missing)
