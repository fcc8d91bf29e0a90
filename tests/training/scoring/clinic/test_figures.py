"""The four figures against numbers worked by hand, and their intervals against references."""

import json

import numpy as np
import pytest
from scipy.stats import beta

from tests.training.scoring.clinic.made_up import cohort, judged
from training.scoring.clinic.figures import EXACT, FIGURES, MIN_SUBGROUP, Proportion, clinic_figures
from training.scoring.clinic.printing import figure_rows, print_clinic, subgroup_rows
from training.scoring.statistics.bootstrap import Bootstrap

WORKED = {"rp": 18, "np": 2, "ip": 4, "xp": 1, "nn": 45, "rn": 5, "in": 3, "xn": 2, "nu": 7, "ru": 3, "iu": 10}


def values(level):
    return {name: (found["events"], found["of"]) for name, found in level["figures"].items()}


def test_figures_of_pictures_are_those_worked_by_hand():
    found = clinic_figures(cohort(**WORKED))["picture"]
    assert values(found) == {
        "sensitivity": (18, 20),
        "specificity": (45, 50),
        "decision_rate": (80, 100),
        "retake_rate": (17, 100),
        "sensitivity_to_screen": (18 + 4 + 1, 25),
        "specificity_to_screen": (45, 55),
    }
    assert found["figures"]["sensitivity"]["value"] == 0.9
    flow = found["flow"]
    assert (flow["true positive"], flow["false negative"], flow["true negative"], flow["false positive"]) == (
        18,
        2,
        45,
        5,
    )
    assert flow["truth unknown"] + 18 + 2 + 45 + 5 == flow["answered"] == flow["all"] - flow["ungradable"] == 80
    assert (flow["refer"], flow["negative"], flow["insufficient"], flow["not_analysed"]) == (26, 54, 17, 3)


def test_what_is_uncertain_is_acted_on_as_a_referral_and_is_no_decision():
    found = clinic_figures(cohort(rp=6, up=2, np=2, nn=8, un=1, rn=1))["picture"]
    assert values(found) == {
        "sensitivity": (8, 10),
        "specificity": (8, 10),
        "decision_rate": (17, 20),
        "retake_rate": (0, 20),
        "sensitivity_to_screen": (8, 10),
        "specificity_to_screen": (8, 10),
    }
    assert (found["flow"]["uncertain"], found["flow"]["answered"], found["flow"]["decided"]) == (3, 20, 17)


def test_intervals_of_one_picture_each_are_clopper_and_pearsons():
    """Against the quantiles of the beta distribution, which define them."""
    found = clinic_figures(cohort(**WORKED))["picture"]
    assert found["interval"] == EXACT
    for figure in found["figures"].values():
        k, n = figure["events"], figure["of"]
        low = beta.ppf(0.025, k, n - k + 1) if k else 0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1
        assert (figure["low"], figure["high"]) == pytest.approx((low, high), abs=1e-9)


def test_pictures_of_a_patient_widen_the_interval():
    """Ten pictures of each patient that are all alike tell no more than one of each."""
    once = cohort(rp=15, np=5, nn=20)
    tenfold = [each for each in once for _ in range(10)]
    narrow, wide = (clinic_figures(each)["picture"] for each in (once, tenfold))
    assert "resamples by patient" in wide["interval"]
    widths = [each["figures"]["sensitivity"]["high"] - each["figures"]["sensitivity"]["low"] for each in (narrow, wide)]
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    assert values(wide)["sensitivity"] == (150, 200)
    assert clinic_figures(tenfold) == clinic_figures(tenfold)  # the same seed
    # all agree: no resample differs, and the interval is that of 20 patients
    assert wide["figures"]["specificity"]["low"] == pytest.approx(narrow["figures"]["specificity"]["low"])
    assert wide["figures"]["specificity"]["low"] == pytest.approx(0.025 ** (1 / 20))


