"""The outermost layer of the web page: headers on every answer, a limit to every request, a page for every error.

The Content-Security-Policy forbids everything from the internet, and scripts and styles inside of a page.
"""

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_app.logs import error_place
from edge_app.web.connections import WRITE_BUFFER
from edge_app.web.routes import MACHINES
from edge_app.web.site import Site

__all__ = ["MAX_BODY", "Shield"]

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024  # bytes of a request: forms with a note in them
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


class Shield:
    """A failure is logged by its kind and place only: its message may hold patient data."""

    def __init__(self, app: ASGIApp, site: Site):
        self.app, self.site = app, site
        self.headers = {**HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if site.encrypted else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        static, machine = scope["path"].startswith("/static/"), scope["path"] in MACHINES
        started, replaced, received = False, False, 0

        async def guarded_send(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started = True
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if message["status"] >= 400 and kind.startswith("text/plain") and not machine:
                    replaced = True  # whatever part of the server says no: what it says is no page
                    page = self.site.message(message["status"], Request(scope))
                    await page(scope, receive, dressed_send)
                    return
            if not replaced:
                await dressed_send(message)

        async def dressed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                kept = static and message["status"] < 400
                headers["Cache-Control"] = "public, max-age=604800" if kept else "no-store"
                await send(message)
                return
            # In pieces: the time limit for slow readers is one for each.
            body, more = message.get("body", b""), message.get("more_body", False)
            for begin in range(0, len(body) or 1, WRITE_BUFFER):
                end = begin + WRITE_BUFFER
                await send({**message, "body": body[begin:end], "more_body": more or end < len(body)})

        async def guarded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413)
            return message

        try:
            await self.app(scope, guarded_receive, guarded_send)
        except ClientDisconnect:
            pass  # in the middle of what it sent
        except Exception as error:
            log.error("%s", error_place(error))
            if not started:
                await PlainTextResponse("The box could not answer this.\n", 500)(scope, receive, guarded_send)
