"""Drift: each figure against an independent one, and a box whose pictures change."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from scipy import stats

from edge_app.config import Config
from edge_app.health import drift
from edge_app.health.metrics import Metrics
from edge_app.store.store import Store
from keras_realmnet.tasks.reference import Distribution, Reference
from tests.proofs.peers import make_record


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Of 400 pictures: distances about 1, brightness about 100."""
    rng = np.random.default_rng(0)
    return Reference(
        output="features",
        pictures="made up",
        mean=np.zeros(4, np.float32),
        components=np.eye(4, dtype=np.float16)[:1],
        variances=np.ones(1, np.float32),
        noise=1.0,
        threshold=1.2,
        false_alarm_rate=0.05,
        distances=tuple(np.sort(rng.normal(1, 0.1, 400)).tolist()),
        measures={"brightness": Distribution.of(rng.normal(100, 15, 400))},
        outcomes={"negative": 320, "refer": 80},
    )


class Bundle:
    """As far as drift looks at one."""

    def __init__(self, reference: Reference):
        self.name, self.digest = "tiny", "d"
        self.task = type("Task", (), {"reference": reference})


def test_the_index_is_the_sum_over_bins():
    usual, counts = np.array([30, 50, 20]), np.array([10, 30, 60])
    p, q = (np.array([10.5, 30.5, 60.5]) / 101.5), np.array([30.5, 50.5, 20.5]) / 101.5
    assert drift.psi(usual, counts) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert drift.psi(usual, usual) == 0
    assert drift.psi(usual, np.stack([counts, usual])).tolist() == [drift.psi(usual, counts), 0]


@pytest.mark.parametrize("bins", [2, 5, 10])
def test_the_limit_of_an_index_is_a_quantile_of_chi_squared(bins):
    """So far out Wilson and Hilferty's is too large by an eighth at most, which warns later, not falsely."""
    exact = stats.chi2.ppf(1 - drift.PSI_TAIL, bins - 1) * (1 / 400 + 1 / 100)
    assert max(exact, drift.PSI_LIMIT) <= drift.psi_limit(bins, 400, 100) <= max(exact * 1.125, drift.PSI_LIMIT)
    assert drift.psi_limit(bins, 10**6, 10**6) == drift.PSI_LIMIT


def test_without_a_change_an_index_rarely_passes_its_limit():
    rng, usual = np.random.default_rng(1), np.full(10, 40)
    counts = rng.multinomial(100, np.full(10, 0.1), size=20_000)
    assert (drift.psi(usual, counts) > drift.psi_limit(10, 400, 100)).mean() < 1e-3


def test_normal_scores_are_the_quantiles_of_ranks():
    usual = tuple(range(1, 100))
    scores = drift.normal_scores(usual, np.array([0.0, 50, 50.5, 1e9]))
    assert scores == pytest.approx(stats.norm.ppf([0.005, 0.5, 0.505, 0.995]))


def test_a_sum_of_normal_scores_is_as_rarely_wrong_as_siegmund_says(monkeypatch):
    monkeypatch.setattr(drift, "SUM_LIMIT", 4.0)  # so low that a short simulation shows it
    sums = drift.cumulative_sum(np.random.default_rng(0).normal(size=(400, 3000)))
    first = np.where((sums > 4).any(1), (sums > 4).argmax(1) + 1, 3000)
    b = 4 + 1.166
    expected = 2 * (np.exp(b) - b - 1)  # Siegmund 1985, for an allowance of 1/2
    assert expected == pytest.approx(338, abs=1)
    assert first.mean() == pytest.approx(expected, rel=0.12)


def test_a_sum_rises_with_a_change_and_falls_once_it_is_over():
    sums = drift.cumulative_sum(np.repeat([0.0, 2.0, 0.0], [50, 100, 40]))
    assert sums[49] == 0
    assert np.argmax(sums > drift.SUM_LIMIT) - 50 + 1 == 7  # pictures of the change: 7 · 1.5 = 10.5
    assert sums.max() == 2 * drift.SUM_LIMIT
    assert sums[-1] < drift.SUM_LIMIT


