"""The report: order, completeness, self-containment, and that nothing hostile or missing is shown as something else."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image

from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import run as screen_files
from edge_app.config import InstalledBundle
from edge_app.present.report import write_report
from edge_app.present.terms import next_step, person_name
from edge_app.present.visits import visits, worst_first
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.words import rule_words

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """Elements, text, and whether every element is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def models(tiny_bundle):
    return Models.open([InstalledBundle(path=tiny_bundle)])


@pytest.fixture
def made(models, save, tmp_path):
    """made({file name: outcome}) screens those pictures and gives (records, report text, page)."""

    def run(files, change=lambda record: record):
        paths = [save(tmp_path / "in" / name, outcome) for name, outcome in files.items()]
        with Results(tmp_path / "out", models.described) as results:
            records = [change(record) for of_file in screen_files(models, paths, results) for record in of_file]
        write_report(tmp_path / "out" / "report.html", records, models.described, tmp_path / "out" / "overlays")
        text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        return records, text, Page(text)

    return run


def test_everything_is_there_worst_first(made, models):
    records, text, page = made(
        {
            "A_OD_2025-01-31_1.png": "negative",
            "A_OS_2025-01-31_1.png": "negative",
            "B_OD_2025-01-31_1.png": "negative",
            "B_OS_2025-01-31_1.png": "refer",
            "C_OD_2025-01-31_1.png": "insufficient",
            "D_OD_2025-01-31_1.png": "not_analysed",
        }
    )
    order = [text.index(f"Patient {patient} · 2025-01-31") for patient in "BCDA"]
    assert order == sorted(order)
    shown = " ".join("".join(page.text).split())
    for record in records:
        assert shown.count(record.file) >= 1
        for reason in record.reasons:
            assert reason in shown
    [(bundle, artifact)] = models.described
    for fact in (artifact.sha256, bundle.spec.hash, bundle.digest, bundle.training_data["statement"]):
        assert fact in shown
    assert shown.count("Research use only – not for clinical use") >= 2
    assert shown.count("This is not a negative result") == 4  # two images, two eyes without one
    for step in (
        "Take the picture again: patient number C, right eye (OD), picture of 2025-01-31.",
        "Take a red/green ultra-widefield picture: patient number D, right eye (OD), picture of 2025-01-31.",
    ):
        assert step in shown
    assert "Left eye: no image" in shown


