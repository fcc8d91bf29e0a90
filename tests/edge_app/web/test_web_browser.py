"""The web page in a real browser, Debian's Chromium: by mouse, keyboard and touch, and with axe-core looking at it."""

import socket
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import run as screen_files
from edge_app.config import InstalledBundle
from edge_app.health import drift
from edge_app.present.report import write_report
from edge_app.web import auth as web_auth
from edge_app.web import server as web
from edge_app.web.pages import health
from tests.proofs import peers

CHROMIUM = Path("/usr/bin/chromium")

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served(screened_box):
    """(address, store) of a box that is reached from its own machine."""
    store = screened_box.store()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = web.start(screened_box.config(port=port), store, [screened_box.bundle])
    yield f"http://127.0.0.1:{port}", store
    server.stop()
    store.close()


@pytest.fixture
def tab(chromium):
    """tab(width, ...) opens a new browser tab; at the end nothing may have been blocked or have failed in it."""
    complaints, contexts = [], []

    def open_tab(width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert complaints == []  # the Content-Security-Policy complains here


def press_until(page, condition, key="Tab", limit=80):
    """Presses a key until the focused element fulfils a condition; fails where the keyboard cannot get there."""
    for _ in range(limit):
        page.keyboard.press(key)
        if page.evaluate(f"(() => {{ const e = document.activeElement; return {condition}; }})()"):
            return
    pytest.fail(f"the keyboard does not reach {condition}")


def test_from_the_worklist_to_the_eye_by_keyboard_alone(tab, served, screened_box):
    address, store = served
    item = screened_box.items["dicom"]
    page = tab()
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    press_until(page, f"e.id === 'row-{item}'")
    assert (
        page.evaluate("(s => s.outlineStyle + s.outlineWidth)(getComputedStyle(document.activeElement))") == "solid3px"
    )
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/items/{item}")
    press_until(page, "e.name === 'eye'")
    page.keyboard.press("ArrowDown")  # from OD to OS
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("The eye is set, and the results are sent anew.").wait_for()
    assert store.record(item).record.eye == "OS"
    press_until(page, "e.name === 'agreement'")
    page.keyboard.press("Space")
    press_until(page, "e.id === 'note'")
    page.keyboard.type("seen at the slit lamp")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("The review is saved.").wait_for()
    assert [review.value for review in store.reviews(item)] == ["OS", "agree", "seen at the slit lamp"]


def scale(page):
    return page.evaluate("new DOMMatrix(getComputedStyle(document.querySelector('.stage')).transform).a")


def corner(page):
    return page.evaluate(
        "(m => [m.e, m.f])(new DOMMatrix(getComputedStyle(document.querySelector('.stage')).transform))"
    )


@pytest.fixture
def result(tab, served, screened_box):
    """The page of an image that refers."""

    def open_result(**options):
        page = tab(**options)
        page.goto(f"{served[0]}/items/{screened_box.items['B_OD_2025-01-31_1.png']}")
        page.wait_for_function("[...document.querySelectorAll('.stage img')].every(i => i.complete && i.naturalWidth)")
        return page

    return open_result


def test_the_image_is_zoomed_and_moved_by_keys_mouse_and_buttons(result):
    page = result()
    whole = scale(page)
    page.focus(".viewer")
    for _ in range(6):
        page.keyboard.press("+")
    assert scale(page) == pytest.approx(whole * 1.25**6, rel=1e-3)
    before = corner(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert [round(a - b) for a, b in zip(corner(page), before, strict=True)] == [-60, -60]
    page.keyboard.press("0")
    assert scale(page) == pytest.approx(whole)

    box = page.locator(".viewer").bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 3
    under = "([x, y]) => { const r = document.querySelector('.stage').getBoundingClientRect();"
    under += " return [(x - r.x) / r.width, (y - r.y) / r.height]; }"
    page.mouse.move(x, y)
    before = page.evaluate(under, [x, y])
    for _ in range(8):
        page.mouse.wheel(0, -100)
    page.wait_for_function(
        f"new DOMMatrix(getComputedStyle(document.querySelector('.stage')).transform).a > {2 * whole}"
    )
    assert page.evaluate(under, [x, y]) == pytest.approx(before, abs=0.01)  # what is under the pointer stays there
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    assert page.evaluate(under, [x + 40, y + 30]) == pytest.approx(before, abs=0.01)
    for _ in range(40):
        page.mouse.wheel(0, -100)
    page.get_by_role("button", name="Fit").click()
    assert scale(page) == pytest.approx(whole)
    page.get_by_role("button", name="Zoom to one screen pixel per image pixel").click()
    assert scale(page) == pytest.approx(1.0)


def test_two_fingers_zoom(result):
    page = result(has_touch=True, width=768)
    whole, box = scale(page), page.locator(".viewer").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind, apart):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 40)
    for apart in range(45, 125, 5):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    assert 2 < scale(page) / whole < 4


