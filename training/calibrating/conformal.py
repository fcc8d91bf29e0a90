"""Limits of `keras_realmnet.tasks.fitted.doubts`: coverage of sets in finite samples, control of what is missed.

What is exchangeable are patients, not images: those of one patient are alike.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk, shares
from keras_realmnet.tasks.outputs import Grades, Labels
from training.calibrating.operating import patient_scores
from training.scoring.statistics.arrays import Array

__all__ = ["covered", "fit_label_sets", "fit_missed_risk", "referral_score", "referral_truth", "share_limit"]

CANDIDATES = 200  # thresholds that are tried


def share_limit(share: Array, patients: Sequence[str] | Array, coverage: float) -> float:
    """The limit that the share of the true label reaches with at least that probability, for an image of a new patient.

    Of K patients each counts 1 / (K + 1), shared by his images, and the new one the rest, at worst: the limit is the
    largest below which at most 1 − coverage lies. With one image a patient that is the ⌈(K + 1)·coverage⌉-th largest
    share, as in any split conformal method (Lee, Barber and Willett, arXiv 2306.06342).

    Args:
        share: of the true label, (n,). patients: (n,).

    Returns:
        0, which every label reaches, where the patients are too few.
    """
    _, group, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weight = 1 / ((len(counts) + 1) * counts[group])
    order = np.argsort(-share, kind="stable")
    reached = np.cumsum(weight[order]) >= coverage - 1e-9
    return float(share[order][np.argmax(reached)]) if reached.any() else 0.0


def fit_label_sets(
    name: str,
    groups: Sequence[tuple[str, ...]],
    output: Labels | Grades,
    probability: Array,
    truth: Array,
    patients: Sequence[str] | Array,
    coverage: float,
    on: str,
) -> LabelSets:
    """The limits of groups of labels of which one holds.

    Args:
        name: of the output. probability: calibrated, (n, labels); truth: (n, labels); patients: (n,). on: what the
            images are, for people.
    """
    limits = []
    for group in groups:
        share, known = _true_share(output, group, probability, truth)
        limits.append(share_limit(share[known], np.asarray(patients)[known], coverage))
    chosen = f"sets of labels with a coverage of {coverage:g} for an image of a new patient, on {on}"
    return LabelSets(name, chosen, tuple(map(tuple, groups)), tuple(limits), coverage)


def covered(
    sets: LabelSets, group: int, output: Labels | Grades, probability: Array, truth: Array
) -> tuple[Array, Array]:
    """Whether the set of a group holds the true label, (n,), and of which images that is known."""
    share, known = _true_share(output, sets.groups[group], probability, truth)
    return share >= sets.limits[group], known


def _true_share(output: Labels | Grades, group: Sequence[str], probability: Array, truth: Array) -> tuple[Array, Array]:
    """The share of the true label of a group, (n,), and for which images exactly one is known to hold."""
    columns = [output.labels.codes.index(code) for code in group]
    of_group = truth[:, columns]
    known = ~np.isnan(of_group).any(axis=1) & (np.nansum(of_group, axis=1) == 1)
    true = np.where(known, np.nan_to_num(of_group).argmax(axis=1), 0)
    return shares(probability[:, columns])[np.arange(len(truth)), true], known


def referral_score(output: Labels | Grades, probability: Array, referred: Sequence[str]) -> Array:
    """What `MissedRisk` compares with its limit, (n,): the most probable label, or all grades that are referred."""
    values = probability[:, [output.labels.codes.index(code) for code in referred]]
    return values.sum(axis=1) if isinstance(output, Grades) else values.max(axis=1)


def referral_truth(output: Labels | Grades, truth: Array, referred: Sequence[str]) -> Array:
    """Whether something that is referred holds, (n,): 1, 0, or NaN where that is not known."""
    values = truth[:, [output.labels.codes.index(code) for code in referred]]
    unknown = np.isnan(values).any(axis=1)
    found = (values == 1).any(axis=1)
    return np.where(found, 1.0, np.where(unknown, np.nan, 0.0))


def fit_missed_risk(
    name: str,
    output: Labels | Grades,
    probability: Array,
    truth: Array,
    patients: Sequence[str] | Array,
    referred: Sequence[str],
    risk: float,
    confidence: float,
    on: str,
) -> MissedRisk:
    """The limit below which a picture may be negative: the largest for which, with the stated confidence, at most
    `risk` of the patients with something to refer have no picture of it at or above it.

    By MAPIE's control of the recall of a binary decision, a patient being one case, by learn-then-test in a fixed
    sequence from the lowest threshold on (Angelopoulos et al., arXiv 2110.01052).

    Args:
        as `fit_label_sets`; referred: the codes that the rule refers.

    Raises:
        DataSetError: too few patients with something to refer.
        RealMNetError: MAPIE is not installed.
    """
    try:
        from mapie.risk_control import BinaryClassificationController
    except ImportError as error:
        raise RealMNetError("control of what is missed needs the package mapie (requirements.txt)") from error
    positive = referral_truth(output, truth, referred)
    score = patient_scores(positive, referral_score(output, probability, referred), patients)
    levels = np.unique(np.concatenate([[0.0], score]))
    candidates = (levels[1:] + levels[:-1]) / 2  # between two scores no other machine's last digit counts
    controller = BinaryClassificationController(
        predict_function=lambda scores: np.concatenate([1 - scores, scores], axis=1),
        risk="recall",
        target_level=1 - risk,
        confidence_level=confidence,
        list_predict_params=candidates[:CANDIDATES],
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MAPIE warns where no threshold will do, which is an error here
        controller.calibrate(score[:, None], np.ones(len(score), int))
    valid = np.asarray(controller.valid_predict_params)
    if not len(valid):
        raise DataSetError(
            f"missing at most {risk:g} with a confidence of {confidence:g} needs more patients with something to "
            f"refer. Received: {len(score)}"
        )
    chosen = (
        f"at most {risk:g} of the patients with {', '.join(referred)} are missed, with a confidence of {confidence:g} "
        f"(MAPIE), on {len(score)} such patients of {on}"
    )
    return MissedRisk(name, chosen, float(valid.max()), risk, confidence)
