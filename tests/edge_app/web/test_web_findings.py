"""The page, the print and the report of findings of every kind, and of pictures that are described alone."""

import io
import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from edge_app.config import Config
from edge_app.present.report import write_report
from edge_app.present.wording import lines
from edge_app.store.store import Store
from edge_app.web.server import make_app
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.tasks.findings import LabelFinding


@pytest.fixture(params=["decides", "describes"])
def box(request, every_kind, tiny_bundles, tmp_path):
    """(bundle, store, page, {what a picture shows: its result}) of a copy of that box."""
    data_dir, sources = every_kind[request.param]
    shutil.copytree(data_dir, tmp_path / "box")
    store = Store(tmp_path / "box")
    bundle = Bundle.load(tiny_bundles / request.param)
    config = Config.model_validate({"data_dir": str(tmp_path / "box"), "bundle": str(bundle.directory)})
    page = TestClient(make_app(config, store, [bundle]), base_url="http://localhost", client=("127.0.0.1", 50000))
    results = {sources[each.item.sop_instance_uid][0]: store.record(each.item.id) for each in store.worklist()}
    yield bundle, store, page, results
    store.close()


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.mark.parametrize("address", ["/items/{}", "/items/{}/report"])
@pytest.mark.parametrize("shown", ["disc cup fovea", "disc"])
def test_each_finding_has_a_line_also_what_was_not_found(box, shown, address):
    _, _, page, results = box
    record = results[shown].record
    response = page.get(address.format(results[shown].item.id))
    assert response.status_code == 200
    said = text(response.text)
    for line in lines(record):
        assert f"{line.name} {line.result}" in said
    assert len(lines(record)) == sum(not isinstance(each, LabelFinding) for each in record.findings)
    missing = [line.name for line in lines(record) if not line.found]
    of_a_disc = ["Optic cup", "Red lesion", "Grey lesion", "Fovea", "Fovea to disc"]
    assert missing == (of_a_disc if shown == "disc" else ["Grey lesion"])
    assert response.text.count('class="missing"') >= len(missing)


def test_what_is_described_alone_reads_as_no_decision(box):
    bundle, _, page, results = box
    result = results["disc"]
    if bundle.task.refers:
        assert 'class="badge described"' not in page.get(f"/items/{result.item.id}").text
        return
    listed = page.get("/").text
    assert 'class="badge described"' in listed
    assert 'class="badge negative"' not in listed
    assert '<option value="described">' in listed
    for address in (f"/items/{result.item.id}", f"/items/{result.item.id}/report"):
        html = page.get(address).text
        assert 'class="badge described"' in html
        assert 'class="badge negative"' not in html
        assert "neither a referral nor a negative result" in text(html)
    assert "no image is referred, and none is negative" in text(page.get("/about").text)


def test_the_marks_lie_over_the_picture_and_nowhere_else(box):
    _, _, page, results = box
    item = results["disc cup fovea"].item.id
    picture = np.asarray(Image.open(io.BytesIO(page.get(f"/items/{item}/marks.png").content)))
    assert picture.shape == (614, 780, 4)
    drawn = picture[..., 3] > 0
    assert 0 < drawn.mean() < 0.1
    assert drawn[355:365, 245:275].any()  # the cross at the fovea
    assert not drawn[:150].any()  # nothing was found above the disc
    assert f"/items/{item}/marks.png" in page.get(f"/items/{item}").text
    printed = page.get(f"/items/{item}/evidence.jpg")
    assert (printed.status_code, printed.headers["content-type"]) == (200, "image/jpeg")


def test_where_nothing_was_found_nothing_is_marked(box):
    _, store, page, results = box
    result = results["disc"]
    document = result.record.to_dict()
    document["findings"] = [each for each in document["findings"] if each["kind"] in ("label", "measure")]
    document["evidence"] = None
    with store.db:
        store.db.execute("UPDATE records SET record = ? WHERE item_id = ?", (json.dumps(document), result.item.id))
    assert page.get(f"/items/{result.item.id}/marks.png").status_code == 404
    assert page.get(f"/items/{result.item.id}/evidence.jpg").status_code == 404
    assert "marks.png" not in page.get(f"/items/{result.item.id}").text


def test_the_report_says_the_same_and_counts_what_can_occur(box, tmp_path):
    bundle, _, _, results = box
    records = [result.record for result in results.values()]
    write_report(tmp_path / "report.html", records, [(bundle, bundle.artifact())], tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for record in records:
        for line in lines(record):
            assert f"{line.name} {line.result}" in text(html)
    [counted] = re.findall(r'<ul class="counts">.*?</ul>', html, re.DOTALL)
    assert ("Described" in counted, "Negative" in counted) == (not bundle.task.refers, bundle.task.refers)
