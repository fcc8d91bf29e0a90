"""What every network inherits by its line in `made_networks.NETWORKS`: from training to a document, in every kind."""

import csv
import io
import json

import highdicom
import keras
import numpy as np
import pytest

from export.contract.by_kind.kinds import KINDS, contract_of
from export.contract.images import images_of_run
from export.contract.keras_source import keras_predictions, load_source
from export.contract.parity import measure, runtime_predictions
from export.contract.reference import images_of_reference
from keras_realmnet.screening.runtimes import open_runtime
from keras_realmnet.tasks import outputs
from keras_realmnet.tasks.outputs import Grades, Labels, Maps
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeFrom, NoReferral
from tests.made_networks import ARTIFACTS, NETWORKS, Some, whole_way
from training.datasets import registry
from training.runs import predict, read_task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def way(request, tmp_path_factory):
    return whole_way(request.param, tmp_path_factory.mktemp("network"))


def test_every_kind_goes_the_way():
    trained = {output for network in NETWORKS.values() for output in Some(network.outputs).task.trained.values()}
    assert {type(output) for output in trained} == {Labels, Grades, outputs.Masks, outputs.Points}
    assert set(KINDS) == set(outputs.KINDS.values())
    for contract in KINDS.values():
        assert set(contract.limits) >= {"float32", "float16", "int8"}
        known = {figure.limit for figure in contract.figures.values()} | {c.limit for c in contract.changes.values()}
        assert {name for limits in contract.limits.values() for name in limits} <= known


def test_the_bundle_answers_and_decides_as_the_run_was_scored(way):
    task = way.bundle.task
    assert task.trained == read_task(way.run).trained
    assert task.rule == read_task(way.run).rule
    rules = task.rule.rules if isinstance(task.rule, AnyOf) else (task.rule,)
    kinds = {Labels: AnyAbove, Grades: GradeFrom}
    expected = {kinds[type(output)] for output in task.trained.values() if type(output) in kinds}
    assert {type(rule) for rule in rules} == (expected or {NoReferral})
    explained = [type(task.trained[each.of]) for each in task.outputs.values() if isinstance(each, Maps)]
    assert explained == ([] if not expected else [Labels] if "lesions" in task.trained else [Grades])
    assert way.bundle.scores["test data"] == "6 held-out some images of 6 patients"
    scores = json.loads((way.run / "scores.json").read_text())["scores"]
    assert set(way.bundle.scores["test"]) == set(scores)
    assert "not for clinical use" in way.bundle.intended_use


def test_each_engine_gives_what_the_trained_network_gives(way, monkeypatch):
    """Class maps and all; the golden image is a test image, and the contract was kept on all of them."""
    monkeypatch.setitem(registry.DATA_SETS, Some.kind, Some)
    monkeypatch.chdir(way.run.parent)
    assert way.verified == 0
    assert set(way.parity) == set(way.bundle.artifacts) == set(ARTIFACTS)
    bundle, images = way.bundle, images_of_run(way.run, way.bundle)
    model = load_source(bundle)
    expected = keras_predictions(model, images.pixels, bundle.task)
    bundle.task.check(expected)
    data = Some(tuple(bundle.task.trained)).load("test", bundle.spec, way.run.parent / "data" / "cache")
    for name, values in predict(model, data, 4).items():
        np.testing.assert_allclose(expected[name], values, atol=2e-6, rtol=1e-5)
    for artifact, found in way.parity.items():
        received = runtime_predictions(open_runtime(bundle, artifact), images.pixels)
        for name, values in expected.items():
            np.testing.assert_allclose(received[name], values, atol=1e-4, rtol=1e-3, err_msg=f"{artifact} {name}")
        assert found.violations("float32") == []
        assert set(found.values) == set(bundle.task.outputs)
        assert found.to_dict() == measure(expected, received, bundle.task, images).to_dict()
        changed = {name: 0.9 * values for name, values in received.items()}
        told = "; ".join(measure(expected, changed, bundle.task, images, replicates=0).violations("float32"))
        for name, output in bundle.task.trained.items():
            assert (f"{name}: " if len(bundle.task.trained) > 1 else "") + next(
                iter(contract_of(output).figures.values())
            ).words in told
    again = images_of_reference(way.run.parent / "reference.npz", bundle)
    for name in bundle.task.trained:
        np.testing.assert_array_equal(again.truth[name], images.truth[name])
        np.testing.assert_array_equal(again.expected[name], expected[name])
    golden, _ = bundle.golden(ARTIFACTS[0])
    assert any((golden[0] == pixels).all() for pixels in images.pixels)
    assert isinstance(model, keras.Model)
    report = json.loads((way.run.parent / "report" / "verification.json").read_text())
    assert not any(each["broken"] for each in report["artifacts"].values())


def test_what_was_found_leaves_the_box(way):
    record, task = way.result.record, way.bundle.task
    assert record.outcome in (("refer", "negative") if task.refers else ("described",))
    found = {each.output for each in record.findings}
    assert found == set(task.trained)
    said = json.loads(way.documents["json"].read_text())
    assert len(said["findings"]) == len(record.findings)
    [row] = csv.DictReader(io.StringIO(way.documents["csv"].read_text(encoding="utf-8-sig")))
    assert row["outcome"] == record.outcome
    for code in (label.code for output in task.trained.values() for label in output.labels.labels):
        assert any(code in column or code == value for column, value in row.items()), code
    report = highdicom.sr.srread(way.documents["sr"]).content
    assert [*report.get_image_measurement_groups(), *report.get_planar_roi_measurement_groups()]
    fhir = json.loads(way.documents["fhir"].read_text())
    assert {entry["resource"]["resourceType"] for entry in fhir["entry"]} >= {"DiagnosticReport", "Observation"}
    page = way.page.read_text(encoding="utf-8")
    assert all(each.name in page for each in record.findings if getattr(each, "threshold", None) is not None)
    assert record.outcome in page
