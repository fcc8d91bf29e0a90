"""Logging in and out, and the theme that a browser keeps."""

import logging
import re
import sqlite3

from starlette.responses import RedirectResponse, Response

from edge_app.logs import error_place
from edge_app.web.auth import TooManyAttempts, new_token
from edge_app.web.site import Visitor
from edge_app.web.words import storage_words

__all__ = ["login", "login_form", "logout", "theme"]

log = logging.getLogger(__name__)

WRONG_LOGIN = "Wrong name or password."
TOO_MANY_ATTEMPTS = "Too many failed attempts. Wait a quarter of an hour, or ask the administrator."


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
        return visitor.page("login.html.j2", 429, message=TOO_MANY_ATTEMPTS, message_kind="bad")
    if token is None:
        return visitor.page("login.html.j2", 401, message=WRONG_LOGIN, message_kind="bad")
    visitor.token = token
    return RedirectResponse("/", 303)


def logout(visitor: Visitor) -> Response:
    site, token = visitor.site, visitor.token
    site.forget(token)
    visitor.token = new_token()
    try:
        site.login.logout(token)
    except sqlite3.OperationalError as error:
        log.warning("%s", error_place(error))
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