def test_the_class_map_of_each_label_lies_exactly_over_the_image(result):
    page = result()
    rectangles = "[...document.querySelectorAll('.stage img')].map(i => JSON.stringify(i.getBoundingClientRect()))"
    image, overlay = page.evaluate(rectangles)
    assert image == overlay
    chosen = page.evaluate("document.querySelector('.map').src")
    assert chosen.endswith("/maps/A3.png")  # the label that refers
    options = page.locator("#label option").all_text_contents()
    assert options[0] == "none"
    assert len(options) == 8
    page.select_option("#label", label="S1 Posterior staphyloma (below its threshold)")
    page.wait_for_function("document.querySelector('.map').src.endsWith('/maps/S1.png')")
    assert page.locator(".map").get_attribute("alt") == "Class map of S1 Posterior staphyloma (below its threshold)"
    page.focus("#opacity")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("getComputedStyle(document.querySelector('.map')).opacity") == "0.5"
    page.focus(".viewer")
    page.keyboard.press("m")
    assert not page.locator(".map").is_visible()
    page.keyboard.press("m")
    assert page.locator(".map").is_visible()
    page.select_option("#label", label="none")
    assert not page.locator(".map").is_visible()


def test_a_new_result_appears_by_itself_and_the_focus_stays(
    tab, served, screened_box, pictures, tmp_path, receive_and_screen
):
    address, _ = served
    page = tab()
    page.goto(address)
    page.evaluate("window.sameDocument = true")
    page.focus(f"#row-{screened_box.items['C_OD_2025-01-31_1.png']}")
    picture = pictures["refer"].copy()
    picture[0, 0] = 99
    Image.fromarray(picture).save(tmp_path / "G_OS_2025-02-02_1.png")
    item = receive_and_screen(tmp_path / "G_OS_2025-02-02_1.png")
    page.locator(f"#row-{item}").wait_for(timeout=60_000)
    assert page.evaluate("window.sameDocument")
    assert page.evaluate("document.activeElement.id") == f"row-{screened_box.items['C_OD_2025-01-31_1.png']}"


def test_the_search_works_as_one_types(tab, served):
    address, _ = served
    page = tab()
    page.goto(address)
    page.fill("#query", "c_od")
    page.get_by_text("1–1 of 1 patients and days").wait_for()
    assert page.url == f"{address}/"  # names stay out of addresses
    # Pressed as slowly as people press: leaving the field must not bring new lines between press and release.
    page.get_by_role("link", name="C", exact=True).click(delay=500)
    page.wait_for_url(f"{address}/items/*")
    page.go_back()
    page.get_by_text("1–1 of 1 patients and days").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("1–9 of 9 patients and days").wait_for()


def test_a_click_is_not_lost_when_results_arrive_under_it(tab, served, screened_box):
    address, store = served
    item = screened_box.items["B_OD_2025-01-31_1.png"]
    page = tab()
    page.goto(address)
    page.locator(f"#row-{item}").hover()
    page.mouse.down()
    store.set_eye(screened_box.items["dicom"], "OD", "somebody")
    with page.expect_response(lambda answer: answer.request.method == "POST" and answer.status == 200):
        pass
    page.wait_for_timeout(300)  # for a swap, if there were one
    page.mouse.up()
    page.wait_for_url(f"{address}/items/{item}")


