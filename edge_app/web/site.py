"""The web page as a whole and one who visits it: what all pages are made with."""

import hashlib
import logging
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from edge_app.config import Config
from edge_app.health import drift
from edge_app.logs import error_place
from edge_app.present.report import page_environment
from edge_app.present.terms import ACTIONS, EYES, SHOWN_NAMES, local_time
from edge_app.store.items import Item
from edge_app.store.store import Store
from edge_app.web.auth import Login, Permission, User, csrf_token
from edge_app.web.words import (
    AGREEMENTS,
    DELIVERY_STATES,
    DONE,
    ERRORS,
    KINDS,
    NOT_RECORDED,
    SOURCES,
    STATES,
    duration,
    name_of,
    review_text,
)
from edge_app.web.worklist import Filter, Worklist
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.tasks.rules import OUTCOMES

__all__ = ["PAGE_SIZE", "STATIC", "Site", "Visitor"]

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent.parent / "static"
PAGE_SIZE = 50  # rows
REMEMBERED = 500  # browsers whose search is remembered while they look at a result

NAVIGATION: tuple[tuple[str, str, Permission], ...] = (
    ("/", "Worklist", "view"),
    ("/quarantine", "Quarantine", "view"),
    ("/deliveries", "Deliveries", "view"),
    ("/decisions", "Decisions", "view"),
    ("/health", "Health", "view"),
    ("/audit", "Audit", "audit"),
    ("/about", "About", "view"),
)


@dataclass
class Site:
    """What all pages need: the box, and what the web page itself remembers."""

    config: Config
    store: Store
    bundles: Sequence[Bundle]
    problems: Callable[[], Sequence[str]]
    _searches: OrderedDict[str, tuple[Filter, int]] = field(default_factory=OrderedDict)
    _warned: tuple[int, list[str]] = (-1, [])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        web = self.config.web
        self.local = web.local
        self.encrypted = web.tls_certificate is not None or web.behind_tls_proxy
        self.cookie = "__Host-realmnet" if self.encrypted else "realmnet"  # the prefix binds it to this host
        self.login = Login(self.store, web.session_minutes)
        self.worklist = Worklist(self.store)
        self.environment = page_environment()
        self.environment.filters.update(when=local_time, duration=duration, name=name_of)
        self.environment.globals.update(
            models=[
                (bundle, bundle.artifact(installed.artifact))
                for bundle, installed in zip(self.bundles, self.config.installed, strict=True)
            ],
            intended_use=" ".join(dict.fromkeys(bundle.intended_use for bundle in self.bundles)),
            digests={bundle.digest for bundle in self.bundles},
            assets=_static_version(),
            login_required=not self.local,
            outcomes=OUTCOMES,
            outcome_names=SHOWN_NAMES,
            actions=ACTIONS,
            eyes=EYES,
            states=STATES,
            delivery_states=DELIVERY_STATES,
            kinds=KINDS,
            agreements=AGREEMENTS,
            origin=lambda item: f"{SOURCES[item.source]} {item.origin}",
            review_text=review_text,
        )

    def drift_warnings(self) -> list[str]:
        """As `drift.warnings`, found again where the store has changed."""
        changes = self.store.changes()
        if self._warned[0] != changes:
            self._warned = changes, drift.warnings(drift.drifts(self.store, self.bundles))
        return self._warned[1]

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
            out_of_order={} if user is None else self.site.store.out_of_order(),
            changed=[] if user is None else self.site.drift_warnings(),
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
            log.warning("not in the audit trail: %s %s item %d (%s)", self.name, action, item_id, error_place(error))
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


def _static_version() -> str:
    """Part of the addresses of static files: browsers keep those of one release, and ask for those of the next."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
