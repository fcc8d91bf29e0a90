"""What a clinic asks of a screener: sensitivity, specificity, decision rate, retake rate, and why there is no decision.

Pictures flow as STARD draws it: all, of them the ungradable, of the answered true and false positives and negatives
where the truth is known. What is uncertain is acted on as a referral and counts as one, but as no decision. No Keras:
what was said of each picture comes from a run (`run_pictures`) or from records of the box (`box_records`).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from keras_realmnet.screening.causes import UNDECIDED, UNGRADABLE, cause
from keras_realmnet.screening.decision import eye_summary
from keras_realmnet.screening.quality import margin
from keras_realmnet.tasks.rules import OUTCOMES, Outcome
from training.scoring.statistics.arrays import Array, ratio
from training.scoring.statistics.bootstrap import Bootstrap, MakeScorer, Scorer, with_intervals

__all__ = ["FIGURES", "MIN_SUBGROUP", "Judged", "Proportion", "clinic_figures", "margin_of"]

MIN_SUBGROUP = 20  # pictures: a smaller subgroup is named, not scored
EXACT = "Clopper–Pearson, 95 %"
FIGURES = {  # name: what it is, in words
    "sensitivity": "referred or uncertain, of the answered that are to be referred",
    "specificity": "negative, of the answered that are not to be referred",
    "decision_rate": "answered and not uncertain, of all",
    "retake_rate": "to be taken again since they show too little, of all",
    "sensitivity_to_screen": "referred, uncertain or ungradable, of all that are to be referred",
    "specificity_to_screen": "negative, of all that are not to be referred",
}


@dataclass(frozen=True)
class Judged:
    """What was said of one picture, and what is true of it.

    patient: whose it is. eye: "OD", "OS" or None. referable: whether it is to be referred; None where that is not
    known. source: where it is from, for subgroups. margin: see `quality.margin`; None where it was not measured.
    missing, bundle_name: see `decision.GradedImage`.
    """

    name: str
    patient: str
    eye: str | None
    outcome: Outcome
    reasons: tuple[str, ...]
    referable: bool | None
    source: str | None
    margin: float | None = None
    missing: bool = False
    bundle_name: str = ""


@dataclass(frozen=True)
class Proportion:
    """`events` of `of`, and the bounds of its 95 % interval; None where there is nothing to divide by."""

    events: int
    of: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        return self.events / self.of if self.of else None

    def __str__(self) -> str:
        """`0.963 (0.908 to 0.990; 103 of 107)`."""
        if self.value is None:
            return "not defined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}; {self.events} of {self.of})"


@dataclass(frozen=True)
class _Cases:
    """Pictures, eyes or patients: outcome, whether it is to be referred (1, 0, NaN unknown) and patient, (n,) each."""

    outcomes: NDArray[np.str_]
    referable: NDArray[np.float64]
    patients: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def answered(self) -> NDArray[np.bool_]:
        return ~np.isin(self.outcomes, UNGRADABLE)

    @property
    def decided(self) -> NDArray[np.bool_]:
        return ~np.isin(self.outcomes, UNDECIDED)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Answered by a rule that refers."""
        return self.answered & (self.outcomes != "described")

    @property
    def referred(self) -> NDArray[np.bool_]:
        """In what follows from it."""
        return self.judged & (self.outcomes != "negative")


