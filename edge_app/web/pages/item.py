"""One item with the others of its patient: on the screen, on paper, and the forms that change it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from edge_app.contradictions import within_study
from edge_app.identity import persons
from edge_app.present.visits import Visit, visits
from edge_app.store.items import Item
from edge_app.store.queue import Stale
from edge_app.store.records import Result
from edge_app.store.store import Store
from edge_app.web import images
from edge_app.web.site import Visitor
from edge_app.web.words import AGREEMENTS, STATES, name_of
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["close", "item", "report", "retry", "review", "set_eye"]


@dataclass(frozen=True)
class _Patient:
    """An item's record among the others of its patient. `items`: {id(record): item}."""

    result: Result
    visit: Visit
    history: tuple[Visit, ...]
    items: dict[int, Item]

    def beside(self, item: Item) -> list[ScreeningRecord]:
        """What other bundles say of the item's picture."""
        same = (item.object_id, item.frame)
        return [
            record
            for record in self.visit.records
            if (other := self.items[id(record)]).id != item.id and (other.object_id, other.frame) == same
        ]

    def item_of(self, record: ScreeningRecord) -> int:
        return self.items[id(record)].id

    @cached_property
    def _names(self) -> dict[int, str]:
        return {item.id: name_of(item) for item in self.items.values()}

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
    waiting_results = store.waiting_results({other.item.object_id for other in results})

    def waiting(record: ScreeningRecord) -> tuple[str, ...]:
        return waiting_results.get(items[id(record)].id, ())

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
    pictures = site.store.pictures(item)
    folder = images.folder_of(site.store, item.id)
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
        has_picture=lambda number: images.exists(images.folder_of(site.store, number)),
        conflicts=_conflicts(site.store, item, record),
        size=images.size(folder),
        maps=images.codes(folder, record),
        marked=record is not None and bool(record.located),
        pictures=pictures if len(pictures) > 1 else (),
        beside=[] if patient is None else patient.beside(item),
        coming=[] if patient is None else site.store.bundles_to_come(item),
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
        has_picture=lambda number: images.exists(images.folder_of(site.store, number)),
        conflicts=_conflicts(site.store, item, patient.result.record),
        reviews_of=site.store.reviews,
        now=datetime.now(timezone.utc).isoformat(),
    )


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
