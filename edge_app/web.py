"""The web page of the box: who is let in, what every answer carries, and the table of pages.

Only this machine can reach it unless it is configured otherwise; then everybody logs in and everything is encrypted.
Pages are made on the server (templates/web), HTMX fetches what changes, and nothing comes from the internet: the
Content-Security-Policy forbids it, as it forbids scripts and styles inside of a page.
"""

import ipaddress
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_app import web_pages as pages
from edge_app.config import Config
from edge_app.logs import where
from edge_app.store import Store
from edge_app.web_auth import LOCAL_USER, Permission, csrf_token, is_token, new_token
from edge_app.web_pages import STATIC, Site, Visitor
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle import Bundle

__all__ = ["WebServer", "make_app", "start"]

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")  # a foreign name never resolves to a page under these
MAX_BODY = 64 * 1024  # bytes of a request: forms with a note in them
START_SECONDS, STOP_SECONDS = 20, 10

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

Page = Callable[[Visitor], Response]

# (path, method, who may, page). None: anybody; pages that anybody may ask for decide for themselves.
ROUTES: tuple[tuple[str, str, Permission | None, Page], ...] = (
    ("/", "GET", "view", pages.worklist),
    ("/", "POST", "view", pages.worklist),
    ("/items/{id:int}", "GET", "view", pages.item),
    ("/items/{id:int}/report", "GET", "view", pages.report),
    ("/items/{id:int}/preview.jpg", "GET", "view", pages.preview),
    ("/items/{id:int}/thumbnail.jpg", "GET", "view", pages.thumbnail),
    ("/items/{id:int}/evidence.jpg", "GET", "view", pages.evidence),
    ("/items/{id:int}/maps/{code}.png", "GET", "view", pages.class_map),
    ("/items/{id:int}/eye", "POST", "set_eye", pages.set_eye),
    ("/items/{id:int}/review", "POST", "review", pages.review),
    ("/items/{id:int}/retry", "POST", "retry", pages.retry),
    ("/quarantine", "GET", "view", pages.quarantine),
    ("/deliveries", "GET", "view", pages.deliveries),
    ("/deliveries/{id:int}/retry", "POST", "retry_delivery", pages.retry_delivery),
    ("/deliveries/send", "POST", "retry_delivery", pages.send_deliveries),
    ("/health", "GET", "view", pages.health),
    ("/about", "GET", "view", pages.about),
    ("/audit", "GET", "audit", pages.audit),
    ("/audit.csv", "POST", "audit", pages.audit_csv),
    ("/reviews.csv", "POST", "audit", pages.reviews_csv),
    ("/theme", "POST", None, pages.theme),
    ("/login", "GET", None, pages.login_form),
    ("/login", "POST", None, pages.login),
    ("/logout", "POST", None, pages.logout),
)


def make_app(
    config: Config,
    store: Store,
    bundle: Bundle,
    metrics: Callable[[], bytes] = lambda: b"",
    problems: Callable[[], Sequence[str]] = lambda: (),
) -> Starlette:
    """The ASGI application.

    Args:
        store: opened by this process.
        metrics: the text that /metrics answers, in Prometheus' format.
        problems: what keeps the box from working, one line each, without patient data; /readyz answers 503 with them.
    """
    site = Site(config, store, bundle, problems)
    routes: list[Route | Mount] = [
        Route(path, partial(_serve, site, permission, page), methods=[method], name=f"{method} {path}")
        for path, method, permission, page in ROUTES
    ]
    routes += [
        Route("/healthz", lambda request: PlainTextResponse("ok\n")),
        Route("/readyz", partial(_ready, site)),
        Route("/metrics", partial(_metrics, site, metrics)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_Shield, encrypted=config.web.tls_certificate is not None or config.web.behind_tls_proxy),
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=[*map(str.lower, config.web.allowed_hosts), *LOOPBACK_NAMES],
                www_redirect=False,
            ),
        ],
        exception_handlers={HTTPException: partial(_error_page, site)},
    )


# ---- one request -------------------------------------------------------------------------------------------------


async def _serve(site: Site, permission: Permission | None, page: Page, request: Request) -> Response:
    form = FormData()
    if request.method == "POST":
        form = await request.form(max_files=0, max_fields=20, max_part_size=MAX_BODY)
    return await run_in_threadpool(_answer, site, permission, page, request, form)


def _answer(site: Site, permission: Permission | None, page: Page, request: Request, form: FormData) -> Response:
    visitor = _visitor(site, request, form)
    if request.method == "POST" and form.get("csrf") != csrf_token(visitor.token):
        response = _refusal(visitor, 403, "This form is no longer valid", "Go back, load the page again and repeat it.")
    elif permission is None or (visitor.user is not None and visitor.user.may(permission)):
        try:
            response = page(visitor)
        except HTTPException as error:
            response = _refusal(visitor, error.status_code, *_words(error))
    elif visitor.user is None:
        response = visitor.redirect("/login")
    else:
        response = _refusal(visitor, 403, "Not permitted", f"The role {visitor.user.role} does not allow this.")
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


def _refusal(visitor: Visitor, status: int, heading: str, text: str) -> Response:
    return visitor.page("message.html.j2", status, heading=heading, text=text)


def _words(error: HTTPException) -> tuple[str, str]:
    if error.status_code == 404:
        return "Not found", "There is no such page, or what it showed has been removed."
    return "This did not work", error.detail


def _error_page(site: Site, request: Request, error: Exception) -> Response:
    """For what no page was found for, or was not read to the end."""
    assert isinstance(error, HTTPException)
    return _refusal(_visitor(site, request, FormData()), error.status_code, *_words(error))


# ---- for machines ------------------------------------------------------------------------------------------------


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


class _Shield:
    """The outermost layer: headers on every answer, a limit to every request, and no word of a failure outside.

    A failure is logged by its kind and place only: its message may hold patient data.
    """

    def __init__(self, app: ASGIApp, encrypted: bool):
        self.app = app
        self.headers = {**HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if encrypted else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        static, started, received = scope["path"].startswith("/static/"), False, 0

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                headers["Cache-Control"] = "public, max-age=604800" if static else "no-store"
            await send(message)

        async def guarded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413, "The request is too large.")
            return message

        try:
            await self.app(scope, guarded_receive, guarded_send)
        except Exception as error:
            log.error("%s", where(error))
            if not started:
                await PlainTextResponse("The box could not answer this.\n", 500)(scope, receive, guarded_send)


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
    bundle: Bundle,
    metrics: Callable[[], bytes] = lambda: b"",
    problems: Callable[[], Sequence[str]] = lambda: (),
) -> WebServer:
    """Serves `make_app` in a thread; returns when it listens.

    Raises:
        RealMNetError: the address is taken, or the certificate does not fit.
    """
    web = config.web
    address = f"web page on {web.host}:{web.port}"
    settings = uvicorn.Config(
        make_app(config, store, bundle, metrics, problems),
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
        limit_concurrency=200,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
    )
    try:
        settings.load()
        listener = settings.bind_socket()
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
