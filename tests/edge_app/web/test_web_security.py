"""Who is let in, and what an attacker at the web page does not get: each attack is tried."""

import logging
import re
import ssl
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

from edge_app.store.database import timestamp
from edge_app.web import auth as web_auth
from edge_app.web import server as web
from edge_app.web.auth import PERMISSIONS, ROLES
from edge_app.web.routes import ROUTES
from edge_app.web.server import LOOPBACK_NAMES, make_app
from edge_app.web.words import PERMISSION_NAMES
from keras_realmnet.errors import RealMNetError
from tests.proofs import peers

PASSWORD = "correct horse battery"
COOKIE = "__Host-realmnet"
HOST = "box.clinic.example"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch):
    """argon2 with less memory: `test_passwords_are_hashed_well` looks at what is in use."""
    hasher = web_auth.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
    monkeypatch.setattr(web_auth, "_hasher", hasher)
    monkeypatch.setattr(web_auth, "_UNKNOWN_NAME_HASH", hasher.hash("nobody's password"))


@pytest.fixture
def store(screened_box, _cheap_hashes):
    store = screened_box.store()
    for role in ROLES:
        web_auth.add_user(store, f"{role}-1", role, PASSWORD)
    yield store
    store.close()


@pytest.fixture
def browser(screened_box, store):
    """browser(address) is one that reaches the page from outside, through TLS."""
    app = make_app(screened_box.config(behind_tls_proxy=True, allowed_hosts=[HOST]), store, [screened_box.bundle])

    def make(address="10.0.0.7"):
        return TestClient(app, base_url=f"https://{HOST}", client=(address, 50000), follow_redirects=False)

    return make


def csrf(browser, path="/login"):
    return re.search(r'name="csrf" value="(\w+)"', browser.get(path).text)[1]


def login(browser, name, password=PASSWORD):
    return browser.post("/login", data={"csrf": csrf(browser), "name": name, "password": password})


def token_of(browser):
    return csrf(browser, "/about")


# ---- every answer ------------------------------------------------------------------------------------------------


def test_every_answer_carries_the_headers(browser, screened_box):
    visitor = browser()
    answers = {
        path: visitor.get(path) for path in ("/", "/login", "/nowhere", "/static/web.css", "/healthz", "/metrics")
    }
    answers["bad host"] = visitor.get("/", headers={"Host": "evil.example"})
    login(visitor, "admin-1")
    item = screened_box.items["B_OD_2025-01-31_1.png"]
    for path in (f"/items/{item}", f"/items/{item}/preview.jpg", "/items/4711"):
        answers[path] = visitor.get(path)
    assert {answer.status_code for answer in answers.values()} == {200, 303, 400, 403, 404}
    for path, answer in answers.items():
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == policy["form-action"] == "'self'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert answer.headers["cache-control"] == ("public, max-age=604800" if "static" in path else "no-store")
        assert "server" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "box.clinic.example.evil.example", "", "localhost.evil.example"])
def test_a_foreign_host_is_refused(browser, host):
    """DNS rebinding: a page of evil.example whose name now points to the box."""
    assert browser().get("/login", headers={"Host": host}).status_code == 400
    assert browser().get("/login", headers={"Host": HOST}).status_code == 200
    assert all("." not in name or name == "127.0.0.1" for name in LOOPBACK_NAMES)


def test_a_request_that_is_too_large_is_refused(browser):
    visitor = browser()
    data = {"csrf": csrf(visitor), "name": "x" * 100_000, "password": PASSWORD}
    assert visitor.post("/login", data=data).status_code == 413
    many = {"csrf": csrf(visitor), **{f"f{i}": "x" for i in range(50)}}
    assert visitor.post("/login", data=many).status_code in (400, 413)
    file = {"name": ("x.txt", b"x")}
    assert visitor.post("/login", data={"csrf": csrf(visitor)}, files=file).status_code == 400