def clinic_figures(pictures: Sequence[Judged], bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """The figures of pictures, of eyes and of patients; JSON-safe, with nothing about a single patient.

    An eye is all pictures of it, with the outcome that `decision.eye_summary` gives them; pictures whose eye is unknown
    are left out of the eyes. A patient has the worst outcome of the eyes that were photographed. Both are to be
    referred where one of their pictures is, and are not where none is.

    Intervals are Clopper–Pearson's where each patient has one case, else percentiles over resampled patients; where all
    resamples agree (none or all of the cases) they are Clopper–Pearson's of the patients.

    Returns:
        "pictures", "patients"; "picture", "eye", "patient": each "cases", "patients", "interval", "flow" ({name:
        count}) and "figures" ({name of FIGURES: "value", "low", "high", "events", "of"}); "causes": {cause: {outcome:
        pictures}} of the ungradable pictures, the most frequent first; "subgroups": {"source", "eye", "quality":
        {"groups": {name: as "picture"}, "left_out": {name: pictures} of those below MIN_SUBGROUP}}.

    Raises ValueError where there is no picture.
    """
    if not pictures:
        raise ValueError("the figures need pictures. Received: none")
    bootstrap = bootstrap or Bootstrap()
    return {
        "pictures": len(pictures),
        "patients": len({each.patient for each in pictures}),
        "picture": _level(_of_pictures(pictures), bootstrap),
        "eye": _level(_of_groups(pictures, _eye), bootstrap),
        "patient": _level(_of_groups(pictures, lambda each: each.patient), bootstrap),
        "causes": _causes(pictures),
        "subgroups": {
            "source": _subgroups(pictures, lambda each: each.source or "not known", bootstrap),
            "eye": _subgroups(pictures, lambda each: each.eye or "not known", bootstrap),
            "quality": _subgroups(pictures, _by_margin(pictures), bootstrap),
        },
    }


def _of_pictures(pictures: Iterable[Judged]) -> _Cases:
    known = [(each.outcome, _number(each.referable), each.patient) for each in pictures]
    outcomes, referable, patients = zip(*known, strict=True) if known else ((), (), ())
    return _Cases(np.array(outcomes, np.str_), np.array(referable, np.float64), np.array(patients, np.str_))


def _of_groups(pictures: Iterable[Judged], of: Callable[[Judged], Any]) -> _Cases:
    """A case for each group of pictures; `of` gives a picture's, None where it has none."""
    groups: dict[Any, list[Judged]] = defaultdict(list)
    for each in pictures:
        if of(each) is not None:
            groups[of(each)].append(each)
    cases = []
    for members in groups.values():
        eyes: dict[str | None, list[Judged]] = defaultdict(list)
        for each in members:
            eyes[each.eye].append(each)
        outcome = min((eye_summary(shown).outcome for shown in eyes.values()), key=OUTCOMES.index)
        truths = {each.referable for each in members}
        truth = True if True in truths else None if None in truths else False
        cases.append(Judged("", members[0].patient, None, outcome, (), truth, None))
    return _of_pictures(cases)


def _eye(picture: Judged) -> tuple[str, str] | None:
    return None if picture.eye is None else (picture.patient, picture.eye)


def _number(truth: bool | None) -> float:
    return np.nan if truth is None else float(truth)


def _level(cases: _Cases, bootstrap: Bootstrap) -> dict[str, Any]:
    repeated = len(np.unique(cases.patients)) < len(cases)
    resampled = f"95 % percentile, {bootstrap.replicates} resamples by patient"
    counted = _counted(cases)
    intervals = with_intervals(_scorer(counted), cases.patients, bootstrap) if repeated else {}
    figures = {}
    for name, (events, of) in counted.items():
        found = intervals.get(name)
        if found is not None and found.low is not None and found.high is not None and found.low < found.high:
            proportion = Proportion(int(events.sum()), int(of.sum()), found.low, found.high)
        else:
            proportion = _exact(events, of, cases.patients if repeated else np.arange(len(cases)))
        figures[name] = {"value": proportion.value, **asdict(proportion)}
    return {
        "cases": len(cases),
        "patients": len(np.unique(cases.patients)),
        "interval": resampled if repeated else EXACT,
        "flow": _flow(cases),
        "figures": figures,
    }


def _counted(cases: _Cases) -> dict[str, tuple[Array, Array]]:
    """{figure: which cases are its events, and of which, bool (n,) each}."""
    answered, judged, referred = cases.answered, cases.judged, cases.referred
    sick, well, everybody = cases.referable == 1, cases.referable == 0, np.ones(len(cases), bool)
    to_judge = judged | ~answered  # without those of which a rule decides nothing
    return {
        "sensitivity": (sick & referred, sick & judged),
        "specificity": (well & judged & ~referred, well & judged),
        "decision_rate": (cases.decided, everybody),
        "retake_rate": (cases.outcomes == UNGRADABLE[0], everybody),
        "sensitivity_to_screen": (sick & (referred | ~answered), sick & to_judge),
        "specificity_to_screen": (well & judged & ~referred, well & to_judge),
    }


def _scorer(counted: Mapping[str, tuple[Array, Array]]) -> MakeScorer:
    def make(units: Array) -> Scorer:
        def sums(values: Array) -> Array:
            return np.bincount(units, values, int(units.max(initial=-1)) + 1)

        by_unit = {name: (sums(events), sums(of)) for name, (events, of) in counted.items()}
        return lambda weights: {name: ratio(events @ weights, of @ weights) for name, (events, of) in by_unit.items()}

    return make


def _exact(events: Array, of: Array, units: Array) -> Proportion:
    """Clopper–Pearson's interval; of cases that all agree in a figure it counts each unit once."""
    number, total = int(events.sum()), int(of.sum())
    if not total:
        return Proportion(number, total, None, None)
    trials = len(np.unique(units[of]))
    successes = number if trials == total else round(number / total * trials)
    found = binomtest(successes, trials).proportion_ci(method="exact")
    return Proportion(number, total, float(found.low), float(found.high))


def _flow(cases: _Cases) -> dict[str, int]:
    """How many cases there are on each way from all of them to true and false positives and negatives."""
    answered, judged, referred = cases.answered, cases.judged, cases.referred
    sick, well = cases.referable == 1, cases.referable == 0
    counts = Counter(cases.outcomes.tolist())
    parts = {
        "ungradable": ~answered,
        "answered": answered,
        "decided": cases.decided,
        "true positive": sick & referred,
        "false positive": well & referred,
        "false negative": sick & judged & ~referred,
        "true negative": well & judged & ~referred,
        "truth unknown": judged & np.isnan(cases.referable),
        "ungradable to refer": ~answered & sick,
    }
    outcomes = {str(outcome): counts[outcome] for outcome in OUTCOMES}
    return {"all": len(cases), **outcomes, **{name: int(np.sum(part)) for name, part in parts.items()}}


def _causes(pictures: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """A picture with several reasons counts once for each cause."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for each in pictures:
        if each.outcome in UNGRADABLE:
            for one in dict.fromkeys(map(cause, each.reasons)):
                found[one][each.outcome] += 1
    ordered = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    return {name: dict(sorted(counts.items())) for name, counts in ordered}


def margin_of(measures: Mapping[str, float], modality: str | None) -> float | None:
    """`quality.margin`; None where a record of an earlier release has other measures."""
    try:
        return None if modality is None else margin(measures, modality)
    except KeyError:
        return None


def _by_margin(pictures: Iterable[Judged]) -> Callable[[Judged], str]:
    """Which half of the gradable pictures one is in, by how far it is from the limits of the gate; the ungradable are a
    group of their own."""
    margins = [each.margin for each in pictures if each.outcome not in UNGRADABLE and each.margin is not None]
    middle = float(np.median(margins)) if margins else np.nan

    def half(picture: Judged) -> str:
        if picture.outcome in UNGRADABLE:
            return "ungradable"
        if picture.margin is None:
            return "not known"
        return f"gradable by {'at least' if picture.margin >= middle else 'less than'} {middle:.0%} of a limit"

    return half


def _subgroups(pictures: Iterable[Judged], of: Callable[[Judged], str], bootstrap: Bootstrap) -> dict[str, Any]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for each in pictures:
        groups[of(each)].append(each)
    ordered = sorted(groups.items())
    return {
        "groups": {
            name: _level(_of_pictures(members), bootstrap) for name, members in ordered if len(members) >= MIN_SUBGROUP
        },
        "left_out": {name: len(members) for name, members in ordered if len(members) < MIN_SUBGROUP},
    }
