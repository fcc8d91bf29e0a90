"""The deliveries: where results go, what waits, and what was given up."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from edge_app.web.site import PAGE_SIZE, Site, Visitor
from edge_app.web.words import DELIVERY_STATES

__all__ = ["deliveries", "retry_delivery", "send_deliveries"]


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
    if delivery.kind not in _kinds_taken(visitor.site, delivery.destination):
        raise HTTPException(409, f"{delivery.destination} is not in the settings, or takes no such result any more.")
    visitor.site.store.redeliver(number, visitor.name)
    return RedirectResponse("/deliveries?done=delivery", 303)


def send_deliveries(visitor: Visitor) -> Response:
    """All results that wait for a destination, or that were given up, are sent now."""
    name, state = visitor.form.get("destination", ""), visitor.form.get("state", "")
    kinds = _kinds_taken(visitor.site, name)
    if not kinds:
        raise HTTPException(409, "There is no such destination in the settings.")
    if state not in ("pending", "dead"):
        raise HTTPException(400, "What waits, or what was given up, can be sent.")
    visitor.site.store.redeliver_all(name, kinds, state, visitor.name)
    return RedirectResponse("/deliveries?done=deliveries", 303)


def _kinds_taken(site: Site, name: str) -> tuple[str, ...]:
    """The kinds of results that a destination of the configuration takes; none of one that is gone."""
    return next((destination.results for destination in site.config.destination if destination.name == name), ())