def test_files_of_the_box_are_out_of_reach(browser):
    visitor = browser()
    login(visitor, "admin-1")
    for path in (
        "/static/../config.py",
        "/static/%2e%2e/config.py",
        "/static/..%2fconfig.py",
        "/items/1/maps/../preview.jpg.png",
    ):
        assert visitor.get(path).status_code == 404
    assert visitor.get("/static/web.css").status_code == 200


# ---- forms -------------------------------------------------------------------------------------------------------


def test_every_form_needs_the_token_of_its_browser(browser, store, screened_box):
    """CSRF: with the cookie of somebody who is logged in, but a form that was made elsewhere."""
    victim, attacker = browser(), browser()
    login(victim, "admin-1")
    login(attacker, "operator-1")
    before = store.changes(), list(map(tuple, store.trail()))
    posts = [
        path.replace("{id:number}", str(screened_box.items["dicom"])) for path, method, *_ in ROUTES if method == "POST"
    ]
    assert len(posts) >= 11
    for path in posts:
        form = {"eye": "OD", "agreement": "agree", "name": "admin-1", "password": PASSWORD, "theme": "light"}
        for forged in ({}, {"csrf": ""}, {"csrf": token_of(attacker)}, {"csrf": "0" * 64}):
            answer = victim.post(path, data={**form, **forged})
            assert answer.status_code == 403, path
            assert "theme" not in answer.cookies
    assert (store.changes(), list(map(tuple, store.trail()))) == before
    assert victim.get("/").status_code == 200  # not logged out either


def test_nothing_is_changed_by_get(browser, screened_box):
    visitor = browser()
    login(visitor, "admin-1")
    for path, method, *_ in ROUTES:
        if method == "POST" and path not in ("/", "/login"):
            answer = visitor.get(path.replace("{id:number}", str(screened_box.items["dicom"])))
            assert answer.status_code in (404, 405), path


# ---- sessions ----------------------------------------------------------------------------------------------------


def test_without_a_login_nothing_is_shown(browser, screened_box):
    visitor = browser()
    for path, method, permission, _ in ROUTES:
        path = path.replace("{id:number}", str(screened_box.items["B_OD_2025-01-31_1.png"])).replace("{code}", "A3")
        if permission is None:
            continue
        answer = visitor.request(method, path, data={"csrf": csrf(visitor)} if method == "POST" else None)
        assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/login", ""), path
        part = visitor.request(
            method, path, data={"csrf": csrf(visitor)} if method == "POST" else None, headers={"HX-Request": "true"}
        )
        assert (part.headers["HX-Redirect"], part.text) == ("/login", ""), path


def test_the_cookie_is_bound_and_hidden(browser):
    visitor = browser()
    cookies = [visitor.get("/login").headers["set-cookie"], login(visitor, "operator-1").headers["set-cookie"]]
    for cookie in cookies:
        name, *attributes = [part.strip().lower() for part in cookie.split(";")]
        assert name.startswith("__host-realmnet=")
        assert {"httponly", "secure", "path=/", "samesite=strict"} <= set(attributes)
        assert not any(part.startswith(("domain", "expires", "max-age")) for part in attributes)


def test_a_planted_token_is_worth_nothing_after_login(browser, store):
    """Session fixation."""
    planted = web_auth.new_token()
    victim, attacker = browser(), browser()
    victim.cookies.set(COOKIE, planted, domain=HOST)
    form = {"csrf": web_auth.csrf_token(planted), "name": "admin-1", "password": PASSWORD}
    assert victim.post("/login", data=form).status_code == 303
    assert victim.get("/").status_code == 200
    attacker.cookies.set(COOKIE, planted, domain=HOST)
    assert attacker.get("/").headers["location"] == "/login"
    [row] = store.db.execute("SELECT token_hash FROM sessions").fetchall()
    assert planted not in row["token_hash"]
    assert all(value not in row["token_hash"] for value in victim.cookies.values())  # the data base holds no token


