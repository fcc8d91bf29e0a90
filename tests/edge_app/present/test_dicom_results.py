"""Reports and heat maps: what they say, whose study they land in, and that other software finds no fault with them."""

from dataclasses import dataclass, replace
from uuid import uuid5

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from edge_app.analysis.screen import Screener
from edge_app.dicom.identifiers import IMPLEMENTATION_UID, NAMESPACE
from edge_app.dicom.own_results import is_own_result
from edge_app.present.dicom_object import encode
from edge_app.present.heat_map import heat_map
from edge_app.present.structured_report import structured_report
from edge_app.present.terms import label_name, sentence
from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import read_header
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.record import ScreeningRecord
from tests.proofs import peers

OUTCOMES = ("refer", "negative", "insufficient", "not_analysed")


@dataclass(frozen=True)
class Screened:
    record: ScreeningRecord
    source: Dataset
    pixels: np.ndarray
    class_map: np.ndarray | None
    geometry: FieldGeometry | None

    def report(self, revision=1, predecessor=None, **changes):
        return structured_report(replace(self.record, **changes), self.source, revision, predecessor)

    def map(self, revision=1, **changes):
        record = replace(self.record, **changes)
        return heat_map(record, self.source, self.pixels, self.class_map, self.geometry, revision)


@pytest.fixture(scope="module")
def screen(tiny_bundle, tmp_path_factory):
    """screen(picture, syntax, **attributes): what the box makes of such an image."""
    screener = Screener.open(tiny_bundle)
    folder = tmp_path_factory.mktemp("screened")

    def made(picture, syntax=ExplicitVRLittleEndian, **attributes):
        file = peers.write(peers.ophthalmic(picture, syntax, **attributes), folder / "image.dcm")
        kept = []
        record = screener.screen(file, "ab" * 32, folder, on_analysed=lambda *found: kept.extend(found))
        pixels, analysis = kept
        maps = {} if analysis is None else screener.bundle.task.class_maps(analysis.predicted)
        class_map, geometry = maps.get(record.evidence), analysis and analysis.geometry
        return Screened(record, dcmread(file, stop_before_pixels=True), pixels, class_map, geometry)

    return made


@pytest.fixture(scope="module")
def screened(screen, pictures):
    return {outcome: screen(pictures[outcome]) for outcome in OUTCOMES}


def groups(report):
    """{tracking identifier: {concept meaning: values}} of the measurement groups."""
    container = report.ContentSequence[-1]
    found = {}
    for group in container.ContentSequence:
        content = {}
        for item in group.ContentSequence:
            content.setdefault(item.ConceptNameCodeSequence[0].CodeMeaning, []).append(value(item))
        found[content["Tracking Identifier"][0]] = content
    return found


def value(item):
    if item.ValueType == "CODE":
        return item.ConceptCodeSequence[0].CodeMeaning
    if item.ValueType == "NUM":
        return float(item.MeasuredValueSequence[0].NumericValue)
    if item.ValueType == "IMAGE":
        return item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    return item.get("TextValue") or item.get("UID")


def predecessors(report):
    """SOP Instance UIDs of the documents that it names as the ones before."""
    studies = report.get("PredecessorDocumentsSequence", [])
    series = [each for study in studies for each in study.ReferencedSeriesSequence]
    return [object.ReferencedSOPInstanceUID for each in series for object in each.ReferencedSOPSequence]


