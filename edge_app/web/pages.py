"""What each page of the web page shows and does. Who may ask for it is settled before, in web.py."""

import csv
import hashlib
import io
import logging
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edge_app.config import Config
from edge_app.contradictions import within_study
from edge_app.dicom import Said, header_of
from edge_app.health.status import not_taken
from edge_app.identity import persons
from edge_app.logs import where
from edge_app.present.exports import cell
from edge_app.present.report import ACTIONS, EYES, OUTCOME_NAMES, Visit, local_time, page_environment, task, visits
from edge_app.store.durable import free_bytes
from edge_app.store.store import Item, Result, Review, Stale, Store, seconds_since
from edge_app.web import images as web_images
from edge_app.web.auth import PERMISSIONS, ROLES, Login, Permission, TooManyAttempts, User, csrf_token, new_token
from edge_app.web.worklist import EYE_UNKNOWN, Filter, Worklist
from keras_realmnet import __version__
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.decision import OUTCOMES
from keras_realmnet.screening.record import ScreeningRecord

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent.parent / "static"
PAGE_SIZE = 50  # rows
REMEMBERED = 500  # browsers whose search is remembered while they look at a result

NAVIGATION: tuple[tuple[str, str, Permission], ...] = (
    ("/", "Worklist", "view"),
    ("/quarantine", "Quarantine", "view"),
    ("/deliveries", "Deliveries", "view"),
    ("/health", "Health", "view"),
    ("/audit", "Audit", "audit"),
    ("/about", "About", "view"),
)
PERMISSION_NAMES: dict[Permission, str] = {
    "view": "see worklist, results, quarantine, deliveries, health",
    "review": "agree, disagree, note",
    "set_eye": "set an eye that is unknown",
    "retry": "screen again what is in quarantine, or close it as done",
    "retry_delivery": "send now what waits, send again what was given up",
    "audit": "read and export the audit trail and the reviews",
}
STATES = {
    "pending": "Waiting to be screened",
    "screening": "Being screened",
    "done": "Screened",
    "quarantined": "In quarantine",
    "expired": "Removed by age",
}
DELIVERY_STATES = {
    "dead": "given up",
    "pending": "waiting",
    "delivered": "delivered",
    "superseded": "replaced by a newer revision",
}
KINDS = {"sr": "structured report (DICOM)", "sc": "heat map (DICOM)", "json": "JSON", "csv": "CSV", "fhir": "FHIR"}
SOURCES = {"dicom": "DICOM, from", "folder": "folder"}
# The results that a filter of the worklist knows.
CHOICES: dict[str, str] = {**{outcome: OUTCOME_NAMES[outcome] for outcome in OUTCOMES}, EYE_UNKNOWN: "Eye unknown"}
AGREEMENTS = {"agree": "Agree", "disagree": "Disagree"}
DONE = {  # what a page says after something was done; its address holds the key alone
    "eye": "The eye is set, and the results are sent anew.",
    "review": "The review is saved.",
    "retry": "It will be screened again.",
    "close": "It is closed as done.",
    "delivery": "It is being sent now.",
    "deliveries": "They are being sent now.",
}
ERRORS = {  # heading and text of an error page, where nothing more is known
    400: ("Not understood", "The box could not read what was sent. Go back, load the page again and repeat it."),
    403: ("Not permitted", "You may not see or do this."),
    404: ("Not found", "There is no such page, or what it showed has been removed."),
    405: ("Not possible here", "What this address does is done with a button of a page."),
    413: ("Too much", "What was sent is larger than any form of the box."),
    429: ("Too many attempts", "Wait a quarter of an hour, or ask the administrator."),
    500: ("This did not work", "The box could not answer. Try it again; if it stays so, tell the administrator."),
    503: ("Not now", "The box is busy, and what you asked for was not done. Try it again in a minute."),
}
UNCERTAIN = "It may still be done: look before you repeat it."
UNREADABLE = (
    "A result cannot be read",
    "A result of this patient was written by another release of the box, or is damaged. It is not a negative result. "
    "Look at the image itself, and tell the administrator.",
)
NOT_RECORDED = "The disk is full, or the data base busy: that you look at this is not recorded in the audit trail."
WRONG = "Wrong name or password."
TOO_MANY = "Too many failed attempts. Wait a quarter of an hour, or ask the administrator."