def test_the_token_changes_with_every_login_and_logout(browser, store):
    visitor, seen = browser(), set()
    for _ in range(2):
        login(visitor, "clinician-1")
        seen.add(visitor.cookies[COOKIE])
        stolen = visitor.cookies[COOKIE]
        assert visitor.post("/logout", data={"csrf": token_of(visitor)}).status_code == 303
        seen.add(visitor.cookies[COOKIE])
        thief = browser()
        thief.cookies.set(COOKIE, stolen, domain=HOST)
        assert thief.get("/").headers["location"] == "/login"
    assert len(seen) == 4
    assert store.db.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0


def _age(store, **ages):
    with store.write() as db:
        for column, age in ages.items():
            db.execute(f"UPDATE sessions SET {column} = ?", (timestamp(datetime.now(timezone.utc) - age),))


def test_an_idle_session_ends_and_polls_do_not_keep_it(browser, store):
    visitor = browser()
    login(visitor, "operator-1")
    poll = {"csrf": token_of(visitor), "poll": "1"}
    _age(store, seen_at=timedelta(minutes=20))
    assert visitor.post("/", data=poll).status_code == 200  # the page asks, nobody is there
    assert visitor.get("/health", headers={"X-Poll": "1"}).status_code == 200
    assert not store.db.execute("SELECT 1 FROM sessions WHERE seen_at > ?", (_ago(minutes=19),)).fetchone()
    _age(store, seen_at=timedelta(minutes=31))
    assert visitor.post("/", data=poll).headers["location"] == "/login"

    login(visitor, "operator-1")
    for _ in range(3):  # somebody is there
        _age(store, seen_at=timedelta(minutes=20))
        assert visitor.get("/").status_code == 200
        assert store.db.execute("SELECT 1 FROM sessions WHERE seen_at > ?", (_ago(minutes=1),)).fetchone()
    _age(store, created_at=timedelta(hours=12, minutes=1))
    assert visitor.get("/").headers["location"] == "/login"


def _ago(**ages):
    return timestamp(datetime.now(timezone.utc) - timedelta(**ages))


def test_a_clock_that_was_ahead_leaves_no_session_that_never_ends_and_no_account_locked_for_ever(browser, store):
    visitor = browser()
    login(visitor, "operator-1")
    _age(store, seen_at=timedelta(seconds=-30), created_at=timedelta(seconds=-30))  # NTP sets it back by a bit
    assert visitor.get("/").status_code == 200
    for ahead in ({"seen_at": timedelta(days=-100)}, {"created_at": timedelta(days=-100)}):
        visitor = browser()
        login(visitor, "operator-1")
        _age(store, **ahead)
        assert visitor.get("/").headers["location"] == "/login"
    for _ in range(web_auth.ACCOUNT_LIMIT + 1):
        with suppress(web_auth.TooManyAttempts):
            web_auth.Login(store, 30)._count_attempt(web_auth._account("operator-1"), "10.9.9.9")
    assert login(browser(), "operator-1").status_code == 429
    with store.write() as db:
        db.execute("UPDATE login_attempts SET at = ?", (_ago(days=-100),))
    assert login(browser(), "operator-1").status_code == 303


def test_removing_a_user_or_a_new_password_ends_the_sessions(browser, store):
    for change in (
        lambda: web_auth.set_password(store, "clinician-1", "a new password"),
        lambda: web_auth.remove_user(store, "operator-1"),
    ):
        visitor = browser()
        login(visitor, "clinician-1")
        other = browser()
        login(other, "operator-1")
        change()
        ended = [b.get("/").status_code == 303 for b in (visitor, other)]
        assert True in ended
    assert ended == [True, True]
    assert login(browser(), "clinician-1", "a new password").status_code == 303
    assert login(browser(), "operator-1").status_code == 401


# ---- passwords ---------------------------------------------------------------------------------------------------


def test_a_wrong_name_and_a_wrong_password_look_alike(browser):
    answers = [login(browser(), name, "not the password") for name in ("admin-1", "nobody-1", "", "admin-1'--", "\0")]
    bodies = {re.sub(r'value="\w{64}"', "", answer.text) for answer in answers}
    assert {answer.status_code for answer in answers} == {401}
    assert len(bodies) == 1


