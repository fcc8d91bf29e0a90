"""Graded faults on phantoms: what passes, what is refused, by which reason, and in which order."""

import numpy as np
import pytest

from keras_realmnet.screening.quality import MODALITIES, assess, margin
from training.phantoms.degradations import DEGRADATIONS, degraded

UWF, CAMERA = MODALITIES
REASONS = {
    "blur": {"sharpness"},
    "dark": {"brightness"},
    "glare": {"overexposed"},
    "lashes": {"uncovered", "readable"},  # the less is left, the less of it can be read
    "crop": {"circle", "aspect"},
    "decentred": {"macula_distance"},
}


@pytest.mark.parametrize("kind", DEGRADATIONS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_verdicts_are_monotone_and_name_the_fault(kind: str, modality: str) -> None:
    if (kind, modality) == ("decentred", UWF):
        with pytest.raises(ValueError, match="for what is not decentred"):
            degraded(kind, 1, 1, modality)
        return
    needs = ("macula",) if kind == "decentred" else ()
    judged = [
        assess(degraded(kind, strength, 5, modality, width=512), None, modality, needs) for strength in (0, 4, 10)
    ]
    assert judged[0].verdict == "gradable"
    assert judged[-1].verdict != "gradable"
    margins = [margin(each.measures, modality) for each in judged]
    assert margins[0] >= 0 > margins[-1]
    assert [each.verdict for each in judged] == sorted((each.verdict for each in judged), key="gradable".__ne__)
    assert REASONS[kind] & {each.measure for each in judged[-1].shortfalls}
    for quality in judged:
        assert len(quality.shortfalls) == len(quality.reasons)
        for each in quality.shortfalls:
            assert each.value == quality.measures[each.measure]
            assert (each.value < each.limit) == (each.bound == "at least")


def test_a_decentred_picture_is_gradable_where_the_macula_is_not_needed() -> None:
    image = degraded("decentred", 10, 5, CAMERA, width=512)
    assert assess(image, None, CAMERA).verdict == "gradable"
    refused = assess(image, None, CAMERA, ("macula",))
    assert refused.verdict == "insufficient"
    assert refused.reasons[0].startswith("The macula is not in the field: the fovea is ")


def test_degradations_are_the_same_every_time_and_grow() -> None:
    clean = degraded("lashes", 0, 3, CAMERA, width=200).astype(int)
    changed = [np.abs(degraded("lashes", strength, 3, CAMERA, width=200) - clean).mean() for strength in (2, 6, 10)]
    assert changed == sorted(changed)
    np.testing.assert_array_equal(degraded("glare", 4, 3, UWF, width=200), degraded("glare", 4, 3, UWF, width=200))
    assert {kind: sum(each.is_lost(s) for s in range(11)) for kind, each in DEGRADATIONS.items()} == dict.fromkeys(
        DEGRADATIONS, 5
    )


@pytest.mark.parametrize(
    ("kind", "strength", "modality"), [("haze", 1, CAMERA), ("blur", 11, CAMERA), ("blur", 1, "oct")]
)
def test_other_degradations_are_refused(kind: str, strength: int, modality: str) -> None:
    with pytest.raises(ValueError, match="Received: "):
        degraded(kind, strength, 1, modality)
