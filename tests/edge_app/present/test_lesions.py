"""Lesions beside a grade: what the page, the print and every document say of several masks that are not exclusive."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from html import unescape

import highdicom
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from edge_app.config import Config
from edge_app.outbox.documents import render
from edge_app.present.wording import has_parts, lines, signs
from edge_app.store.store import Store
from edge_app.web.server import make_app
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.overlay import LESIONS
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import GradeFinding, MaskFinding, Measure
from tests.proofs import peers


@pytest.fixture
def box(lesions_box, tiny_bundles, tmp_path):
    """(the page, the result, the store) of a copy of that box."""
    shutil.copytree(lesions_box[0], tmp_path / "box")
    store, bundle = Store(tmp_path / "box"), Bundle.load(tiny_bundles / "lesions")
    config = Config.model_validate({"data_dir": str(tmp_path / "box"), "bundle": str(bundle.directory)})
    page = TestClient(make_app(config, store, [bundle]), base_url="http://localhost", client=("127.0.0.1", 50000))
    [each] = store.worklist()
    yield page, store.record(each.item.id), store
    store.close()


def measures(record):
    return {each.code: each for each in record.findings if isinstance(each, Measure)}


def test_the_lesions_are_counted_and_measured(box):
    _, result, _ = box
    values = {code: each.value for code, each in measures(result.record).items()}
    counts = {code: values[code] for code in values if not code.endswith("_pct")}
    assert counts == {
        "MA_n": 4,
        "MA_ul": 1,
        "MA_ur": 2,
        "MA_ll": 0,
        "MA_lr": 1,
        "HE_n": 2,
        "HE_ul": 0,
        "HE_ur": 0,
        "HE_ll": 2,
        "HE_lr": 0,
        "EX_n": 4,
        "SE_n": 0,
    }
    field = np.pi / 4 * 765**2  # its diameter, px
    assert values["HE_pct"] == pytest.approx(100 * np.pi * (16.5**2 + 9.5**2) / field, rel=0.1)
    assert values["SE_pct"] == 0


def test_the_pages_say_which_lesions_speak_for_the_grade(box):
    page, result, _ = box
    for address in (f"/items/{result.item.id}", f"/items/{result.item.id}/report"):
        html = page.get(address).text
        said = " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
        assert "Moderate retinopathy. Lesions that speak for it: Microaneurysm (4), Haemorrhage (2)" in said
        assert "Not found: Soft exudate. What was not found may be there nevertheless." in said
        [legend] = re.findall(r'<ul class="legend".*?</ul>', html, re.DOTALL)
        names = [line.split("<span")[0].split("</svg>")[1].strip() for line in legend.split("<li>")[1:]]
        assert names == ["Microaneurysm", "Haemorrhage", "Hard exudate"]
        for code in ("MA", "HE", "EX"):
            assert f"rgb{LESIONS[code].colour}" in legend
        assert "0.23 % of the field" in legend
        assert "upper left 1, upper right 2, lower left 0, lower right 1" in said


def test_what_is_said_of_a_grade_and_its_lesions_never_says_that_there_are_none(box):
    record = box[1].record
    [grade] = [each for each in record.findings if isinstance(each, GradeFinding)]
    bare = tuple(replace(each, outlines=()) if isinstance(each, MaskFinding) else each for each in record.findings)
    none = signs(replace(record, findings=bare), grade)
    assert none.startswith("None of the lesions that speak for a grade above the first was found: Microaneurysm,")
    assert none.endswith("What was not found may be there nevertheless.")
    contradiction = signs(record, replace(grade, grade=0))
    assert contradiction.startswith("Lesions were found that speak for a grade above this one: Microaneurysm (4)")
    assert "Look at the picture." in contradiction
    assert signs(record, replace(grade, signs=None)) == ""


def test_a_lesion_has_one_line_with_its_measures(box):
    record = box[1].record
    table = lines(record)
    assert [line.name for line in table] == [
        *("Microaneurysm", "Haemorrhage", "Hard exudate", "Soft exudate", "Moderate retinopathy"),
    ]
    assert [line.form for line in table] == ["round", "square", "diamond", None, None]
    assert (table[3].found, table[3].result) == (False, "Not found")


def test_what_branches_is_told_by_the_field_that_it_covers_not_by_its_parts(box):
    """And has holes: in every document and in a record that is read again; in the page's legend it is an area."""
    record = box[1].record
    masks = [each for each in record.findings if isinstance(each, MaskFinding)]
    vessels = replace(masks[0], holes=(((5.0, 5.0), (9.0, 5.0), (9.0, 9.0)),))
    branching = replace(record, findings=(vessels,))
    [line] = lines(branching)
    assert (line.form, line.result.split(",")[0]) == ("covered", "Found")
    assert "parts" not in line.result
    assert not has_parts(branching)
    again = ScreeningRecord.from_dict(json.loads(branching.to_json()))
    assert again.findings == (vessels,)
    assert vessels.borders == masks[0].outlines + vessels.holes
    assert "holes" not in masks[0].to_dict()