OUT_OF_REACH = """[...document.querySelectorAll("button, a, input, select, textarea, summary")].filter(e => {
  const box = e.getBoundingClientRect();
  return e.checkVisibility() && box.width && !e.classList.contains("skip") && (box.left < 0 || box.right > innerWidth);
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_accessible_and_fits(
    tab, served, screened_box, pictures, receive_and_screen, width, theme, tmp_path
):
    """axe has nothing to say, nothing is wider than the screen, and what can be pressed is within reach."""
    address, store = served
    store.delivery_failed(store.next_delivery().id, "refused", None)
    store.drop_object("Encapsulated PDF Storage", "SCANNER")
    store.close_item(peers.take_in(store, b"other bytes", **twin_of(store, screened_box.items["dicom"])).id, "eva")
    image = peers.ophthalmic(pictures["refer"], PatientName="Muster" * 12 + "^Eva", PatientID="T-" + "1" * 60)
    image.NumberOfFrames = 2
    image.PixelData = pictures["refer"].tobytes() + pictures["negative"].tobytes()
    frames = receive_and_screen(peers.write(image, tmp_path / "frames.dcm"))
    page = tab(width)
    page.context.add_cookies([{"name": "theme", "value": theme, "url": address}])
    items = [frames, *(screened_box.items[name] for name in ("dicom", "B_OD_2025-01-31_1.png", "damaged"))]
    paths = ["", "quarantine", "quarantine?show=closed", "deliveries?state=all", "decisions"]
    paths += ["health", "audit", "about"]
    paths += [f"items/{item}{part}" for item in items for part in ("", "/report")]
    for path in paths:
        page.goto(f"{address}/{path}")
        faults = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["target"]) for fault in faults] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(OUT_OF_REACH) == [] or path == "audit", path  # whose table scrolls in itself
        assert page.get_by_text("Research use only – not for clinical use", exact=True).first.is_visible()


@pytest.fixture(scope="module", params=["one bundle", "several"])
def report(tiny_bundle, tiny_bundles, pictures, kinds_picture, request, tmp_path_factory):
    """A report of the command `screen` with a picture of each outcome; of several bundles also with a picture that two
    of them have seen, and with one whose result is missing."""
    folders = [tiny_bundle] if request.param == "one bundle" else [tiny_bundle, *tiny_bundles.iterdir()]
    folder, models = tmp_path_factory.mktemp("report"), Models.open([InstalledBundle(path=each) for each in folders])
    reasons, files = {}, [folder / "D_OD_2025-01-31_1.png"]
    Image.fromarray(kinds_picture("disc", "cup", "fovea")).save(files[0])
    for name, outcome in (("A_OD", "refer"), ("A_OS", "negative"), ("B_OD", "insufficient"), ("C", "not_analysed")):
        files.append(folder / f"{name}_2025-01-31_1.png")
        Image.fromarray(pictures[outcome]).save(files[-1])
    with Results(folder / "out", models.described) as results:
        records = [record for found in screen_files(models, files, results) for record in found]
        if len(folders) > 1:
            reasons["decides"] = "its file has changed"
            models = Models([models.of(name) for name in models.names], reasons)
            Image.fromarray(kinds_picture("disc")).save(folder / "E_OS_2025-01-31_1.png")
            records += next(screen_files(models, [folder / "E_OS_2025-01-31_1.png"], results))
    overlays = folder / "out" / "overlays"
    write_report(folder / "report.html", records, models.described, overlays, out_of_order=reasons)
    return folder / "report.html"


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_file_is_accessible_and_fits(chromium, report, width, theme):
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": theme}
    with chromium.new_context(**options, bypass_csp=True) as context:  # its policy allows no script, so not axe's
        page = context.new_page()
        page.goto(report.as_uri())
        faults = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["target"]) for fault in faults] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_page_that_is_not_there_is_accessible_too(chromium, served, theme):
    with chromium.new_context(viewport={"width": 390, "height": 900}) as context:
        context.add_cookies([{"name": "theme", "value": theme, "url": served[0]}])
        page = context.new_page()
        page.goto(f"{served[0]}/nowhere")
        assert [fault["id"] for fault in axe.Axe().run(page).response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def twin_of(store, number):
    """The identity of an object, for another with other contents."""
    item = store.item(number)
    return {key: getattr(item, key) for key in ("sop_instance_uid", "sop_class_uid", "study_uid")}


def test_both_eyes_stand_side_by_side(tab, served, screened_box):
    """The right eye on the left, on the screen and on paper; several images of one eye in a grid."""
    address, _ = served
    page = tab()
    item = screened_box.items["B_OS_2025-01-31_1.png"]
    for path, medium in (("", "screen"), ("/report", "screen"), ("/report", "print")):
        page.emulate_media(media=medium)
        page.goto(f"{address}/items/{item}{path}")
        right, left = (page.locator(".eyes > *").nth(n).bounding_box() for n in (0, 1))
        assert right["x"] + right["width"] <= left["x"]
        assert abs(right["y"] - left["y"]) < 2
        assert page.locator(".eyes > *").nth(0).inner_text().startswith("Right eye (OD)")
    page.emulate_media(media="screen")
    page.goto(f"{address}/items/{item}")
    first, second = (page.locator(".eyes > * >> nth=1").locator(".thumbs > li").nth(n).bounding_box() for n in (0, 1))
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]


def test_login_in_the_browser(tab, screened_box):
    store = screened_box.store()
    web_auth.add_user(store, "eva", "operator", "correct horse battery")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = web.start(screened_box.config(port=port, behind_tls_proxy=True), store, [screened_box.bundle])
    page = tab()
    page.goto(f"http://localhost:{port}/quarantine")
    assert page.url.endswith("/login")
    assert [fault["id"] for fault in axe.Axe().run(page).response["violations"]] == []
    page.get_by_label("Name").fill("eva")
    page.get_by_label("Password").fill("correct horse battery")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Worklist").wait_for()
    assert page.get_by_role("link", name="Audit").count() == 0
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    server.stop()
    store.close()


def test_a_list_that_cannot_be_renewed_says_so_and_stays(chromium, served, monkeypatch):
    """An old list must not pass for a new one; nor may an error page land inside of it."""
    address, store = served

    def locked():
        raise sqlite3.OperationalError("database is locked")

    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(address)
        trouble = page.locator("#trouble")
        assert trouble.inner_text() == ""
        with monkeypatch.context() as patch:
            patch.setattr(store, "changes", locked)
            trouble.get_by_text("What is shown below may be out of date.").wait_for()
            assert page.locator("#rows tbody tr").count() == 9
            assert page.locator("h1").count() == page.locator("header.top").count() == 1
        sync_api.expect(trouble).to_be_empty(timeout=30_000)  # the next poll is answered
        context.set_offline(True)
        trouble.get_by_text("The box does not answer.").wait_for()
        assert page.locator("#rows tbody tr").count() == 9
        context.set_offline(False)
        sync_api.expect(trouble).to_be_empty(timeout=30_000)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_change_of_camera_is_told_on_pages_that_stay_accessible(tab, served, screened_box, monkeypatch, width, theme):
    address, _ = served
    indices = {"blue_ratio": (0.9, 0.3), "outcomes": (0.1, 0.3)}
    found = [drift.Drift("tiny", "dicom SCANNER", 100, indices, 20.0), drift.Drift("tiny", "folder share", 3, {}, 0.0)]
    monkeypatch.setattr(drift, "drifts", lambda *_: found)
    monkeypatch.setattr(health, "drifts", lambda *_: found)
    page = tab(width)
    page.context.add_cookies([{"name": "theme", "value": theme, "url": address}])
    for path in ("", "health"):
        page.goto(f"{address}/{path}")
        assert page.get_by_text("Pictures have changed.").is_visible()
        faults = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["target"]) for fault in faults] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert "Sum of distances, limit 10" in page.content()
    page.goto(f"{address}/items/{screened_box.items['dicom']}/report")
    assert page.get_by_text("Pictures have changed.").is_visible()
    page.emulate_media(media="print")
    assert not page.get_by_text("Pictures have changed.").is_visible()  # on a patient's paper it is another camera's