def all_text(document):
    return "\n".join(str(element.value) for element in document.iterall() if element.VR != "SQ")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_report_says_what_the_record_says(screened, outcome):
    image = screened[outcome]
    report = dcmread(peers.BytesIO(encode(image.report())))
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    found = groups(report)
    summary = found.pop("Screening outcome")
    expected = {
        "refer": ("Refer", "Gradable"),
        "negative": ("Negative: rescreen", "Gradable"),
        "insufficient": ("Insufficient quality: retake or refer", "Insufficient for screening"),
        "not_analysed": ("Not analysed: no result", "Not judged"),
    }[outcome]
    assert (summary["Screening outcome"], summary["Image Quality"]) == ([expected[0]], [expected[1]])
    assert set(map(sentence, image.record.reasons)) <= set(summary["Comment"])
    assert any("Research software" in text for text in summary["Comment"])
    assert summary["Source of Measurement"] == [image.source.SOPInstanceUID]
    assert summary["Algorithm Name"] == ["tiny"]
    assert summary["Algorithm Version"] == ["1.0"]
    assert f"model SHA-256 {image.record.model_sha256}" in summary["Algorithm Parameters"]
    probabilities = image.record.probabilities or {}
    assert set(found) == set(probabilities)
    assert bool(found) is (outcome in ("refer", "negative"))
    for code, group in found.items():
        assert group["Finding"] == [label_name(image.record, code)]
        assert group["Probability"] == pytest.approx([probabilities[code]], abs=1e-9)
        threshold = image.record.thresholds.get(code)
        assert group.get("Threshold Value") == (None if threshold is None else [threshold])
        if threshold is not None:
            reached = probabilities[code] >= threshold
            assert group["Probability against threshold"] == ["At or above threshold" if reached else "Below threshold"]


@pytest.mark.parametrize("outcome", ["insufficient", "not_analysed"])
def test_a_missing_result_is_never_negative(screened, outcome):
    text = all_text(screened[outcome].report()).lower().replace("a missing result is never a negative one", "")
    assert "negative" not in text
    assert "below threshold" not in text
    with pytest.raises(RealMNetError, match="not given to the model"):
        screened[outcome].map()


@pytest.mark.parametrize(("eye", "laterality"), [("OD", "Right"), ("OS", "Left"), (None, None)])
def test_the_eye(screened, eye, laterality):
    report = screened["refer"].report(eye=eye)
    for group in report.ContentSequence[-1].ContentSequence:
        [site] = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning == "Finding Site"]
        modifiers = [value(item) for item in site.get("ContentSequence", [])]
        assert modifiers == ([] if laterality is None else [laterality])
    picture = screened["refer"].map(eye=eye)
    assert picture.get("ImageLaterality") == (None if eye is None else laterality[0])


def test_the_same_result_is_the_same_object_and_another_is_another(screened):
    image = screened["refer"]
    for make in (image.report, image.map):
        assert encode(make()) == encode(make())
        assert make(revision=2).SOPInstanceUID != make().SOPInstanceUID
        assert make(revision=2).SeriesInstanceUID == make().SeriesInstanceUID
        changed = make(bundle_digest="other")
        assert changed.SOPInstanceUID != make().SOPInstanceUID
    assert image.report().SOPInstanceUID != image.map().SOPInstanceUID
    assert predecessors(image.report(3, predecessor=1)) == [image.report().SOPInstanceUID]
    assert predecessors(image.report(2)) == predecessors(image.report()) == []


def test_both_land_in_the_study_of_the_image(screen, pictures):
    said = {
        "PatientName": "Muster^Eva",
        "PatientID": "X 12",
        "IssuerOfPatientID": "CLINIC",
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "StudyID": "S9",
        "AccessionNumber": "A77",
        "StudyTime": "101112.25",
        "ReferringPhysicianName": "House^G",
        "StudyDescription": "Screening",
    }
    image = screen(pictures["refer"], **said)
    for document in (image.report(), image.map()):
        document = dcmread(peers.BytesIO(encode(document)))
        assert document.StudyInstanceUID == image.source.StudyInstanceUID
        assert document.SeriesInstanceUID != image.source.SeriesInstanceUID
        assert {keyword: str(document[keyword].value) for keyword in said} == said
        assert document.file_meta.ImplementationClassUID == IMPLEMENTATION_UID
        assert document.ContentQualification == "RESEARCH"
        assert document.SoftwareVersions[0] == f"keras-realmnet {__version__}"