def test_it_needs_nothing_else(made):
    _, text, page = made({"a.png": "refer", "b.png": "not_analysed"})
    links = [a[key] for _, a in page.elements for key in ("src", "href", "action", "data", "srcset") if key in a]
    assert links
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert "url(" not in text
    assert "@import" not in text
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    policy = [a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    images = [a for t, a in page.elements if t == "img"]
    assert len(images) == 3  # image and map of the one, the image of the other
    assert all(image["alt"] for image in images)
    assert dict(page.elements)["html"]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_names_and_headers_cannot_inject(made):
    def hostile(record: ScreeningRecord) -> ScreeningRecord:
        return replace(
            record,
            file=HOSTILE,
            folder=HOSTILE,
            patient_id=HOSTILE,
            study_date=HOSTILE,
            eye_source=HOSTILE,
            reasons=(HOSTILE,),
            warnings=(HOSTILE,),
            error=HOSTILE,
            duplicate_of=HOSTILE,
            source={HOSTILE: HOSTILE, "image_type": [HOSTILE]},
            quality={HOSTILE: 1.0},
        )

    _, text, page = made({"a_OD_2025-01-31_1.png": "refer"}, hostile)
    assert "<script" not in text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in "".join(page.text)
    assert "Patient " + HOSTILE in "".join(page.text)


def test_only_a_finding_is_outlined(made):
    """What is printed does not suggest a finding that the rule did not make."""
    _, text, page = made({"A_OD_2025-01-31_1.png": "negative", "B_OD_2025-01-31_1.png": "refer"})
    images = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert sum("outlined" in alt for alt in images) == 1
    assert len(images) == 3
    assert text.count("No label reaches its threshold: nothing is outlined") == 1


@pytest.mark.parametrize("overlay", ["../../secret.jpg", "/etc/passwd", "absent.jpg", None])
def test_an_overlay_outside_of_its_folder_or_gone_is_told(made, overlay):
    _, text, page = made({"a.png": "refer"}, lambda record: replace(record, overlay=overlay))
    assert "No picture could be shown" in text
    assert "img" not in {tag for tag, _ in page.elements}


def test_an_empty_run_is_a_page(made):
    _, text, _ = made({})
    assert "0 image" in " ".join(re.sub("<[^>]+>", "", text).split())


@pytest.fixture(scope="module")
def several(tiny_bundle, tiny_bundles):
    """A bundle for laser pictures, and two for photographs, of which one decides on nothing."""
    folders = (tiny_bundle, tiny_bundles / "decides", tiny_bundles / "describes")
    return Models.open([InstalledBundle(path=each) for each in folders])


def counted(text: str) -> dict[str, int]:
    """The numbers of results above the overview."""
    found = re.findall(r"<li><span><b>(\d+)</b> results?</span>.*?</svg>(.*?)</span></li>", text)
    return {name: int(number) for number, name in found}


def test_the_results_of_several_bundles_for_a_picture_stand_in_one_card(several, kinds_picture, save, tmp_path):
    laser, photograph = save(tmp_path / "A_OD_2025-01-31_1.png", "negative"), tmp_path / "A_OS_2025-01-31_1.png"
    Image.fromarray(kinds_picture("disc", "fovea")).save(photograph)
    with Results(tmp_path / "out", several.described) as results:
        records = [each for of_file in screen_files(several, [laser, photograph], results) for each in of_file]
    write_report(tmp_path / "report.html", records, several.described, tmp_path / "out" / "overlays")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    one, two = sorted(re.findall(r"<article.*?</article>", text, re.DOTALL), key=len)
    assert "A_OD_2025-01-31_1.png · tiny" in one
    assert two.index("<h5>decides</h5>") < two.index("Refer to an") < two.index("<h5>describes</h5>")
    assert "neither a referral nor a" in two[two.index("<h5>describes</h5>") :]
    assert (two.count("A_OS_2025-01-31_1.png</h4>"), two.count("Image as received")) == (1, 1)
    images = [attributes["alt"] for tag, attributes in Page(two).elements if tag == "img"]
    assert sum("outlined" in alt for alt in images) == len(images) - 1 == 2
    shown = " ".join("".join(Page(text).text).split())
    for bundle, artifact in several.described:
        assert shown.count(bundle.training_data["statement"]) >= 2  # above, and with its scores
        for fact in (bundle.digest, artifact.sha256, bundle.intended_use, rule_words(bundle.task)):
            assert fact in shown
    assert "3 models" in shown
    expected = {"Refer": 1, "Insufficient quality": 0, "Not analysed": 0, "Negative": 1, "Described": 1}
    assert counted(text) == expected
    assert "macro AUROC" in shown


def test_a_result_that_is_missing_is_shown_so_beside_the_others_of_its_picture(several, kinds_picture, tmp_path):
    photograph = tmp_path / "A_OD_2025-01-31_1.png"
    Image.fromarray(kinds_picture()).save(photograph)
    broken = Models([several.of(name) for name in several.names], {"decides": "its file has changed"})
    with Results(tmp_path / "out", broken.described) as results:
        [records] = screen_files(broken, [photograph], results)
    folder, reasons = tmp_path / "out" / "overlays", broken.out_of_order
    write_report(tmp_path / "report.html", records, broken.described, folder, out_of_order=reasons)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = " ".join("".join(Page(text).text).split())
    assert "The model decides is out of order: its results are missing. Its file has changed." in page
    assert (counted(text)["Result missing"], counted(text)["Negative"], counted(text)["Described"]) == (1, 0, 1)
    [card] = re.findall(r"<article.*?</article>", text, re.DOTALL)
    assert card.startswith('<article class="card missing')
    assert "Image as received" in card[card.index("<h5>describes</h5>") :]  # what is out of order has no picture
    assert "No picture could be shown" not in card
    assert 'class="badge negative"' not in text[text.index('<h2 id="overview"') :]


def test_the_worst_picture_comes_first_with_all_its_results():
    def of(bundle: str, name: str, outcome: str) -> ScreeningRecord:
        return replace(record(name, outcome, "A", "OD", "2025-01-01"), bundle_name=bundle)

    given = [of("b", "1", "negative"), of("a", "1", "negative"), of("b", "2", "described"), of("a", "2", "refer")]
    ordered = worst_first(given)
    assert [(each.file, each.bundle_name) for each in ordered] == [("2", "a"), ("2", "b"), ("1", "a"), ("1", "b")]
    [visit] = visits(given)
    assert visit.eyes[0].pictures == [ordered[:2], ordered[2:]]


def record(name: str, outcome: str, patient: str | None, eye: str | None, day: str | None) -> ScreeningRecord:
    return ScreeningRecord(
        file=name,
        folder="/",
        sha256=None,
        outcome=outcome,
        reasons=(),
        patient_id=patient,
        eye=eye,
        study_date=day,
        bundle_name="tiny",
        bundle_version="1",
        bundle_digest="d",
        artifact="float32",
        model_sha256="m",
        spec_hash="s",
        screened_at="2025-01-01T00:00:00+00:00",
    )


PERSON = {
    "patient_name": "Muster^Eva",
    "birth_date": "1970-01-02",
    "sex": "F",
    "patient_id_issuer": "CLINIC",
    "accession_number": "A77",
}


def test_the_report_tells_who_it_is_and_puts_the_right_eye_on_the_left(made):
    files = {"A_OS_2025-01-31_1.png": "refer", "A_OD_2025-01-31_1.png": "negative", "B_OS_2025-01-31_1.png": "negative"}
    _, text, page = made(files, lambda each: replace(each, **PERSON) if each.patient_id == "A" else each)
    shown = " ".join("".join(page.text).split())
    assert "Muster, Eva · Patient A · 2025-01-31" in shown
    facts = ["1970-01-02", "OD, OS", "2025-01-31", "female", "A issued by CLINIC", "A77"]
    places = [shown.index(fact, shown.index("Born")) for fact in facts]
    assert places == sorted(places)
    first, second = text[: text.index("Patient B · ")], text[text.index("Patient B · ") :]
    for visit in (first, second):
        assert visit.index("Right eye (OD)</h3>") < visit.index("Left eye (OS)</h3>")
    assert "No image. This is not a negative result." in second


@pytest.mark.parametrize(
    ("outcome", "error", "says"),
    [
        ("refer", None, None),
        ("negative", None, None),
        ("insufficient", None, "Take the picture again: Muster, Eva, patient number A, left eye (OS), "),
        ("not_analysed", "UnreadableImage", "Take the picture again: Muster, Eva"),
        ("not_analysed", "OSError", "Let the box try again; if that fails too, take the picture again: Muster, Eva"),
        ("not_analysed", None, "Take a suitable picture: Muster, Eva"),
    ],
)
def test_what_to_do_stands_with_whose_picture_it_is(outcome, error, says):
    made = replace(record("1", outcome, "A", "OS", "2025-01-31"), patient_name="Muster^Eva", error=error)
    found = next_step(made)
    if says is None:
        assert found is None
    else:
        assert found.startswith(says)
        assert found.endswith("left eye (OS), picture of 2025-01-31.")
    unknown = next_step(record("1", "insufficient", None, None, None))
    assert unknown == "Take the picture again: patient unknown, eye unknown, picture of an unknown day."


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Muster^Eva", "Muster, Eva"),
        ("Muster^Eva^Maria^Dr.^jun.", "Dr. Muster, Eva Maria jun."),
        ("Muster", "Muster"),
        ("^Eva", "Eva"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎; やまだ, たろう)"),
        ("=山田^太郎", "山田, 太郎"),
        ("a^b^c^d^e^f^g", "d a, b c e"),
        ("^^", "^^"),
    ],
)
def test_names_as_people_write_them(said, written):
    assert person_name(said) == written


def test_days_are_not_combined():
    grouped = visits(
        [
            record("1", "negative", "A", "OD", "2023-01-01"),
            record("2", "insufficient", "A", "OD", "2025-01-01"),
        ]
    )
    assert [(visit.study_date, visit.eyes[0].summary.outcome) for visit in grouped] == [
        ("2025-01-01", "insufficient"),
        ("2023-01-01", "negative"),
    ]


def test_images_of_unknown_patients_are_not_combined():
    [visit] = visits([record(name, o, None, "OD", "2025-01-01") for name, o in (("1", "negative"), ("2", "refer"))])
    assert visit.summary is None
    [group] = visit.eyes
    assert group.summary is None
    assert [r.outcome for r in group.records] == ["refer", "negative"]


def test_every_record_is_in_exactly_one_group():
    records = [
        record(f"{patient}{eye}{day}{o}", o, patient, eye, day)
        for patient in (None, "A", "B")
        for eye in (None, "OD", "OS")
        for day in (None, "2025-01-01")
        for o in ("refer", "negative", "insufficient", "not_analysed")
    ]
    grouped = [r.file for visit in visits(records) for group in visit.eyes for r in group.records]
    assert sorted(grouped) == sorted(r.file for r in records)