def test_small_lesions_are_seen_and_not_painted_over(box, lesions_picture):
    page, result, _ = box
    marks = np.asarray(Image.open(io.BytesIO(page.get(f"/items/{result.item.id}/marks.png").content)))
    for x, y in ((250, 200), (560, 230), (580, 250), (520, 440)):
        assert lesions_picture[y + 2, x + 2, 2] == 250
        assert not marks[y + 2 : y + 4, x + 2 : x + 4, 3].any()  # its middle: the network sees cells of 3 pixels
        around = marks[y - 8 : y + 14, x - 8 : x + 14]
        assert (around[..., :3][around[..., 3] > 0].max(axis=-1) > 200).sum() > 30


def test_every_document_has_the_units(box):
    _, result, store = box
    record = result.record
    documents = {kind: render(store, result, kind) for kind in ("sr", "csv", "fhir", "json", "seg")}
    [row] = csv.DictReader(io.StringIO(documents["csv"].read_text()))
    fhir = [each["resource"] for each in json.loads(documents["fhir"].read_text())["entry"]]
    quantities = {each["code"]["coding"][-1]["code"]: each.get("valueQuantity") for each in fhir if "code" in each}
    groups = {
        each.tracking_identifier: each
        for each in highdicom.sr.srread(documents["sr"]).content.get_image_measurement_groups()
    }
    assert measures(record)
    for code, measure in measures(record).items():
        assert (float(row[f"measure_{code}"]), row[f"unit_{code}"]) == (measure.value, measure.unit)
        quantity = quantities[f"lesions:{code}"]
        assert (quantity["value"], quantity["code"]) == (measure.value, measure.unit)
        [number] = groups[f"measure {code}"].get_measurements()
        assert (number.value, number.unit.value) == (pytest.approx(measure.value), measure.unit)
        assert number.unit.scheme_designator == "UCUM"
    haemorrhage = next(each for each in fhir if each.get("code", {}).get("text") == "Haemorrhage")
    assert haemorrhage["code"]["coding"][0]["system"] == "http://snomed.info/sct"
    [grade] = [each for each in fhir if each.get("code", {}).get("text") == "Grade"]
    assert "Lesions that speak for it: Microaneurysm (4)" in grade["note"][0]["text"]
    comments = [
        item.TextValue for item in groups["grade grade"][0].ContentSequence if item.ValueType == "TEXT"
    ]  # the tracking identifier, too
    assert any(text.startswith("Lesions that speak for it") for text in comments)
    segments = highdicom.seg.segread(documents["seg"]).SegmentSequence
    assert [each.SegmentLabel for each in segments] == ["Microaneurysm", "Haemorrhage", "Hard exudate", "Soft exudate"]


@pytest.mark.skipif(bool(peers.missing(*peers.JUDGES)), reason="dicom3tools or dcmtk are missing")
def test_others_find_no_fault(box):
    _, result, store = box
    assert peers.faults(*(render(store, result, kind) for kind in ("sr", "seg"))) == []