def test_the_heat_map_is_marked_and_shows_the_evidence(screened):
    image = screened["refer"]
    document = dcmread(peers.BytesIO(encode(image.map())))
    assert document.ImageType[0] == "DERIVED"
    assert "NOT FOR DIAGNOSIS" in document.ImageComments
    assert "NOT FOR DIAGNOSIS" in document.SeriesDescription
    assert document.SourceImageSequence[0].ReferencedSOPInstanceUID == image.source.SOPInstanceUID
    assert document.PhotometricInterpretation == "RGB"
    pixels = document.pixel_array
    height = pixels.shape[0] - round(1024 * image.pixels.shape[0] / image.pixels.shape[1])
    assert pixels.shape[1] == 1024
    assert (pixels[:height] == 255).any()  # text is burned in above the image
    # The patch that the network calls an atrophy lies at (350-480, 200-320) of 780 x 614; only the map is blue.
    blue = pixels[height:, :, 2].astype(int)
    scale = 1024 / image.pixels.shape[1]
    inside = blue[round(230 * scale) : round(290 * scale), round(380 * scale) : round(450 * scale)]
    assert inside.mean() > 2 * blue.mean()


def test_a_heat_map_is_known_by_any_of_its_marks(screened):
    marks = ("Manufacturer", "SeriesDescription", "ImageComments", "DerivationDescription", "SoftwareVersions")
    for kept in marks:
        document = dcmread(peers.BytesIO(encode(screened["refer"].map())))
        for mark in {*marks} - {kept}:
            delattr(document, mark)
        assert is_own_result(document), kept
        delattr(document, kept)
        assert not is_own_result(document)


def test_a_label_below_its_threshold_is_not_outlined_in_the_heat_map(screened):
    """The same picture, evidence and text height: once the label refers, once it does not."""
    image = screened["refer"]
    found, below = (image.map(triggered=triggered).pixel_array for triggered in (("A3",), ()))
    height = found.shape[0] - round(1024 * image.pixels.shape[0] / image.pixels.shape[1])
    is_white = [(pixels[height:] > 235).all(axis=-1).sum() for pixels in (found, below)]
    assert is_white[0] > 500
    assert is_white[1] == 0
    inside = np.s_[height + 260 : height + 420, 460:630]  # the patch
    assert below[inside][..., 2].mean() > 100  # tinted still
    assert (found[:height] != below[:height]).any()  # the text tells it


def test_nothing_burned_in_tells_who_it_is(screened):
    image = screened["refer"]
    other = replace(image, source=dcmread(peers.BytesIO(encode(image.map()))))
    other.source.PatientName, other.source.PatientID = "Somebody^Else", "ZZZ"
    assert np.array_equal(image.map().pixel_array, other.map().pixel_array)


def test_no_lengths_and_no_areas(screened):
    units = {
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for group in screened["refer"].report().ContentSequence[-1].ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }
    assert units == {"1"}
    assert not {"PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"} & set(screened["refer"].map().dir())


@pytest.mark.parametrize(
    ("name", "character_set", "kept_as"),
    [
        ("Plain^Ascii", None, None),
        ("Müller^Jörg", "ISO_IR 100", "ISO_IR 100"),
        ("Buc^Jérôme", "ISO_IR 192", "ISO_IR 100"),
        ("Люкceмбypг", "ISO_IR 144", "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], "ISO_IR 192"),
        ("Wang^XiaoDong=王^小东", "GB18030", "ISO_IR 192"),
    ],
)
def test_names_of_all_the_world(screen, pictures, name, character_set, kept_as):
    image = screen(pictures["refer"], SpecificCharacterSet=character_set or "ISO_IR 6", PatientName=name)
    for document in (image.report(), image.map()):
        document = dcmread(peers.BytesIO(encode(document)))
        assert document.get("SpecificCharacterSet") == kept_as
        assert str(document.PatientName) == name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "attributes",
    [
        dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber")),
        {"PatientSex": "unknown", "PatientBirthDate": "1.2.1970", "StudyDate": "2026-03-02", "StudyTime": "noon"},
        {"PatientName": "X" * 200, "PatientID": "Y" * 100, "AccessionNumber": "Z" * 40},
        {"PatientName": ["A^B", "C^D"], "PatientID": ["1", "2"]},
        {"PatientOrientation": None, "ImageLaterality": "B"},
    ],
    ids=["absent", "invalid", "too long", "several", "unoriented"],
)
def test_whatever_the_source_says_is_no_obstacle(screen, pictures, attributes):
    image = screen(pictures["refer"], **attributes)
    for document in (image.report(), image.map()):
        written = dcmread(peers.BytesIO(encode(document)))
        for keyword in ("PatientName", "PatientID", "StudyDate"):
            assert keyword in written
            assert str(written[keyword].value or "") == str(image.source.get(keyword) or "")


