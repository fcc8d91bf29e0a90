"""The worklist, and the search in it."""

import re
from datetime import date

from starlette.responses import Response

from edge_app.present.terms import OUTCOME_NAMES
from edge_app.web.site import PAGE_SIZE, Visitor
from edge_app.web.worklist import EYE_UNKNOWN, Filter
from keras_realmnet.tasks.rules import OUTCOMES

__all__ = ["worklist"]

# The results that a filter of the worklist knows.
CHOICES: dict[str, str] = {
    **{outcome: OUTCOME_NAMES[outcome] for outcome in OUTCOMES},
    "refer": f"{OUTCOME_NAMES['refer']} or {OUTCOME_NAMES['uncertain'].lower()}",  # both are called back
    EYE_UNKNOWN: "Eye unknown",
}


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