@dataclass
class Site:
    """What all pages need: the box, and what the web page itself remembers."""

    config: Config
    store: Store
    bundle: Bundle
    problems: Callable[[], Sequence[str]]
    _searches: OrderedDict[str, tuple[Filter, int]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        web = self.config.web
        self.local = web.local
        self.encrypted = web.tls_certificate is not None or web.behind_tls_proxy
        self.cookie = "__Host-realmnet" if self.encrypted else "realmnet"  # the prefix binds it to this host
        self.login = Login(self.store, web.session_minutes)
        self.worklist = Worklist(self.store)
        self.environment = page_environment()
        self.environment.filters.update(when=local_time, duration=_duration, name=_name)
        self.environment.globals.update(
            bundle=self.bundle,
            artifact=self.bundle.artifact(self.config.artifact),
            thresholds=self.bundle.operating_point.thresholds,
            pathologic=self.bundle.label_set.pathologic,
            assets=_static_version(),
            login_required=not self.local,
            outcomes=OUTCOMES,
            outcome_names=OUTCOME_NAMES,
            actions=ACTIONS,
            eyes=EYES,
            states=STATES,
            delivery_states=DELIVERY_STATES,
            kinds=KINDS,
            agreements=AGREEMENTS,
            origin=lambda item: f"{SOURCES[item.source]} {item.origin}",
            review_text=_review_text,
        )

    def message(
        self, status: int, request: Request | None = None, heading: str | None = None, text: str | None = None
    ) -> Response:
        """An error page that needs neither the data base nor to know who asks; see ERRORS for what it says.

        HTMX, which asks for parts of pages, gets a line that it shows above the page (static/trouble.js).
        """
        part = request is not None and "hx-request" in request.headers
        known = ERRORS.get(status, ERRORS[500])
        page = self.environment.get_template("web/trouble.html.j2" if part else "web/message.html.j2").render(
            user=None,
            theme=_theme(request),
            message="",
            not_recorded="",
            heading=heading or known[0],
            text=text or known[1],
        )
        return HTMLResponse(page, status)

    def remember(self, token: str, filter: Filter, offset: int) -> None:
        """Keeps what a browser searches for, in memory, while somebody looks at a result."""
        with self._lock:
            self._searches.pop(token, None)
            self._searches[token] = (filter, offset)
            if len(self._searches) > REMEMBERED:
                self._searches.popitem(last=False)

    def remembered(self, token: str) -> tuple[Filter, int]:
        return self._searches.get(token, (Filter(), 0))

    def forget(self, token: str) -> None:
        with self._lock:
            self._searches.pop(token, None)


@dataclass
class Visitor:
    """One request: who asks (None: nobody who is known), what for, and the token of the browser's cookie."""

    site: Site
    request: Request
    form: Mapping[str, str]
    user: User | None
    token: str

    @property
    def name(self) -> str:
        return self.user.name if self.user is not None else "nobody"

    @property
    def htmx(self) -> bool:
        """Whether a part of a page is asked for."""
        return "hx-request" in self.request.headers

    def redirect(self, path: str) -> Response:
        if self.htmx:
            return Response(headers={"HX-Redirect": path})
        return RedirectResponse(path, 303)

    def item(self) -> Item:
        """The item that the address names. Raises HTTPException (404) where there is none."""
        number = self.request.path_params["id"]
        item = self.site.store.item(number)
        if item is None:
            raise HTTPException(404)
        return item

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        path, user = self.request.url.path, self.user
        text = self.site.environment.get_template(f"web/{template}").render(
            user=user,
            can=lambda permission: user is not None and user.may(permission),
            csrf=csrf_token(self.token),
            theme=_theme(self.request),
            here="/" if path.startswith("/items/") else path,
            url_path=path,
            navigation=[(path, name) for path, name, needed in NAVIGATION if user is not None and user.may(needed)],
            attention={} if user is None else self._attention(),
            not_recorded=context.pop("not_recorded", ""),
            message=context.pop("message", DONE.get(self.request.query_params.get("done", "")) if status < 400 else ""),
            message_kind=context.pop("message_kind", "good"),
            **context,
        )
        return HTMLResponse(text, status)

    def message(self, status: int, heading: str | None = None, text: str | None = None) -> Response:
        """As `Site.message`, with the pages that this visitor may go to."""
        if self.htmx:
            return self.site.message(status, self.request, heading, text)
        known = ERRORS.get(status, ERRORS[500])
        return self.page("message.html.j2", status, heading=heading or known[0], text=text or known[1])

    def record(self, action: str, item_id: int) -> str:
        """Writes to the audit trail what somebody looks at; says so where it cannot be written.

        Looking goes on: a full disk hides no result (docs/threat_model.md).
        """
        try:
            self.site.store.audit(self.name, action, item_id)
        except sqlite3.OperationalError as error:
            log.warning("not in the audit trail: %s %s item %d (%s)", self.name, action, item_id, where(error))
            return NOT_RECORDED
        return ""

    def _attention(self) -> dict[str, int]:
        counts = self.site.store.counts()
        return {"/quarantine": counts.items["quarantined"], "/deliveries": counts.deliveries["dead"]}

    def page_number(self) -> int:
        given = self.request.query_params.get("page", "1")
        return int(given) if re.fullmatch("[1-9][0-9]{0,8}", given) else 1


def _theme(request: Request | None) -> str:
    return "light" if request is not None and request.cookies.get("theme") == "light" else "dark"


def storage_words(error: sqlite3.Error) -> tuple[str, str]:
    """Heading and text of the page that tells of a failure of the data base."""
    if "full" in str(error):  # Python 3.10 knows no codes of SQLite's errors
        return "The disk is full", "What you asked for was not done: nothing was saved. Tell the administrator."
    if "locked" in str(error):
        return "Not now", "The data base is busy: nothing was saved. Try it again in a minute."
    return "The data base does not answer", "Nothing was done and nothing saved. Tell the administrator."


def _static_version() -> str:
    """Part of the addresses of static files: browsers keep those of one release, and ask for those of the next."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# ---- worklist ----------------------------------------------------------------------------------------------------


def worklist(visitor: Visitor) -> Response:
    """The search is a form, posted, so that names stay out of addresses; it is remembered for the way back."""
    site, form = visitor.site, visitor.form
    if "clear" in form:
        site.forget(visitor.token)
        return visitor.redirect("/")
    if visitor.request.method == "POST":
        filter = Filter(form.get("query", "")[:100], _choice(form.get("outcome", "")), _day(form.get("since", "")))
        offset = int(form["offset"]) if re.fullmatch(r"[0-9]{1,9}", form.get("offset", "")) else 0
    else:
        filter, offset = site.remembered(visitor.token)
    changes = site.store.changes()
    if "poll" in form and form.get("changes") == str(changes):
        return Response(status_code=204)
    try:
        response = _rows(visitor, filter, offset, changes)
    except Exception:
        site.forget(visitor.token)  # else it would fail for this browser again and again
        raise
    if visitor.request.method == "POST" and "poll" not in form:  # a late poll would bring back the search before
        site.remember(visitor.token, filter, offset)
    return response


def _rows(visitor: Visitor, filter: Filter, offset: int, changes: int) -> Response:
    site = visitor.site
    rows = site.worklist.rows(filter)
    offset = min(offset, max(0, (len(rows) - 1) // PAGE_SIZE * PAGE_SIZE))
    counts = site.store.counts().items
    return visitor.page(
        "rows.html.j2" if visitor.htmx else "worklist.html.j2",
        filter=filter,
        filtered=bool(filter),
        choices=CHOICES,
        rows=rows[offset : offset + PAGE_SIZE],
        total=len(rows),
        offset=offset,
        page_size=PAGE_SIZE,
        changes=changes,
        waiting=counts["pending"] + counts["screening"],
    )


def _choice(text: str) -> str:
    return text if text in CHOICES else ""


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


# ---- one item ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Patient:
    """An item's record among the others of its patient. `items`: {id(record): item}."""

    result: Result
    visit: Visit
    history: tuple[Visit, ...]
    items: dict[int, Item]

    def item_of(self, record: ScreeningRecord) -> int:
        return self.items[id(record)].id

    @cached_property
    def _names(self) -> dict[int, str]:
        return {item.id: _name(item) for item in self.items.values()}

    def name_of(self, item_id: int) -> str:
        return self._names[item_id]


def _patient(store: Store, item: Item) -> _Patient | None:
    found = store.record(item.id)
    if found is None:
        return None
    number = found.record.patient_id
    results = store.patient_records(number) if number else store.object_records(item.object_id)
    items = {id(other.record): other.item for other in results}
    result = next(other for other in results if other.item.id == item.id)
    records = [other.record for other in results]
    person = next(p for p in persons(records) if any(record is result.record for record in p))
    mine = {id(record) for record in person}
    to_come = store.waiting_pictures()

    def waiting(record: ScreeningRecord) -> int:
        return to_come.get(items[id(record)].id, 0)

    history = [visit for visit in visits(records, waiting) if mine.issuperset(map(id, visit.records))]
    history.sort(key=lambda visit: visit.study_date or "", reverse=True)
    visit = next(v for v in history if any(record is result.record for eye in v.eyes for record in eye.records))
    return _Patient(result, visit, tuple(history), items)


def _conflicts(store: Store, item: Item, record: ScreeningRecord | None) -> list[str]:
    """Why it may not be clear whose image this is: within its study, and with the same identity."""
    study = None if record is None else record.source.get("study_instance_uid")
    found = list(within_study([other.record for other in store.study_images(study)])) if study else []
    twins = store.same_instance(item)
    if twins:
        names = ", ".join(f"item {twin.id} ({STATES[twin.state].lower()})" for twin in twins)
        found.append(f"the same SOP Instance UID arrived with other contents: {names}")
    return found


def item(visitor: Visitor) -> Response:
    site, item = visitor.site, visitor.item()
    seen = visitor.request.query_params.get("state")
    if seen is not None and "x-poll" in visitor.request.headers:
        return Response(status_code=204, headers={} if seen == item.state else {"HX-Refresh": "true"})
    patient = _patient(site.store, item)
    record = patient.result.record if patient is not None else None
    folder = _folder(site.store, item.id)
    not_recorded = "" if "done" in visitor.request.query_params else visitor.record("viewed", item.id)
    return visitor.page(
        "item.html.j2",
        not_recorded=not_recorded,
        item=item,
        settled=item.state not in ("pending", "screening"),
        record=record,
        revision=None if patient is None else patient.result.revision,
        visit=None if patient is None else patient.visit,
        history=patient.history if patient is not None and len(patient.history) > 1 else (),
        item_of=None if patient is None else patient.item_of,
        name_of=None if patient is None else patient.name_of,
        has_picture=lambda number: web_images.exists(_folder(site.store, number)),
        conflicts=_conflicts(site.store, item, record),
        size=web_images.size(folder),
        maps=web_images.codes(folder, record),
        pictures=site.store.pictures(item) if (item.pictures or 0) > 1 else (),
        closed_by=site.store.closed_by(item.id) if item.closed_at else None,
        reviews=site.store.reviews(item.id),
        deliveries=site.store.deliveries(item.id),
    )


def report(visitor: Visitor) -> Response:
    site, item = visitor.site, visitor.item()
    patient = _patient(site.store, item)
    if patient is None:
        raise HTTPException(404)
    return visitor.page(
        "print.html.j2",
        not_recorded=visitor.record("report opened", item.id),
        item=item,
        visit=patient.visit,
        item_of=patient.item_of,
        name_of=patient.name_of,
        has_picture=lambda number: web_images.exists(_folder(site.store, number)),
        conflicts=_conflicts(site.store, item, patient.result.record),
        reviews_of=site.store.reviews,
        now=datetime.now(timezone.utc).isoformat(),
    )


def _folder(store: Store, item_id: int) -> Path:
    """Where the worker left the pictures of an item; there may be none."""
    return store.data_dir / "results" / str(item_id)


def preview(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", lambda folder, record: web_images.preview(folder))


def thumbnail(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", lambda folder, record: web_images.thumbnail(folder))


def evidence(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", web_images.evidence)


def class_map(visitor: Visitor) -> Response:
    code = visitor.request.path_params["code"]
    return _picture(visitor, "image/png", lambda folder, record: web_images.class_map(folder, record, code))


def _picture(
    visitor: Visitor, media_type: str, draw: Callable[[Path, ScreeningRecord | None], bytes | None]
) -> Response:
    """What `draw` makes of an item's files. Raises HTTPException (404) where there are none, or they are damaged."""
    store, item = visitor.site.store, visitor.item()
    result = store.record(item.id)
    try:
        content = draw(_folder(store, item.id), None if result is None else result.record)
    except Exception as error:  # the files may hold anything, and so may fail in any way
        log.warning("item %d: its pictures cannot be drawn: %s", item.id, where(error))
        content = None
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type=media_type)


def set_eye(visitor: Visitor) -> Response:
    item = visitor.item()
    result = visitor.site.store.record(item.id)
    if result is None or (result.record.eye is not None and result.record.eye_source != "operator"):
        raise HTTPException(409, "Only an eye that neither the header nor the file name tells can be set.")
    eye = visitor.form.get("eye", "")
    if eye not in ("OD", "OS"):
        raise HTTPException(409, "Choose the right or the left eye.")
    visitor.site.store.set_eye(item.id, eye, visitor.name)
    return _back(item, "eye")


def review(visitor: Visitor) -> Response:
    item, store = visitor.item(), visitor.site.store
    agreement, note = visitor.form.get("agreement", ""), visitor.form.get("note", "").strip()
    if (not agreement and not note) or agreement not in ("", *AGREEMENTS) or len(note) > 2000:
        raise HTTPException(400, "A review agrees or disagrees, or has a note of up to 2000 characters.")
    if store.record(item.id) is None:
        raise HTTPException(409, "There is no result to review.")
    store.review(item.id, visitor.name, {"agreement": agreement, "note": note})
    return _back(item, "review")


def retry(visitor: Visitor) -> Response:
    item = visitor.item()
    _from_quarantine(lambda: visitor.site.store.retry(item.id, visitor.name))
    return _back(item, "retry", visitor.form.get("next"))


def close(visitor: Visitor) -> Response:
    item = visitor.item()
    _from_quarantine(lambda: visitor.site.store.close_item(item.id, visitor.name))
    return _back(item, "close", visitor.form.get("next"))


def _from_quarantine(step: Callable[[], object]) -> None:
    try:
        step()
    except Stale as error:
        raise HTTPException(409, "It is not in quarantine (any more): look at what became of it.") from error


def _back(item: Item, done: str, origin: str | None = None) -> Response:
    """To the list that a form came from, else to the item."""
    page = "/quarantine" if origin == "/quarantine" else f"/items/{item.id}"
    return RedirectResponse(f"{page}?{urlencode({'done': done})}", 303)


# ---- lists -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PutAside:
    """An item in quarantine, what it says about itself, and what a person does about it."""

    item: Item
    said: ScreeningRecord | Said | None
    task: str
    closed_by: str | None


def quarantine(visitor: Visitor) -> Response:
    store, number = visitor.site.store, visitor.page_number()
    closed = visitor.request.query_params.get("show") == "closed"
    items = store.items("quarantined", PAGE_SIZE + 1, (number - 1) * PAGE_SIZE, closed)
    return visitor.page(
        "quarantine.html.j2",
        entries=[_put_aside(store, item) for item in items[:PAGE_SIZE]],
        closed=closed,
        number=number,
        more=len(items) > PAGE_SIZE,
    )


def _put_aside(store: Store, item: Item) -> _PutAside:
    result = store.record(item.id)
    record = None if result is None else result.record
    twins = [twin for twin in store.same_instance(item) if twin.id < item.id]
    said: ScreeningRecord | Said | None = record
    if record is None and item.source == "dicom":
        said = header_of(store.object_path(item))
    if twins:
        step = f"Find out which of the two is right, this one or item {twins[0].id}: whose eyes do they show?"
    elif record is not None:
        step = task(record) or ACTIONS[record.outcome]
    else:
        step = "Let the box try again; if that fails too, find out whose picture it is and take it again."
    return _PutAside(item, said, step, store.closed_by(item.id) if item.closed_at else None)


def deliveries(visitor: Visitor) -> Response:
    store, number = visitor.site.store, visitor.page_number()
    counts = store.counts().deliveries
    state = visitor.request.query_params.get("state", "dead" if counts["dead"] else "all")
    if state not in (*DELIVERY_STATES, "all"):
        raise HTTPException(404)
    found = store.deliveries(
        state=None if state == "all" else state, limit=PAGE_SIZE + 1, offset=(number - 1) * PAGE_SIZE
    )
    return visitor.page(
        "deliveries.html.j2",
        deliveries=found[:PAGE_SIZE],
        number=number,
        more=len(found) > PAGE_SIZE,
        state=state,
        outbox=counts,
        destinations=_destinations(visitor.site),
    )


@dataclass(frozen=True)
class _Destination:
    """A destination on the page: of the configuration, or one that is gone from it and still has results.

    taken: the kinds of results that can be sent there now.
    """

    name: str
    taken: tuple[str, ...]
    counts: dict[str, int]
    oldest_seconds: float | None
    last_error: str | None
    last_delivered_at: str | None


def _destinations(site: Site) -> dict[str, _Destination]:
    counts, last = site.store.destinations(), site.store.last_deliveries()
    waiting = {each.destination: each for each in site.store.waiting_deliveries()}
    taken = {destination.name: destination.results for destination in site.config.destination}
    gone = [name for name in sorted(counts) if name not in taken and (counts[name]["dead"] or counts[name]["pending"])]
    return {
        name: _Destination(
            name,
            taken.get(name, ()),
            counts.get(name, dict.fromkeys(DELIVERY_STATES, 0)),
            waiting[name].oldest_seconds if name in waiting else None,
            waiting[name].last_error if name in waiting else None,
            last.get(name),
        )
        for name in (*taken, *gone)
    }


def retry_delivery(visitor: Visitor) -> Response:
    number = visitor.request.path_params["id"]
    delivery = visitor.site.store.delivery(number)
    if delivery is None:
        raise HTTPException(404)
    if delivery.kind not in _taken(visitor.site, delivery.destination):
        raise HTTPException(409, f"{delivery.destination} is not in the settings, or takes no such result any more.")
    visitor.site.store.redeliver(number, visitor.name)
    return RedirectResponse("/deliveries?done=delivery", 303)


def send_deliveries(visitor: Visitor) -> Response:
    """All results that wait for a destination, or that were given up, are sent now."""
    name, state = visitor.form.get("destination", ""), visitor.form.get("state", "")
    kinds = _taken(visitor.site, name)
    if not kinds:
        raise HTTPException(409, "There is no such destination in the settings.")
    if state not in ("pending", "dead"):
        raise HTTPException(400, "What waits, or what was given up, can be sent.")
    visitor.site.store.redeliver_all(name, kinds, state, visitor.name)
    return RedirectResponse("/deliveries?done=deliveries", 303)


def _taken(site: Site, name: str) -> tuple[str, ...]:
    """The kinds of results that a destination of the configuration takes; none of one that is gone."""
    return next((destination.results for destination in site.config.destination if destination.name == name), ())


def audit(visitor: Visitor) -> Response:
    number = visitor.page_number()
    entries = list(visitor.site.store.trail(PAGE_SIZE + 1, (number - 1) * PAGE_SIZE))
    return visitor.page("audit.html.j2", entries=entries[:PAGE_SIZE], number=number, more=len(entries) > PAGE_SIZE)


def audit_csv(visitor: Visitor) -> Response:
    visitor.site.store.audit(visitor.name, "audit trail exported")
    columns = ("at", "actor", "action", "item_id", "detail")
    return _csv("audit.csv", columns, (tuple(row[c] for c in columns) for row in visitor.site.store.trail()))


def reviews_csv(visitor: Visitor) -> Response:
    visitor.site.store.audit(visitor.name, "reviews exported")
    columns = ("at", "user", "item_id", "sop_instance_uid", "sha256", "outcome", "revision", "kind", "value")
    return _csv("reviews.csv", columns, (tuple(row[c] for c in columns) for row in visitor.site.store.all_reviews()))


def _csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(map(cell, row) for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


# ---- the box -----------------------------------------------------------------------------------------------------


def health(visitor: Visitor) -> Response:
    site = visitor.site
    counts, config = site.store.counts(), site.config
    waiting = counts.oldest_pending_seconds
    oldest = max((each.oldest_seconds for each in site.store.waiting_deliveries()), default=None)
    return visitor.page(
        "health.html.j2",
        problems=site.problems(),
        not_taken=not_taken(site.store),
        dropped=site.store.dropped(),
        tiles=[
            (f"{counts.items['pending'] + counts.items['screening']:,}", "waiting or being screened"),
            ("–" if waiting is None else _duration(waiting), "the oldest of them has waited"),
            (f"{counts.items['done']:,}", "screened"),
            (
                "–" if counts.last_success is None else f"{_duration(seconds_since(counts.last_success))} ago",
                "last result",
            ),
            (f"{counts.items['quarantined']:,}", "in quarantine"),
            (f"{counts.deliveries['pending']:,}", "deliveries waiting"),
            ("–" if oldest is None else _duration(oldest), "the oldest of these has waited"),
            (f"{counts.deliveries['dead']:,}", "deliveries given up"),
            (f"{free_bytes(config.data_dir) / 2**30:,.1f} GB", "free on the disk"),
        ],
        senders=_last_received(site),
        receivers=_last_delivered(site),
        box={
            "web page": "this machine only, without login" if site.local else "login, encrypted",
            "DICOM": f"{config.dicom.ae_title}, port {config.dicom.port}" if config.dicom.enabled else "off",
            "watched folders": [folder.name for folder in config.folder] or None,
            "destinations": [destination.name for destination in config.destination] or None,
            "takes nothing in below": f"{config.disk.free_mb:,} MB of free disk",
            "keeps results for": f"{config.retention.days} days" if config.retention.days else "ever",
        },
        versions={
            "this software": __version__,
            "model": f"{site.bundle.name} {site.bundle.version}",
            "Python": python_version(),
            **{name: version(name) for name in ("ai-edge-litert", "opencv-python-headless", "pydicom", "pynetdicom")},
        },
    )


def _last_received(site: Site) -> dict[str, str]:
    """{who sends: when something last came from there}, watched folders that have had nothing included."""
    last: dict[tuple[str, str], str | None] = {("folder", folder.name): None for folder in site.config.folder}
    last |= site.store.last_received()
    return {f"{SOURCES.get(source, source)} {origin}": _ago(at) for (source, origin), at in last.items()}


def _last_delivered(site: Site) -> dict[str, str]:
    """{destination: when a result last arrived there}, also of destinations that are no longer configured."""
    last: dict[str, str | None] = {destination.name: None for destination in site.config.destination}
    last |= site.store.last_deliveries()
    return {name: _ago(at) for name, at in last.items()}


def about(visitor: Visitor) -> Response:
    return visitor.page("about.html.j2", roles=ROLES, permissions=PERMISSIONS, permission_names=PERMISSION_NAMES)


# ---- people ------------------------------------------------------------------------------------------------------


def login_form(visitor: Visitor) -> Response:
    return RedirectResponse("/", 303) if visitor.user is not None else visitor.page("login.html.j2")


def login(visitor: Visitor) -> Response:
    """A new session has a new token: one that somebody planted in the browser before is worth nothing."""
    client = visitor.request.client
    try:
        token = visitor.site.login.login(
            visitor.form.get("name", "").strip(), visitor.form.get("password", ""), client.host if client else "?"
        )
    except TooManyAttempts:
        return visitor.page("login.html.j2", 429, message=TOO_MANY, message_kind="bad")
    if token is None:
        return visitor.page("login.html.j2", 401, message=WRONG, message_kind="bad")
    visitor.token = token
    return RedirectResponse("/", 303)


def logout(visitor: Visitor) -> Response:
    site, token = visitor.site, visitor.token
    site.forget(token)
    visitor.token = new_token()
    try:
        site.login.logout(token)
    except sqlite3.OperationalError as error:
        log.warning("%s", where(error))
        visitor.user = None
        text = f"This browser is logged out, but the session itself ends only after {site.config.web.session_minutes}"
        return visitor.message(503, storage_words(error)[0], f"{text} minutes: the end of it could not be saved.")
    return RedirectResponse("/login" if not visitor.site.local else "/", 303)


def theme(visitor: Visitor) -> Response:
    back = visitor.form.get("next", "")
    response = RedirectResponse(back if re.fullmatch(r"/([a-z]+|items/[0-9]{1,18}(/report)?)?", back) else "/", 303)
    chosen = "light" if visitor.form.get("theme") == "light" else "dark"
    response.set_cookie("theme", chosen, max_age=31536000, samesite="strict", secure=visitor.site.encrypted)
    return response


# ---- words -------------------------------------------------------------------------------------------------------


def _ago(moment: str | None) -> str:
    return "never" if moment is None else f"{local_time(moment)} ({_duration(seconds_since(moment))} ago)"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def _name(item: Item) -> str:
    name = item.file_name or f"DICOM object, item {item.object_id}"
    return name if (item.pictures or 0) < 2 else f"{name}, picture {item.frame} of {item.pictures}"


def _review_text(review: Review) -> str:
    if review.kind == "eye":
        return f"set the eye: {EYES[review.value].lower()}"
    return AGREEMENTS[review.value].lower() + "s" if review.kind == "agreement" else review.value