def test_resampled_intervals_are_the_percentiles_of_resampled_patients():
    rng = np.random.default_rng(3)
    pictures = [
        judged(f"{'rn'[int(rng.random() < 0.3)]}+", f"P{p}") for p in range(30) for _ in range(int(rng.integers(1, 5)))
    ]
    found = clinic_figures(pictures, Bootstrap(replicates=4000))["picture"]["figures"]["sensitivity"]
    patients = np.array([each.patient for each in pictures])
    right = np.array([each.outcome == "refer" for each in pictures])
    names = np.unique(patients)
    sums = {name: (right[patients == name].sum(), (patients == name).sum()) for name in names}
    drawn = []
    for _ in range(4000):
        chosen = [sums[name] for name in rng.choice(names, len(names))]
        drawn.append(sum(k for k, _ in chosen) / sum(n for _, n in chosen))
    assert (found["low"], found["high"]) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)


def test_eyes_and_patients_have_the_worst_of_their_pictures():
    pictures = [
        judged("n+", "A", "OD"),
        judged("r+", "A", "OD"),  # the eye refers
        judged("i-", "A", "OS"),
        judged("n-", "A", "OS"),  # a retake that settles it
        judged("i+", "B", "OD"),
        judged("n-", "B", "OS"),  # the patient is not decided: one eye is to be retaken
        judged("n-", "C", None),
    ]
    found = clinic_figures(pictures)
    assert [found[level]["cases"] for level in ("picture", "eye", "patient")] == [7, 4, 3]
    eye, patient = found["eye"]["flow"], found["patient"]["flow"]
    assert (eye["refer"], eye["negative"], eye["insufficient"]) == (1, 2, 1)
    assert (patient["refer"], patient["negative"], patient["insufficient"]) == (1, 1, 1)
    assert values(found["eye"])["sensitivity_to_screen"] == (2, 2)
    assert values(found["patient"])["sensitivity"] == (1, 1)
    assert values(found["patient"])["specificity"] == (1, 1)


def test_causes_are_counted_once_for_each_picture_the_most_frequent_first():
    found = clinic_figures(cohort(ip=3, xn=2, nn=4))
    assert found["causes"] == {
        "Out of focus": {"insufficient": 3},
        "A grey picture": {"not_analysed": 2},
        "Too small": {"not_analysed": 2},
    }


def test_without_truth_or_without_a_rule_there_is_no_sensitivity():
    for words in ({"ru": 3, "nu": 4, "iu": 1}, {"dp": 3, "dn": 4, "ip": 1}):
        figures = clinic_figures(cohort(**words))["picture"]["figures"]
        assert figures["sensitivity"]["value"] is figures["specificity"]["value"] is None
        assert (figures["decision_rate"]["value"], figures["retake_rate"]["value"]) == (7 / 8, 1 / 8)
    with pytest.raises(ValueError, match="pictures"):
        clinic_figures([])


def test_subgroups_state_counts_and_leave_small_ones_out():
    pictures = [
        judged("r+" if k % 2 else "n-", f"P{k}", "OD" if k < 30 else "OS", "big" if k < 25 else None, k / 100)
        for k in range(40)
    ]
    found = clinic_figures(pictures)["subgroups"]
    assert found["source"]["left_out"] == {"not known": 15}
    assert found["source"]["groups"]["big"]["cases"] == 25 >= MIN_SUBGROUP
    assert found["eye"]["left_out"] == {"OS": 10}
    assert {name: each["cases"] for name, each in found["quality"]["groups"].items()} == {
        "gradable by less than 20% of a limit": 20,
        "gradable by at least 20% of a limit": 20,
    }


def test_what_is_written_and_printed(capsys):
    figures = clinic_figures(cohort(**WORKED))
    assert json.loads(json.dumps(figures)) == figures
    assert "P1" not in json.dumps(figures)  # nothing about a single patient
    print_clinic("made up", figures)
    shown = capsys.readouterr().out
    assert "0.900 (0.683 to 0.988; 18 of 20)" in shown
    assert "Out of focus" in shown
    header, *rows = figure_rows(figures)
    assert header == ("figure", "of 100 pictures", "of 100 patients")  # no eye is known
    assert len(rows) == len(FIGURES)
    assert ("eye", "not known", "100") in [row[:3] for row in subgroup_rows(figures)]
    assert str(Proportion(0, 0, None, None)) == "not defined"
