"""From file to document with findings of every kind: a box screens, each document is read back with what others use."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import highdicom
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
)

from edge_app.analysis.screen import Screener
from edge_app.config import Config
from edge_app.dicom.own_results import is_own_result
from edge_app.outbox.documents import render
from edge_app.present import exports, fhir
from edge_app.present.dicom_object import encode, tracking
from edge_app.present.pictures import keep_pictures, read_map
from edge_app.present.segmentation import filled, segmentation
from edge_app.present.structured_report import CORNERS, structured_report
from edge_app.processes.worker import routes
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import (
    KINDS,
    GradeFinding,
    LabelFinding,
    MaskFinding,
    Measure,
    PointFinding,
)
from tests.proofs import peers

DISC, CUP = (slice(180, 340), slice(420, 580)), (slice(220, 300), slice(460, 540))  # of `kinds_picture`
KINDS_OF_RESULTS = ("sr", "sc", "seg", "json", "csv", "fhir")


@pytest.fixture(scope="module")
def box(every_kind):
    """{(bundle, what its picture shows): (result, {kind: path of its document}, source)}."""
    found = {}
    for name, (folder, sources) in every_kind.items():
        store = Store(folder)
        for each in store.worklist():
            shown, image = sources[each.item.sop_instance_uid]
            result = store.record(each.item.id)
            made = [kind for _, kind in routes(result.record, receiver(folder))]
            found[name, shown] = result, {kind: render(store, result, kind) for kind in made}, image
        store.close()
    return found


def receiver(folder: Path) -> Config:
    to = {"name": "files", "kind": "folder", "path": str(folder / "out"), "results": KINDS_OF_RESULTS}
    return Config.model_validate({"data_dir": str(folder), "destination": [to]})


EVERYTHING, A_DISC = "disc cup fovea", "disc"
BOTH = [(bundle, shown) for bundle in ("decides", "describes") for shown in (EVERYTHING, A_DISC)]
on_both = pytest.mark.parametrize("which", BOTH, ids=" of ".join)


def findings(record: ScreeningRecord, kind: type) -> dict:
    return {each.code: each for each in record.findings if isinstance(each, kind)}


def report(path: Path) -> highdicom.sr.MeasurementReport:
    return highdicom.sr.srread(path).content


def groups(content: highdicom.sr.MeasurementReport) -> dict:
    """{tracking identifier: group} of all measurement groups."""
    all_of_them = [*content.get_image_measurement_groups(), *content.get_planar_roi_measurement_groups()]
    return {each.tracking_identifier: each for each in all_of_them}


def items(group, name: str) -> list:
    return [item for item in group[0].ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == name]


def test_there_is_a_finding_of_every_kind_and_what_cannot_be_shown_is_not_sent(box):
    result, documents, _ = box["decides", EVERYTHING]
    assert {each.kind for each in result.record.findings} == set(KINDS)
    assert (result.record.outcome, result.record.evidence) == ("refer", "2")
    assert set(documents) == set(KINDS_OF_RESULTS)
    described, documents, _ = box["describes", EVERYTHING]
    assert (described.record.outcome, described.record.evidence) == ("described", None)
    assert set(documents) == {*KINDS_OF_RESULTS} - {"sc"}
    nothing = replace(
        described.record,
        findings=tuple(
            replace(each, outlines=(), probability=None) if isinstance(each, MaskFinding) else each
            for each in described.record.findings
        ),
    )
    config = receiver(documents["sr"].parent)
    assert [kind for _, kind in routes(nothing, config)] == ["sr", "json", "csv", "fhir"]
    with pytest.raises(RealMNetError, match="none was found"):
        segmentation(nothing, box["describes", EVERYTHING][2])


@on_both
def test_the_report_is_read_back_as_the_record_has_it(box, which):
    result, documents, source = box[which]
    record, found = result.record, groups(report(documents["sr"]))
    assert set(found) == {
        "Screening outcome",
        "grade grade",
        *findings(record, LabelFinding),
        *(
            f"{each.kind} {each.code}"
            for each in record.findings
            if isinstance(each, MaskFinding | PointFinding | Measure)
        ),
    }
    [grade] = findings(record, GradeFinding).values()
    said = {item.ConceptNameCodeSequence[0].CodeMeaning: item.value for item in items(found["grade grade"], "Grade")}
    assert said["Grade"].value == ("24484000" if grade.code == "2" else f"tinygrade:{grade.code}")
    probabilities = {
        item.ContentSequence[0].ConceptCodeSequence[0].CodeValue: item.value
        for item in items(found["grade grade"], "Probability")
    }
    assert probabilities == pytest.approx({f"tinygrade:{code}": p for code, p in grade.probabilities.items()})
    referred_from = [item.value.value for item in items(found["grade grade"], "Referred from")]
    assert referred_from == (["tinygrade:2"] if which[0] == "decides" else [])
    for mask in findings(record, MaskFinding).values():
        group = found[f"mask {mask.code}"]
        assert group.finding_type.value == ("81016008" if mask.code == "disc" else f"{mask.vocabulary}:{mask.code}")
        [stated] = items(group, "Found in the picture")
        assert stated.value.meaning == ("Found" if mask.found else "Not found")
        [share] = items(group, "Share of the field of view")
        assert (share.value, share.unit.value) == (pytest.approx(100 * mask.share), "%")
        outlines = [
            np.array(item.value)
            for each in items(group, "Probability")
            for item in each.ContentSequence
            if item.ValueType == "SCOORD"
        ]
        assert len(outlines) == len(mask.outlines)
        for drawn, outline in zip(outlines, mask.outlines, strict=True):
            assert np.array_equal(drawn[0], drawn[-1])
            assert np.allclose(drawn[:-1], np.array(outline) + 0.5, atol=1e-3)  # pixel centres are at halves in DICOM
    for point in findings(record, PointFinding).values():
        group = found[f"point {point.code}"]
        [stated] = items(group, "Found in the picture")
        assert stated.value.meaning == ("Found" if point.found else "Not found")
        [certainty] = items(group, "Certainty of Finding")
        assert certainty.value == pytest.approx(100 * point.confidence)
        if point.found:
            assert group.roi.value[0] == pytest.approx([point.x + 0.5, point.y + 0.5], abs=1e-3)
            assert group.roi.ContentSequence[0].referenced_sop_instance_uid == source.SOPInstanceUID
        else:
            assert not isinstance(group, highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations)
    for measure in findings(record, Measure).values():
        group = found[f"measure {measure.code}"]
        numbers = [item.value for item in items(group, measure.name)]
        assert numbers == ([] if measure.value is None else [pytest.approx(measure.value)])
        if measure.value is None:
            assert [item.value.meaning for item in items(group, "Found in the picture")] == ["Not found"]
    units = {
        item.unit.value for group in found.values() for item in group[0].ContentSequence if item.ValueType == "NUM"
    }
    assert units == {"1", "%"}


def test_where_the_patches_are_is_found(box):
    """The network is made so; that all documents agree with the record says nothing unless the record is right."""
    record = box["decides", EVERYTHING][0].record
    masks, points, measures = (findings(record, kind) for kind in (MaskFinding, PointFinding, Measure))
    for mask, (rows, columns) in ((masks["disc"], DISC), (masks["cup"], CUP)):
        corners = np.array(mask.outlines[0])
        found = (*corners.min(axis=0), *corners.max(axis=0))
        assert found == pytest.approx((columns.start, rows.start, columns.stop, rows.stop), abs=13)  # px, a cell
    assert (points["fovea"].x, points["fovea"].y) == pytest.approx((260, 360), abs=6)
    assert (points["disc_centre"].x, points["disc_centre"].y) == pytest.approx((500, 260), abs=6)
    assert measures["vcdr"].value == pytest.approx(0.5, abs=0.1)
    assert measures["dfd"].value == pytest.approx(np.hypot(240, 100) / 160, abs=0.3)
    missing = box["decides", A_DISC][0].record
    assert not findings(missing, PointFinding)["fovea"].found
    assert findings(missing, Measure)["dfd"].value is None


@on_both
def test_the_segmentation_is_read_back_as_large_as_the_picture(box, which):
    result, documents, source = box[which]
    read = highdicom.seg.segread(documents["seg"])
    masks = list(findings(result.record, MaskFinding).values())
    assert [segment.SegmentLabel for segment in read.SegmentSequence] == [mask.name for mask in masks]
    assert [segment.tracking_uid for segment in read.SegmentSequence] == [
        group.tracking_uid
        for mask in masks
        for name, group in groups(report(documents["sr"])).items()
        if name == f"mask {mask.code}"
    ]
    assert read.StudyInstanceUID == source.StudyInstanceUID
    assert (read.Rows, read.Columns) == (source.Rows, source.Columns)
    frames = {
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in read.PerFrameFunctionalGroupsSequence
    }
    assert frames == {number for number, mask in enumerate(masks, start=1) if mask.found}
    pixels = read.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)
    for number, mask in enumerate(masks):
        assert np.array_equal(pixels[0, ..., number], filled(mask.outlines, (source.Rows, source.Columns)))
    disc = pixels[0, ..., 0] > 0
    truth = np.zeros_like(disc)
    truth[DISC] = True
    # The structures exclude each other, so a cup leaves a hole in the disc, but outlines have none. A cell is 24 px.
    assert (disc & truth).sum() / (disc | truth).sum() > 0.75


def test_nothing_depends_on_the_clock_and_it_is_known_when_it_comes_back(box):
    result, documents, source = box["decides", EVERYTHING]
    for kind, make in (("sr", structured_report), ("seg", segmentation)):
        assert (
            encode(make(result.record, source)) == encode(make(result.record, source)) == documents[kind].read_bytes()
        )
        later = make(result.record, source, 2)
        assert later.SOPInstanceUID != dcmread(documents[kind]).SOPInstanceUID
        assert later.SeriesInstanceUID == dcmread(documents[kind]).SeriesInstanceUID
        assert is_own_result(dcmread(documents[kind]))
    assert tracking(result.record, source, "a") == tracking(replace(result.record, bundle_digest="other"), source, "a")


@on_both
def test_fhir_has_an_observation_for_each(box, which):
    result, documents, _ = box[which]
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    bundle = json.loads(documents["fhir"].read_text())
    models.Bundle.model_validate(bundle)
    made = [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "Observation"]
    assert len({each["id"] for each in made}) == len(made) == 1 + len(result.record.findings)
    for finding, observation in zip(result.record.findings, made[1:], strict=True):
        components = {each["code"]["coding"][-1]["code"]: each for each in observation.get("component", [])}
        numbers = {code: each.get("valueQuantity", {}).get("value") for code, each in components.items()}
        values = {"valueQuantity", "valueCodeableConcept", "dataAbsentReason"} & set(observation)
        assert len(values) == 1
        if isinstance(finding, GradeFinding):
            assert observation["valueCodeableConcept"]["coding"][-1]["code"] == finding.qualified
            assert numbers == {finding.qualify(code): p for code, p in finding.probabilities.items()}
            assert ("interpretation" in observation) is (which[0] == "decides")
        elif isinstance(finding, MaskFinding):
            expected = "found:yes" if finding.found else "found:no"
            assert observation["valueCodeableConcept"]["coding"][0]["code"] == expected
            assert (numbers["SHARE"], numbers.get("PROBABILITY")) == (finding.share, finding.probability)
            assert components["PARTS"]["valueInteger"] == len(finding.outlines)
        elif isinstance(finding, PointFinding):
            assert ("dataAbsentReason" in observation) is not finding.found
            assert (numbers.get("X"), numbers.get("Y"), numbers["CONFIDENCE"]) == (
                finding.x,
                finding.y,
                finding.confidence,
            )
        elif isinstance(finding, Measure):
            assert ("dataAbsentReason" in observation) is (finding.value is None)
            assert observation.get("valueQuantity", {}).get("value") == finding.value


@on_both
def test_table_and_json_have_every_number(box, which):
    result, documents, _ = box[which]
    record = result.record
    [row] = csv.DictReader(io.StringIO(documents["csv"].read_text()))
    [grade] = findings(record, GradeFinding).values()
    assert (row["grade_grade"], float(row["probability_2"])) == (grade.code, grade.probabilities["2"])

    def written(value):
        return "" if value is None else str(value)

    for mask in findings(record, MaskFinding).values():
        assert int(row[f"parts_{mask.code}"]) == len(mask.outlines)
        assert row[f"share_{mask.code}"] == written(mask.share)
        assert row[f"mean_probability_{mask.code}"] == written(mask.probability)
    for point in findings(record, PointFinding).values():
        assert [row[f"{name}_{point.code}"] for name in ("x", "y", "confidence")] == [
            written(value) for value in (point.x, point.y, point.confidence)
        ]
    for measure in findings(record, Measure).values():
        assert row[f"measure_{measure.code}"] == written(measure.value)
    document = json.loads(documents["json"].read_text())
    again = ScreeningRecord.from_dict(
        {**{name: document[name] for name in record.to_dict() if name != "folder"}, "folder": ""}
    )
    assert again.findings == record.findings


def test_a_stretched_projection_has_no_share(box):
    result, _, source = box["describes", EVERYTHING]
    stretched = replace(
        result.record,
        findings=tuple(
            replace(each, share=None) if isinstance(each, MaskFinding) else each for each in result.record.findings
        ),
    )
    assert "Share" not in str(structured_report(stretched, source))
    assert "SHARE" not in json.dumps(fhir.bundle(replace(result, record=stretched)))
    [row] = csv.DictReader(io.StringIO(exports.as_csv([replace(result, record=stretched)])))
    assert row["share_disc"] == ""


def test_a_pixel_is_filled_when_its_centre_is_inside(box):
    """Against OpenCV's test of single points, on polygons of any shape, and on those that leave the picture."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        corners = np.round(rng.uniform(-5, 45, (int(rng.integers(3, 9)), 2)), 1)
        hull = cv2.convexHull(corners.astype(np.float32))
        made = filled([tuple(map(tuple, hull[:, 0].tolist()))], (30, 40))
        distances = np.array([[cv2.pointPolygonTest(hull, (x, y), True) for x in range(40)] for y in range(30)])
        assert (made[np.abs(distances) > 1e-3] == (distances > 0)[np.abs(distances) > 1e-3]).all()
    turns = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    for radius in (2, 5, 20):
        circle = np.stack([50.3 + radius * np.cos(turns), 50.4 + radius * np.sin(turns)], axis=-1)
        assert filled([tuple(map(tuple, circle.tolist()))], (100, 100)).sum() == pytest.approx(
            np.pi * radius**2, rel=0.1
        )
    assert not filled([], (3, 4)).any()