def coded(document):
    """{meaning: code} of everything in the box's own coding scheme."""
    found = {}
    for element in document.iterall():
        for item in element.value if element.VR == "SQ" else ():
            if item.get("CodingSchemeDesignator") == "99REALMNET" and "CodeMeaning" in item:
                found[item.CodeMeaning] = item.get("CodeValue") or item.get("LongCodeValue")
    return found


def test_bytes_that_fit_no_character_set_are_told_and_not_passed_on(screen, pictures, tmp_path):
    attributes = {"SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": "YYYY-1"}
    file = peers.write(peers.ophthalmic(pictures["refer"], PatientName="XXXX^Eva", **attributes), tmp_path / "a.dcm")
    file.write_bytes(file.read_bytes().replace(b"XXXX^Eva", b"M\xfcll^Eva").replace(b"YYYY-1", b"\xff\xfeYY-1"))
    made = screen(pictures["refer"])
    record = replace(made.record, warnings=read_header(file).warnings)
    report = structured_report(record, dcmread(file, stop_before_pixels=True))
    again = dcmread(peers.BytesIO(encode(report)))
    assert (str(again.PatientName), again.AccessionNumber) == ("M?ll^Eva", "??YY-1")
    assert "character set" in all_text(again)


def renamed(record, only=None, **changes):
    """The findings of a record with other words in all of them, or in the one of a code."""
    return tuple(replace(each, **changes) if only in (None, each.code) else each for each in record.findings)


def test_codes_are_qualified_by_their_set(screened):
    report = dcmread(peers.BytesIO(encode(screened["refer"].report())))
    found = coded(report)
    assert found["Patchy atrophy"] == "psmm:A3"
    assert found["Refer"] == "out:refer"
    assert found["Gradable"] == "quality:gradable"
    assert found["Screening outcome"] == "OUTCOME"
    insufficient = coded(screened["insufficient"].report())
    assert insufficient["Insufficient quality: retake or refer"] != insufficient["Insufficient for screening"]
    other = coded(screened["refer"].report(findings=renamed(screened["refer"].record, vocabulary="palm")))
    assert other["Patchy atrophy"] == "palm:A3"
    findings = renamed(screened["refer"].record, vocabulary="")  # a record of schema 1 of labels that nobody knows
    unknown = coded(screened["refer"].report(findings=findings, task=None, condition=None, modality=None))
    assert unknown["Patchy atrophy"] == "A3"


def test_codes_and_meanings_are_never_cut(screened):
    image = screened["refer"]
    code, name = "A3-of-a-very-long-vocabulary", "Patchy atrophy of the chorioretinal kind" + 24 * "!"
    assert len(name) == 64
    written = dcmread(peers.BytesIO(encode(image.report(findings=renamed(image.record, "A3", code=code, name=name)))))
    assert coded(written)[name] == f"psmm:{code}"
    with pytest.raises(RealMNetError, match="at most 64 characters"):
        image.report(findings=renamed(image.record, "A3", name=name + "!"))


@pytest.mark.parametrize(
    ("said", "series", "comment"),
    [
        ({}, "Screening for pathologic myopia - research only", "Screening for pathologic myopia, red/green ultra-"),
        (
            {"condition": "peripheral retinal lesions", "modality": "colour_fundus"},
            "Screening for peripheral retinal lesions - research only",
            "Screening for peripheral retinal lesions, colour fundus photograph.",
        ),
        ({"condition": None, "modality": None}, "Screening - research only", "Screening of the retina."),
        ({"condition": "x" * 60}, "Screening - research only", f"Screening for {'x' * 60}, red/green"),
    ],
)
def test_the_report_says_what_its_bundle_screens_for(screened, said, series, comment):
    report = dcmread(peers.BytesIO(encode(screened["refer"].report(**said))))
    assert report.SeriesDescription == series
    assert any(text.startswith(comment) for text in groups(report)["Screening outcome"]["Comment"])
    assert ("myopia" in all_text(report)) is (not said)


