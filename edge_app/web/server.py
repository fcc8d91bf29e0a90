"""The web page of the box: who is let in, and the threads in which pages are made.

Only this machine can reach it unless it is configured otherwise; then everybody logs in and everything is encrypted.
Pages are made on the server (templates/web), HTMX fetches what changes, and nothing comes from the internet.
"""

import asyncio
import ipaddress
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge_app.config import Config
from edge_app.logs import error_place
from edge_app.store.store import Store
from edge_app.web.auth import LOCAL_USER, Permission, csrf_token, is_token, new_token
from edge_app.web.connections import Settings
from edge_app.web.routes import MACHINES, ROUTES, Page
from edge_app.web.shield import MAX_BODY, Shield
from edge_app.web.site import STATIC, Site, Visitor
from edge_app.web.words import UNCERTAIN, UNREADABLE, storage_words
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["WebServer", "make_app", "start"]

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")  # a foreign name never resolves to a page under these
START_SECONDS, STOP_SECONDS = 20, 10
PAGE_SECONDS = 10.0  # for making a page, or doing what a form asks for
BUSY_SECONDS = 4  # of them, that the page waits for another one's transaction
PAGE_THREADS = 4  # for each page: one that hangs takes none from the others
MAX_PAGES = 128  # that are being made or wait for their turn; more are refused at once

Answer = TypeVar("Answer")


def make_app(
    config: Config,
    store: Store,
    bundles: Sequence[Bundle],
    metrics: Callable[[], bytes] = lambda: b"",
    problems: Callable[[], Sequence[str]] = lambda: (),
) -> Starlette:
    """The ASGI application.

    Args:
        store: opened by this process.
        metrics: the text that /metrics answers, in Prometheus' format.
        problems: what keeps the box from working, one line each, without patient data; /readyz answers 503 with them.
    """
    site = Site(config, store, bundles, problems)
    for_people, for_machines = threading.BoundedSemaphore(MAX_PAGES), threading.BoundedSemaphore(MAX_PAGES)

    def threads_of(name: str) -> _PageThreads:
        return _PageThreads(name, store, for_machines if name in MACHINES else for_people)

    routes: list[Route | Mount] = [
        Route(
            path, partial(_serve, site, threads_of(path), permission, page), methods=[method], name=f"{method} {path}"
        )
        for path, method, permission, page in ROUTES
    ]
    routes += [
        Route("/healthz", _alive),
        Route("/readyz", partial(_for_machines, threads_of("/readyz"), partial(_ready, site))),
        Route("/metrics", partial(_for_machines, threads_of("/metrics"), partial(_metrics, site, metrics))),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Shield, site=site),
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=[*map(str.lower, config.web.allowed_hosts), *LOOPBACK_NAMES],
                www_redirect=False,
            ),
        ],
        exception_handlers={HTTPException: partial(_error_page, site, threads_of("errors"))},
    )
    app.state.site = site
    return app


# ---- one request -------------------------------------------------------------------------------------------------


class _Busy(Exception):
    """There is no room for what was asked, or it takes too long. `begun`: it may still be done."""

    def __init__(self, begun: bool):
        self.begun = begun


