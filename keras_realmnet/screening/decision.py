"""From probabilities to what a clinician acts on: refer, negative, insufficient quality, or not analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from keras_realmnet.screening.labels import LabelSet
from keras_realmnet.screening.quality import Quality

__all__ = [
    "OUTCOMES",
    "Decision",
    "Graded",
    "GradedImage",
    "OperatingPoint",
    "Outcome",
    "Summary",
    "decide",
    "eye_summary",
    "patient_summary",
]

Outcome = Literal["refer", "negative", "insufficient", "not_analysed"]

# Worst first: the order in which results are shown and patients are called back.
OUTCOMES: tuple[Outcome, ...] = ("refer", "insufficient", "not_analysed", "negative")


@dataclass(frozen=True)
class OperatingPoint:
    """Where probabilities become a decision.

    thresholds: {code: probability in [0, 1]} for every pathologic label.
    chosen: how and on which data the thresholds were chosen, for people.
    rule: "any_pathologic": refer when the probability of any pathologic label is at or above its threshold.
    """

    thresholds: dict[str, float]
    chosen: str
    rule: str = "any_pathologic"

    def __post_init__(self) -> None:
        if self.rule != "any_pathologic":
            raise ValueError(f"`rule` must be 'any_pathologic'. Received: {self.rule!r}")
        for code, threshold in self.thresholds.items():
            if not 0.0 <= threshold <= 1.0:  # also refuses NaN
                raise ValueError(f"The threshold of {code!r} must lie in [0, 1]. Received: {threshold}")

    def check(self, label_set: LabelSet) -> None:
        """Raises ValueError unless there is exactly one threshold for each pathologic label of `label_set`."""
        if set(self.thresholds) != set(label_set.pathologic):
            raise ValueError(
                f"Label set '{label_set.name}' needs thresholds for {', '.join(label_set.pathologic)}. "
                f"Received: {', '.join(self.thresholds) or 'none'}"
            )

    def triggered(self, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Which pathologic labels are at or above their thresholds.

        Args:
            probabilities: float of shape (n, classes) in [0, 1], in the order of `label_set`.

        Returns:
            bool of shape (n, pathologic labels), in the order of `label_set.pathologic`.
        """
        thresholds = np.array([self.thresholds[code] for code in label_set.pathologic])
        return np.asarray(probabilities[:, label_set.pathologic_columns] >= thresholds)

    def refers(self, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Whether the rule refers each image, bool of shape (n,); arguments as for `triggered`."""
        return np.asarray(self.triggered(probabilities, label_set).any(axis=1))

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule, "thresholds": dict(self.thresholds), "chosen": self.chosen}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> OperatingPoint:
        thresholds = {str(code): float(value) for code, value in fields["thresholds"].items()}
        return cls(thresholds=thresholds, chosen=str(fields["chosen"]), rule=str(fields["rule"]))


@dataclass(frozen=True)
class Decision:
    """The outcome for one image, why, and the codes at or above their thresholds (most exceeding first)."""

    outcome: Outcome
    reasons: tuple[str, ...]
    triggered: tuple[str, ...] = ()


def decide(
    probabilities: np.ndarray | None,
    quality: Quality,
    label_set: LabelSet,
    operating_point: OperatingPoint,
) -> Decision:
    """The decision for one image.

    An image that is not gradable keeps the verdict and reasons of `quality`; its probabilities, if there are any,
    are not looked at.

    Args:
        probabilities: float of shape (classes,) in [0, 1], in the order of `label_set`; may be None where the image
            is not gradable.

    Raises:
        ValueError: a gradable image without probabilities, or with a wrong number of them, NaN, or one outside [0, 1].
    """
    if quality.verdict != "gradable":
        return Decision(quality.verdict, tuple(quality.reasons))
    operating_point.check(label_set)
    values = np.asarray([] if probabilities is None else probabilities, np.float64)
    if values.shape != (len(label_set),):
        raise ValueError(f"`probabilities` must be of shape ({len(label_set)},). Received: {values.shape}")
    if not np.all((values >= 0.0) & (values <= 1.0)):  # NaN compares false
        raise ValueError(f"`probabilities` must lie in [0, 1]. Received: {values.tolist()}")

    p = dict(zip(label_set.codes, values.tolist(), strict=True))
    thresholds = operating_point.thresholds
    above = operating_point.triggered(values[None], label_set)[0]
    triggered = [code for code, exceeds in zip(label_set.pathologic, above, strict=True) if exceeds]
    triggered.sort(key=lambda code: thresholds[code] - p[code])
    if not triggered:
        return Decision("negative", ("No pathologic label reaches its threshold.",))
    return Decision(
        "refer",
        tuple(
            f"{label_set[code].name}: a probability of {p[code]:.2f} reaches the threshold of {thresholds[code]:.2f}."
            for code in triggered
        ),
        tuple(triggered),
    )


class GradedImage(Protocol):
    """What summaries look at, and `ScreeningRecord` has: the outcome of one image, and its eye (OD, OS or None)."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def eye(self) -> str | None: ...

    @property
    def missing(self) -> bool:
        """Whether it is one of several pictures of a file and has no result (yet): no other image stands for it."""


@dataclass(frozen=True)
class Graded:
    """A `GradedImage` and nothing else."""

    outcome: Outcome
    eye: str | None
    missing: bool = False


@dataclass(frozen=True)
class Summary:
    """One outcome for several images, and what stands in the way of (or behind) it."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()


def eye_summary(records: Sequence[GradedImage]) -> Summary:
    """Combines the images of one eye of one visit: the worst grade, on the best quality.

    - refer: at least one image refers;
    - not_analysed: a picture of a file with several has no result, be it damaged or still waiting: the others of its
      file are no retakes of it;
    - negative: no image refers and at least one gradable image is negative (a good retake settles a poor first
      image; the ungraded images are named in the reasons);
    - insufficient: no gradable image, at least one of insufficient quality;
    - not_analysed: nothing was analysed, or there is no image at all.

    Images whose eye is unknown may show different eyes, so among them one negative image does not settle another:
    the eye is then negative only if every image is.
    """
    outcomes = [record.outcome for record in records]
    unsettled = sum(outcome in ("insufficient", "not_analysed") for outcome in outcomes)
    mixed = 0 < unsettled < len(outcomes)
    ungraded = (f"{unsettled} of {len(outcomes)} images could not be analysed",) if mixed else ()
    if "refer" in outcomes:
        return Summary("refer", ungraded)
    if missing := sum(record.missing for record in records):
        return Summary("not_analysed", (f"{missing} of {len(outcomes)} images have no result, of files with several",))
    known = all(record.eye is not None for record in records)
    if "negative" in outcomes and (known or not unsettled):
        return Summary("negative", ungraded)
    if "insufficient" in outcomes:
        return Summary("insufficient", ungraded)
    return Summary("not_analysed", ungraded if outcomes else ("no image",))


def patient_summary(records: Sequence[GradedImage]) -> Summary:
    """Combines all images of one patient's visit.

    - refer: either eye refers;
    - negative: both the right and the left eye are negative, and so is every image whose eye is unknown;
    - insufficient, not_analysed: otherwise, the worse of the eyes; an eye without an image counts as not analysed.
    """
    names = {"OD": "right eye", "OS": "left eye", None: "eye unknown"}
    summaries: dict[str | None, Summary] = {}
    for eye in names:
        images = [record for record in records if record.eye == eye]
        if images or eye is not None:
            summaries[eye] = eye_summary(images)
    outcome = min((summary.outcome for summary in summaries.values()), key=OUTCOMES.index)
    reasons = [f"{names[eye]}: {reason}" for eye, summary in summaries.items() for reason in summary.reasons]
    return Summary(outcome, tuple(reasons))