def frames(document):
    """Frame numbers wherever the source image is referenced as such."""
    found = []
    for element in document.iterall():
        if element.keyword in ("ReferencedSOPSequence", "SourceImageSequence"):
            found += [item.get("ReferencedFrameNumber") for item in element.value]
    return found


def test_a_picture_of_several_is_referenced_by_its_number(screened):
    image = screened["refer"]
    for make in (image.report, image.map):
        documents = [dcmread(peers.BytesIO(encode(make(frame=number, pictures=3)))) for number in (1, 2, 3)]
        single = make(frame=1, pictures=1)
        for number, document in enumerate(documents, start=1):
            told = {int(frame) for frame in frames(document) if frame is not None}
            assert told == {number}
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert len({document[keyword].value for document in (*documents, single)}) == 4
        assert encode(make(frame=2, pictures=3)) == encode(make(frame=2, pictures=3))
        assert set(frames(single)) == {None}
    tracked = [
        {g["Tracking Unique Identifier"][0] for g in groups(image.report(frame=n, pictures=2)).values()} for n in (1, 2)
    ]
    assert not tracked[0] & tracked[1]


def test_results_of_single_pictures_have_the_identity_of_earlier_releases(screened):
    """UIDs that a release before pictures of one object has given, worked out by hand from what they are made of."""
    image = screened["refer"]
    record = image.record
    made_of = (image.source.SOPInstanceUID, record.sha256, record.bundle_digest, record.artifact)
    for make, kind in ((image.report, "sr"), (image.map, "sc")):
        document = make()
        for value, parts in (
            (document.SOPInstanceUID, (kind, 1)),
            (document.SeriesInstanceUID, (f"{kind} series", None)),
        ):
            assert value == f"2.25.{uuid5(NAMESPACE, '/'.join(map(str, (*made_of, *parts)))).int}"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_source_without_identity_has_no_dicom_result(screened, keyword):
    source = dcmread(peers.BytesIO(encode(screened["refer"].map())), stop_before_pixels=True)
    delattr(source, keyword)
    with pytest.raises(RealMNetError, match=keyword):
        structured_report(screened["refer"].record, source)


ABSENT = dict.fromkeys(("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID", "AccessionNumber"))


@pytest.mark.skipif(bool(peers.missing(*peers.JUDGES)), reason="dicom3tools or dcmtk are missing")
@pytest.mark.parametrize(
    ("outcome", "syntax", "attributes"),
    [
        ("refer", ExplicitVRLittleEndian, {}),
        ("refer", JPEGBaseline8Bit, {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"}),
        ("negative", JPEG2000Lossless, {"ImageLaterality": "", "PatientOrientation": None}),
        ("negative", ExplicitVRLittleEndian, ABSENT),
        ("insufficient", ExplicitVRLittleEndian, {"ImageLaterality": "L"}),
        ("not_analysed", JPEGBaseline8Bit, {}),
    ],
)
def test_dicom3tools_and_dcmtk_find_no_fault(screen, pictures, tmp_path, outcome, syntax, attributes):
    image = screen(pictures[outcome], syntax, **attributes)
    documents = {"sr1": image.report(), "sr2": image.report(2, predecessor=1), "sr3": image.report(3)}
    if image.class_map is not None:
        documents |= {f"sc{revision}": image.map(revision) for revision in (1, 2)}
        documents |= {f"sc{frame} of 2": image.map(frame=frame, pictures=2) for frame in (1, 2)}
    documents |= {f"sr{frame} of 2": image.report(frame=frame, pictures=2) for frame in (1, 2)}
    files = []
    for name, document in documents.items():
        files.append(tmp_path / f"{name}.dcm")
        files[-1].write_bytes(encode(document))
    assert peers.faults(*files) == []
    assert {"refer": "Refer", "negative": "Negative: rescreen"}.get(outcome, outcome) in peers.run(
        "dsrdump", files[0]
    ).stdout