def test_an_outline_with_too_many_corners_is_drawn_with_fewer(box):
    result, _, source = box["describes", EVERYTHING]
    turns = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    radius = 200 + 3 * np.sin(700 * turns)
    outline = tuple(
        map(tuple, np.stack([390 + radius * np.cos(turns), 307 + radius * np.sin(turns)], axis=-1).tolist())
    )
    disc = replace(findings(result.record, MaskFinding)["disc"], outlines=(outline,))
    document = structured_report(replace(result.record, findings=(disc,)), source)
    again = dcmread(peers.BytesIO(encode(document)))
    drawn = [item for item in again.iterall() if item.keyword == "GraphicData"]
    assert 100 < len(drawn[0].value) / 2 <= CORNERS


ABSENT = dict.fromkeys(("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID", "AccessionNumber"))


@pytest.mark.skipif(bool(peers.missing(*peers.JUDGES)), reason="dicom3tools or dcmtk are missing")
@pytest.mark.parametrize(
    ("sop_class", "pictures", "attributes"),
    [
        (None, 1, {}),
        (None, 3, {"ImageLaterality": "", "PatientOrientation": None}),
        (None, 1, {**ABSENT, "FrameOfReferenceUID": "1.2.3.4"}),
        (WideFieldOphthalmicPhotographyStereographicProjectionImageStorage, 2, {}),
        (MultiFrameTrueColorSecondaryCaptureImageStorage, 3, {}),
        (SecondaryCaptureImageStorage, 1, {}),
        (VLPhotographicImageStorage, 1, {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"}),
    ],
)
def test_others_find_no_fault_whatever_the_source_is(box, kinds_picture, tmp_path, sop_class, pictures, attributes):
    """Classes with and without frames, and with and without a frame of reference."""
    result, _, _ = box["decides", EVERYTHING]
    source = peers.ophthalmic(kinds_picture("disc"), **attributes)
    source.SOPClassUID = sop_class or source.SOPClassUID
    record = replace(result.record, frame=pictures, pictures=pictures)
    files = []
    for name, make in (("sr", structured_report), ("seg", segmentation)):
        files.append(tmp_path / f"{name}.dcm")
        files[-1].write_bytes(encode(make(record, source)))
        document = dcmread(files[-1])
        told = [item.get("ReferencedFrameNumber") for item in references(document)]
        assert set(told) == ({None} if pictures == 1 else {pictures})
        assert {item.ReferencedSOPClassUID for item in references(document)} == {source.SOPClassUID}
    assert peers.faults(*files) == []


def references(document):
    """The items that refer to the source image with a place for its frame."""
    keywords = ("SourceImageSequence", "ReferencedSOPSequence")
    of_images = [item for element in document.iterall() if element.keyword in keywords for item in element.value]
    evidence = document.get("CurrentRequestedProcedureEvidenceSequence", [])
    without = [
        item for study in evidence for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence
    ]
    return [item for item in of_images if not any(item is each for each in without)]


def test_the_lines_of_the_documentation_read_them(box, monkeypatch, capsys):
    text = (Path(__file__).parents[3] / "docs" / "dicom.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    result, documents, _ = box["decides", EVERYTHING]
    monkeypatch.chdir(documents["sr"].parent)
    exec(compile(lines, "docs/dicom.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    fovea = findings(result.record, PointFinding)["fovea"]
    [place] = [line.rsplit(" ", 2)[1:] for line in said if line.startswith("Fovea centralis")]
    assert [float(value) for value in place] == pytest.approx([fovea.x, fovea.y], abs=1e-3)
    assert any(line.startswith("measure vcdr") and "Vertical cup-to-disc ratio" in line for line in said)
    size = int(next(line for line in said if line.startswith("Optic disc")).split()[-2])
    assert size == filled(findings(result.record, MaskFinding)["disc"].outlines, (614, 780)).sum()


def test_findings_lie_on_the_whole_picture_also_where_it_was_decoded_at_half_its_size(
    tiny_bundles, kinds_picture, tmp_path
):
    whole = Image.fromarray(kinds_picture("disc", "fovea")).resize((2340, 1842), Image.Resampling.BICUBIC)
    whole.save(tmp_path / "whole.jpg", quality=95)
    screener = Screener.open(tiny_bundles / "describes")
    reduced = replace(screener, bundle=replace(screener.bundle, spec=PreprocessSpec(64, reduction=2)))
    kept = []
    [record] = [reduced.screen(tmp_path / "whole.jpg", None, tmp_path, on_analysed=lambda *found: kept.extend(found))]
    pixels, analysis = kept
    assert (pixels.shape, analysis.geometry.source) == ((921, 1170, 3), (1842, 2340))
    points = findings(record, PointFinding)
    assert (points["disc_centre"].x, points["disc_centre"].y) == pytest.approx((1500, 780), abs=18)
    assert (points["fovea"].x, points["fovea"].y) == pytest.approx((780, 1080), abs=18)
    drawn = np.asarray(Image.open(tmp_path / record.overlay).convert("RGB")).astype(int)
    scale = 1000 / 2340
    panel = drawn[60:, 1012:]  # see `overlay.draw`: the title, the first panel and the gap
    cross = panel[round(1080 * scale) - 3 : round(1080 * scale) + 4, round(780 * scale) - 3 : round(780 * scale) + 4]
    assert cross.min(axis=-1).max() > 200
    keep_pictures(tmp_path, pixels, analysis, reduced.bundle.task)
    _, geometry = read_map(tmp_path, record, "2", pixels.shape[:2])
    assert np.multiply(geometry.box, 2) == pytest.approx(analysis.geometry.box, abs=2)