def test_bytes_that_are_no_text_are_refused(browser):
    visitor = browser()
    body = f"csrf={csrf(visitor)}&name=%ED%A0%80&password=%FF".encode()
    answer = visitor.post("/login", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code in (400, 401)


def test_an_unknown_name_takes_as_long_as_a_known_one(store, monkeypatch):
    hasher = web_auth.PasswordHasher()  # as it is in use
    monkeypatch.setattr(web_auth, "_UNKNOWN_NAME_HASH", hasher.hash("nobody's password"))
    monkeypatch.setattr(web_auth, "_hasher", hasher)
    web_auth.set_password(store, "admin-1", PASSWORD)
    doors, times = web_auth.Login(store, 30), {"admin-1": [], "nobody-1": []}
    for i in range(3):
        for name, taken in times.items():
            started = time.perf_counter()
            assert doors.login(name, "not the password", f"10.0.0.{i}") is None
            taken.append(time.perf_counter() - started)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert unknown > 0.02  # a hash was computed, and a costly one
    assert 1 / 3 < known / unknown < 3  # without one, the quotient would be above 20


def test_an_account_rests_after_failures_even_for_the_right_password(browser, store, monkeypatch):
    monkeypatch.setattr(web_auth, "ACCOUNT_LIMIT", 3)
    for i in range(3):
        assert login(browser(f"10.0.0.{i}"), "admin-1", f"guess {i}").status_code == 401  # from anywhere
    assert login(browser("10.0.0.9"), "admin-1").status_code == 429
    assert login(browser("10.0.0.9"), "nobody-1").status_code == 401  # unknown names are counted, too,
    for _ in range(2):
        login(browser("10.0.0.9"), "nobody-1")
    assert login(browser("10.0.0.9"), "nobody-1").status_code == 429  # so that they cannot be told from known ones
    assert login(browser("10.0.0.9"), "operator-1").status_code == 303  # others come in
    with store.write() as db:
        db.execute("UPDATE login_attempts SET at = ?", (_ago(minutes=16),))
    assert login(browser(), "admin-1").status_code == 303
    assert "login failed" in {row["action"] for row in store.trail()}


def test_an_address_rests_after_failures_with_many_names(browser, monkeypatch):
    monkeypatch.setattr(web_auth, "ADDRESS_LIMIT", 4)
    for i in range(4):
        assert login(browser("10.6.6.6"), f"name-{i}", "guess").status_code == 401
    assert login(browser("10.6.6.6"), "admin-1").status_code == 429
    assert login(browser("10.0.0.7"), "admin-1").status_code == 303


def test_guesses_at_once_are_no_way_around(store, monkeypatch):
    monkeypatch.setattr(web_auth, "ACCOUNT_LIMIT", 3)
    doors, barrier = web_auth.Login(store, 30), threading.Barrier(12)

    def guess(i):
        barrier.wait()
        try:
            return doors.login("admin-1", f"guess {i}", f"10.0.1.{i}")
        except web_auth.TooManyAttempts:
            return "refused"

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(guess, range(12)))
    assert results.count(None) == 3
    assert results.count("refused") == 9


def test_a_good_login_clears_only_its_own_failures(browser, monkeypatch):
    """Else an attacker with an account of his own could go on guessing."""
    monkeypatch.setattr(web_auth, "ADDRESS_LIMIT", 4)
    for _ in range(2):
        login(browser("10.6.6.6"), "admin-1", "guess")
        assert login(browser("10.6.6.6"), "operator-1").status_code == 303
    for _ in range(2):
        login(browser("10.6.6.6"), "admin-1", "guess")
    assert login(browser("10.6.6.6"), "operator-1").status_code == 429


