"""The audit trail, and the files with it and with the reviews."""

import csv
import io
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from edge_app.present.exports import cell
from edge_app.web.site import PAGE_SIZE, Visitor

__all__ = ["audit", "audit_csv", "reviews_csv"]


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