class _PageThreads:
    """The threads that one page is made in: few, and its own, so that one that hangs takes none from the others."""

    def __init__(self, name: str, store: Store, room: threading.BoundedSemaphore):
        self._threads = ThreadPoolExecutor(PAGE_THREADS, f"web {name}")
        self._store, self._room = store, room

    async def __call__(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns. Raises _Busy where MAX_PAGES are asked for, or after PAGE_SECONDS.

        What takes longer goes on, and keeps its thread until it ends.
        """
        if not self._room.acquire(blocking=False):
            raise _Busy(begun=False)
        future = self._threads.submit(self._run, work)
        future.add_done_callback(lambda done: self._room.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), PAGE_SECONDS)
        except asyncio.TimeoutError:
            raise _Busy(begun=not future.cancel()) from None

    def _run(self, work: Callable[[], Answer]) -> Answer:
        # Sorting makes no temporary files: reading goes on where the disk is full.
        for pragma in (f"busy_timeout = {1000 * BUSY_SECONDS}", "temp_store = MEMORY"):
            self._store.db.execute(f"PRAGMA {pragma}")
        return work()


async def _serve(
    site: Site, threads: _PageThreads, permission: Permission | None, page: Page, request: Request
) -> Response:
    form = FormData()
    if request.method == "POST":
        form = await request.form(max_files=0, max_fields=20, max_part_size=MAX_BODY)
    try:
        return await threads(partial(_answer, site, permission, page, request, form))
    except _Busy as busy:
        log.error("%s: %s", page.__name__, "takes too long" if busy.begun else "no room for it")
        return site.message(503, request, *(("This takes too long", UNCERTAIN) if busy.begun else ()))
    except sqlite3.Error as error:
        log.error("%s", error_place(error))
        return site.message(503, request, *storage_words(error))


def _answer(site: Site, permission: Permission | None, page: Page, request: Request, form: FormData) -> Response:
    visitor = _visitor(site, request, form)
    if request.method == "POST" and form.get("csrf") != csrf_token(visitor.token):
        response = visitor.message(403, "This form is no longer valid", "Go back, load the page again and repeat it.")
    elif permission is None or (visitor.user is not None and visitor.user.may(permission)):
        try:
            response = page(visitor)
        except HTTPException as error:
            has_detail = error.detail != HTTPException(error.status_code).detail
            response = visitor.message(error.status_code, *(("This did not work", error.detail) if has_detail else ()))
        except (RealMNetError, json.JSONDecodeError) as error:
            log.error("%s", error_place(error))
            response = visitor.message(409, *UNREADABLE)
    elif visitor.user is None:
        response = visitor.redirect("/login")
    else:
        response = visitor.message(403, "Not permitted", f"The role {visitor.user.role} does not allow this.")
    if visitor.token != request.cookies.get(site.cookie):
        response.set_cookie(
            site.cookie, visitor.token, path="/", httponly=True, samesite="strict", secure=site.encrypted
        )
    return response


def _visitor(site: Site, request: Request, form: FormData) -> Visitor:
    """Who asks. A browser without a (whole) token gets one that says nothing but which forms are its own."""
    sent = request.cookies.get(site.cookie)
    token = sent if sent is not None and is_token(sent) else new_token()
    polls = "x-poll" in request.headers or "poll" in form  # the page itself asks: nobody is there for sure
    user = LOCAL_USER if site.local else site.login.user(token, active=not polls)
    return Visitor(site, request, {key: str(value) for key, value in form.items()}, user, token)


async def _error_page(site: Site, threads: _PageThreads, request: Request, error: Exception) -> Response:
    """For what no page was found for, or was not read to the end."""
    assert isinstance(error, HTTPException)
    try:
        response = await threads(lambda: _visitor(site, request, FormData()).message(error.status_code))
    except (_Busy, sqlite3.Error):
        response = site.message(error.status_code, request)
    response.headers.update(error.headers or {})
    return response


# ---- for machines ------------------------------------------------------------------------------------------------


async def _alive(request: Request) -> Response:
    """In no thread and without the data base: it answers as long as this process does."""
    return PlainTextResponse("ok\n")


async def _for_machines(threads: _PageThreads, answer: Callable[[Request], Response], request: Request) -> Response:
    try:
        return await threads(partial(answer, request))
    except (_Busy, sqlite3.Error, OSError) as error:
        log.error("%s: %s", request.url.path, error_place(error))
        return PlainTextResponse("the data base does not answer\n", 503)


def _ready(site: Site, request: Request) -> Response:
    problems = site.problems()
    # What is wrong is for people who are let in, or sit at this machine.
    text = "\n".join(problems) if _may_see_machine(site, request) else f"{len(problems)} problems"
    return PlainTextResponse(f"{text}\n", 503) if problems else PlainTextResponse("ok\n")


def _metrics(site: Site, metrics: Callable[[], bytes], request: Request) -> Response:
    if not _may_see_machine(site, request):
        return PlainTextResponse("Only from this machine, or logged in.\n", 403)
    return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _may_see_machine(site: Site, request: Request) -> bool:
    try:
        here = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        here = False
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    return (here and not forwarded) or _visitor(site, request, FormData()).user is not None


# ---- the server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WebServer:
    """A running server and the port it listens on."""

    port: int
    _server: uvicorn.Server
    _thread: threading.Thread

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finishes the requests that are under way, for STOP_SECONDS at most."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS + 2)


def start(
    config: Config,
    store: Store,
    bundles: Sequence[Bundle],
    metrics: Callable[[], bytes] = lambda: b"",
    problems: Callable[[], Sequence[str]] = lambda: (),
) -> WebServer:
    """Serves `make_app` in a thread; returns when it listens.

    Raises:
        RealMNetError: the address is taken, or the certificate does not fit.
    """
    web = config.web
    address = f"web page on {web.host}:{web.port}"
    app = make_app(config, store, bundles, metrics, problems)
    settings = Settings(
        app,
        bytes(app.state.site.message(400).body),
        host=web.host,
        port=web.port,
        ssl_certfile=web.tls_certificate,
        ssl_keyfile=web.tls_key,
        proxy_headers=web.behind_tls_proxy,  # the addresses of people, as a proxy on this machine tells them
        forwarded_allow_ips="127.0.0.1",
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    try:
        settings.load()
        listener = settings.listen()
    except (OSError, SystemExit) as error:  # uvicorn exits where an address is taken
        raise RealMNetError(f"{address}: cannot be served ({error or 'the address is taken'})") from None
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
    thread.start()
    thread.join(0.05)
    for _ in range(START_SECONDS * 20):
        if server.started or not thread.is_alive():
            break
        thread.join(0.05)
    if not server.started:
        raise RealMNetError(f"{address}: the server did not start")
    return WebServer(listener.getsockname()[1], server, thread)