def test_passwords_are_hashed_well(store, monkeypatch):
    monkeypatch.undo()
    web_auth.set_password(store, "admin-1", PASSWORD)
    [hashed] = store.db.execute("SELECT password_hash FROM users WHERE name = 'admin-1'").fetchone()
    parameters = re.match(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$", hashed)
    memory, passes, lanes = map(int, parameters.groups())
    assert (memory >= 64 * 1024, passes >= 3, lanes >= 1) == (True, True, True)  # RFC 9106, second recommendation


@pytest.mark.parametrize(
    ("name", "role", "password", "expected"),
    [
        ("Eva", "operator", PASSWORD, "user name"),
        ("../x", "operator", PASSWORD, "user name"),
        ("eva", "boss", PASSWORD, "role must be one of"),
        ("eva", "operator", "short", "12 to 256"),
        ("eva", "operator", "x" * 257, "12 to 256"),
        ("admin-1", "operator", PASSWORD, "already"),
    ],
)
def test_bad_users_are_refused(store, name, role, password, expected):
    with pytest.raises(RealMNetError, match=expected):
        web_auth.add_user(store, name, role, password)
    assert len(web_auth.users(store)) == 3


# ---- roles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_the_table_says_and_no_more(browser, store, screened_box, role):
    visitor = browser()
    login(visitor, f"{role}-1")
    delivery = store.next_delivery()
    for path, method, permission, _ in ROUTES:
        if permission is None:
            continue
        number = delivery.id if "deliveries" in path else screened_box.items["dicom"]
        path = path.replace("{id:number}", str(number)).replace("{code}", "A3")
        form = {"csrf": token_of(visitor), "eye": "OD", "note": "seen"}
        answer = visitor.request(method, path, data=form if method == "POST" else None)
        assert (answer.status_code == 403) == (role not in PERMISSIONS[permission]), path
        if answer.status_code == 403:
            assert "Not permitted" in answer.text
    shown = visitor.get("/").text
    assert ('href="/audit"' in shown) == (role in PERMISSIONS["audit"])


def test_the_table_of_roles_is_complete_and_shown(browser):
    assert {permission for _, _, permission, _ in ROUTES} - {None} == set(PERMISSIONS) == set(PERMISSION_NAMES)
    visitor = browser()
    login(visitor, "operator-1")
    for name in PERMISSION_NAMES.values():
        assert name in visitor.get("/about").text


# ---- what files say ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))


def _all_pages(visitor, items):
    paths = ["/", "/quarantine", "/deliveries?state=all", "/decisions", "/health", "/about", "/audit", "/nowhere"]
    paths += [f"/items/{item}" for item in items] + [f"/items/{item}/report" for item in items]
    return {path: visitor.get(path) for path in paths}


def test_text_of_files_is_never_code_and_patients_are_in_no_address(browser, screened_box, store):
    """DICOM text and file names full of HTML; the small pages of HTMX's requests are part of these pages."""
    visitor = browser()
    login(visitor, "admin-1")
    note = "<script>alert(3)</script>{{ 7*7 }}"
    store.review(screened_box.items["dicom"], "admin-1", {"note": note})
    store.delivery_failed(store.next_delivery().id, "<script>alert(4)</script>", None)
    pages = _all_pages(visitor, screened_box.items.values())
    for path, answer in pages.items():
        page = Page(answer.text)
        for tag, attributes in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in attributes), (path, tag)
            assert tag != "style", path
            if tag == "script":
                assert attributes["src"].startswith("/static/"), path
            for name in ("src", "href", "action", "hx-get", "hx-post"):
                target = attributes.get(name, "/")
                assert target.startswith(("/", "#", "?")), (path, target)
                assert not target.startswith("//")
                assert not re.search(r"[A-F]_O|2025-01|script|onerror|[<>\"]", target), (path, target)
        title = re.search(r"<title>(.*?)</title>", answer.text)[1]
        assert re.fullmatch(r"[A-Za-z ]+( \d+)? – screening box", title), title  # browsers remember titles
    dicom = pages[f"/items/{screened_box.items['dicom']}"].text
    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in dicom
    assert "{{ 7*7 }}" in dicom
    assert "&lt;img src=x onerror=alert(2)&gt;.png" in pages["/items/10"].text


