"""What the box has decided and refused, and why: numbers by week, sender and model, without patients."""

from datetime import date, timedelta

from starlette.responses import Response

from edge_app.store.tallies import OTHER_FATES, monday
from edge_app.web.site import Visitor

__all__ = ["decisions"]

WEEKS = 8  # on a page
EVER = date(9998, 12, 28)  # at the end of the calendar there are no time zones


def decisions(visitor: Visitor) -> Response:
    store, number = visitor.site.store, visitor.page_number()
    newest = monday(date.today()) + timedelta(weeks=1)
    oldest = store.first_received()
    number = min(number, 1 if oldest is None else 1 + (newest - oldest).days // 7 // WEEKS)  # before it nothing came
    end = newest - timedelta(weeks=WEEKS * (number - 1))
    first = end - timedelta(weeks=WEEKS)
    return visitor.page(
        "decisions.html.j2",
        tallies=store.tallies(first, end if number > 1 else EVER),  # what a wrong clock has put ahead, too
        other_fates=OTHER_FATES,
        first=first,
        end=end - timedelta(days=1),
        number=number,
        more=oldest is not None and oldest < first,
    )