@pytest.fixture
def fill(tmp_path):
    """fill(store, number, distance, brightness, refer): so many results of one sender, drawn about these."""
    rng = np.random.default_rng(7)

    def add(store: Store, number: int, distance=1.0, brightness=100.0, refer=0.2, origin="SCANNER") -> None:
        for _ in range(number):
            n = store.counts().items["done"]
            sha256, size = store.keep_object([str(n).encode()], "dcm")
            store.add_item(
                source="dicom",
                origin=origin,
                sop_instance_uid=f"1.2.{n}",
                study_uid="1.2",
                sha256=sha256,
                extension="dcm",
                file_name="",
                bytes=size,
            )
            record = make_record(
                patient_id="P-secret",
                outcome="refer" if rng.random() < refer else "negative",
                distance=rng.normal(distance, 0.1),
                distance_limit=1.2,
                quality={"brightness": rng.normal(brightness, 15), "other": float("nan")},
            )
            store.finish(store.claim().id, record)

    return add


def test_a_change_of_camera_is_told_and_metered_without_a_patient(tmp_path, fill, reference, monkeypatch):
    monkeypatch.setattr(drift, "IMAGES", 40)
    store = Store(tmp_path / "box")
    bundles = [Bundle(reference)]
    assert drift.drifts(store, bundles) == []
    fill(store, 45)
    [usual] = drift.drifts(store, bundles)
    assert (usual.bundle, usual.sender, usual.images, usual.changed) == ("tiny", "dicom SCANNER", 40, ())
    assert set(usual.indices) == {"brightness", "outcomes"}
    fill(store, 30, distance=1.25)
    [risen] = drift.drifts(store, bundles)
    assert risen.changed == ("feature distance",)
    fill(store, 40, brightness=140, refer=0.7)
    fill(store, 5, origin="OTHER")
    found = drift.drifts(store, bundles)
    assert [each.sender for each in found] == ["dicom SCANNER", "dicom OTHER"]
    assert {"brightness", "outcomes"} <= set(found[0].changed)
    assert found[1].changed == ()
    [line] = drift.warnings(found)
    assert line.startswith("pictures from dicom SCANNER are no longer like the reference pictures of tiny: ")
    text = Metrics(Config(data_dir=tmp_path / "box"), store, bundles).render().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    warned = {s.labels["sender"]: s.value for s in samples if s.name == "realmnet_box_drift_warning"}
    assert warned == {"dicom SCANNER": 1, "dicom OTHER": 0}
    above = {s.labels["measure"] for s in samples if s.name == "realmnet_box_drift_index" and s.value > 1}
    assert above == set(found[0].changed) - {"feature distance"}
    assert "P-secret" not in line + text
    store.close()


def test_a_change_of_outcomes_alone_is_told_and_metered(tmp_path, fill, reference):
    store = Store(tmp_path / "box")
    fill(store, drift.IMAGES, refer=0.6)
    [found] = drift.drifts(store, [Bundle(reference)])
    assert found.changed == ("outcomes",)
    assert found.warning.endswith("of tiny: outcomes. Look at who is photographed, and at the results")
    text = Metrics(Config(data_dir=tmp_path / "box"), store, [Bundle(reference)]).render().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {s.labels["measure"] for s in samples if s.name == "realmnet_box_drift_index" and s.value > 1} == {
        "outcomes"
    }
    assert [s.value for s in samples if s.name == "realmnet_box_drift_warning"] == [1]
    store.close()


def test_a_bundle_without_a_reference_is_not_compared(tmp_path, fill):
    store = Store(tmp_path / "box")
    fill(store, 3)
    assert drift.drifts(store, [Bundle(None)]) == []
    store.close()