def test_a_failure_tells_nothing_outside_and_nothing_of_patients_in_the_log(screened_box, store, caplog, monkeypatch):
    def fails(visitor):
        raise ValueError("PATIENT-SECRET /data/PATIENT-SECRET.png")

    monkeypatch.setattr(web, "ROUTES", (("/fails", "GET", None, fails),))
    visitor = TestClient(make_app(screened_box.config(), store, [screened_box.bundle]), base_url="http://localhost")
    with caplog.at_level(logging.DEBUG):
        answer = visitor.get("/fails")
    assert answer.status_code == 500
    assert answer.headers["x-frame-options"] == "DENY"
    assert "PATIENT" not in answer.text + caplog.text
    assert re.search(r"ValueError at .*test_web_security\.py:\d+", caplog.text)


def test_what_people_do_is_not_logged_with_names(browser, screened_box, caplog):
    visitor = browser()
    with caplog.at_level(logging.INFO):
        login(visitor, "admin-1")
        visitor.post("/", data={"csrf": token_of(visitor), "query": "SECRET-NAME"})
        _all_pages(visitor, screened_box.items.values())
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("edge_app", "uvicorn"))
    )
    assert not re.search(r"SECRET|_OD_|script|PHANTOM", logged)


# ---- where it listens --------------------------------------------------------------------------------------------


def test_metrics_and_problems_are_for_this_machine_or_people_who_are_let_in(screened_box, store):
    config = screened_box.config(behind_tls_proxy=True, allowed_hosts=[HOST])
    app = make_app(
        config, store, [screened_box.bundle], lambda: b"numbers", lambda: ["the folder scans cannot be read"]
    )

    def from_(address):
        return TestClient(app, base_url=f"https://{HOST}", client=(address, 1), follow_redirects=False)

    assert from_("127.0.0.1").get("/metrics").text == "numbers"
    assert from_("::1").get("/metrics").text == "numbers"
    assert "scans" in from_("127.0.0.1").get("/readyz").text
    for outside in (from_("10.0.0.7"), from_("testclient")):
        assert outside.get("/metrics").status_code == 403
        assert outside.get("/readyz").status_code == 503
        assert "scans" not in outside.get("/readyz").text
    through_proxy = from_("127.0.0.1").get("/metrics", headers={"X-Forwarded-For": "10.0.0.7"})
    assert through_proxy.status_code == 403
    visitor = from_("10.0.0.7")
    login(visitor, "clinician-1")
    assert visitor.get("/metrics").text == "numbers"


def test_it_is_served_and_stopped(screened_box, store):
    server = web.start(screened_box.config(port=peers.free_port()), store, [screened_box.bundle])
    address = f"http://127.0.0.1:{server.port}/healthz"
    assert urlopen(address, timeout=10).read() == b"ok\n"
    with pytest.raises(RealMNetError, match=f"127.0.0.1:{server.port}"):
        web.start(screened_box.config(port=server.port), store, [screened_box.bundle])
    server.stop()
    assert not server.alive
    with pytest.raises(URLError):
        urlopen(address, timeout=10)


def test_it_is_served_with_tls(screened_box, store, tls):
    assert not screened_box.config(host="0.0.0.0", **tls).web.local  # then people log in
    config = screened_box.config(port=peers.free_port(), **tls)
    server = web.start(config, store, [screened_box.bundle])
    trusted = ssl.create_default_context(cafile=tls["tls_certificate"])
    answer = urlopen(f"https://localhost:{server.port}/about", timeout=10, context=trusted)
    assert answer.headers["strict-transport-security"]
    assert answer.headers["set-cookie"].startswith(COOKIE)
    with pytest.raises((URLError, ConnectionError)):
        urlopen(f"http://localhost:{server.port}/about", timeout=10)
    server.stop()


def test_the_guide_shows_the_table_of_roles():
    guide = (Path(__file__).parents[3] / "docs" / "web.md").read_text(encoding="utf-8")
    for permission, name in PERMISSION_NAMES.items():
        allowed = " | ".join("yes" if role in PERMISSIONS[permission] else "no" for role in ROLES)
        assert f"| {name} | {allowed} |" in guide
