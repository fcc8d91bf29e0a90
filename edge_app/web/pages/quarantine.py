"""The quarantine: what could not be screened, and what a person does about it."""

from dataclasses import dataclass

from starlette.responses import Response

from edge_app.dicom.header import PatientFacts, patient_facts
from edge_app.present.terms import ACTIONS, next_step
from edge_app.store.items import Item
from edge_app.store.store import Store
from edge_app.web.site import PAGE_SIZE, Visitor
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["quarantine"]


@dataclass(frozen=True)
class _Entry:
    """An item in quarantine, what it says about itself, and what a person does about it."""

    item: Item
    facts: ScreeningRecord | PatientFacts | None
    next_step: str
    closed_by: str | None


def quarantine(visitor: Visitor) -> Response:
    store, number = visitor.site.store, visitor.page_number()
    closed = visitor.request.query_params.get("show") == "closed"
    items = store.items("quarantined", PAGE_SIZE + 1, (number - 1) * PAGE_SIZE, closed)
    return visitor.page(
        "quarantine.html.j2",
        entries=[_entry(store, item) for item in items[:PAGE_SIZE]],
        closed=closed,
        number=number,
        more=len(items) > PAGE_SIZE,
    )


def _entry(store: Store, item: Item) -> _Entry:
    result = store.record(item.id)
    record = None if result is None else result.record
    twins = [twin for twin in store.same_instance(item) if twin.id < item.id]
    facts: ScreeningRecord | PatientFacts | None = record
    if record is None and item.source == "dicom":
        facts = patient_facts(store.object_path(item))
    if twins:
        step = f"Find out which of the two is right, this one or item {twins[0].id}: whose eyes do they show?"
    elif record is not None:
        step = next_step(record) or ACTIONS[record.outcome]
    else:
        step = "Let the box try again; if that fails too, find out whose picture it is and take it again."
    return _Entry(item, facts, step, store.closed_by(item.id) if item.closed_at else None)
