"""The table of the web page: each address, who may ask for it, and the page that answers."""

from collections.abc import Callable

from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from edge_app.web.auth import Permission
from edge_app.web.pages import account, audit, decisions, deliveries, health, item, pictures, quarantine, worklist
from edge_app.web.site import Visitor

__all__ = ["MACHINES", "ROUTES", "Page"]

MACHINES = ("/healthz", "/readyz", "/metrics")  # what monitors ask: answered in plain text

Page = Callable[[Visitor], Response]


class _Number(Convertor[int]):
    """The number of an item or a delivery in an address; longer ones are no address (SQLite counts to 2^63)."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())

# (path, method, who may, page). None: anybody; pages that anybody may ask for decide for themselves.
ROUTES: tuple[tuple[str, str, Permission | None, Page], ...] = (
    ("/", "GET", "view", worklist.worklist),
    ("/", "POST", "view", worklist.worklist),
    ("/items/{id:number}", "GET", "view", item.item),
    ("/items/{id:number}/report", "GET", "view", item.report),
    ("/items/{id:number}/preview.jpg", "GET", "view", pictures.preview),
    ("/items/{id:number}/thumbnail.jpg", "GET", "view", pictures.thumbnail),
    ("/items/{id:number}/evidence.jpg", "GET", "view", pictures.evidence),
    ("/items/{id:number}/marks.png", "GET", "view", pictures.marks),
    ("/items/{id:number}/maps/{code}.png", "GET", "view", pictures.class_map),
    ("/items/{id:number}/eye", "POST", "set_eye", item.set_eye),
    ("/items/{id:number}/review", "POST", "review", item.review),
    ("/items/{id:number}/retry", "POST", "retry", item.retry),
    ("/items/{id:number}/close", "POST", "retry", item.close),
    ("/quarantine", "GET", "view", quarantine.quarantine),
    ("/deliveries", "GET", "view", deliveries.deliveries),
    ("/deliveries/{id:number}/retry", "POST", "retry_delivery", deliveries.retry_delivery),
    ("/deliveries/send", "POST", "retry_delivery", deliveries.send_deliveries),
    ("/decisions", "GET", "view", decisions.decisions),
    ("/health", "GET", "view", health.health),
    ("/about", "GET", "view", health.about),
    ("/audit", "GET", "audit", audit.audit),
    ("/audit.csv", "POST", "audit", audit.audit_csv),
    ("/reviews.csv", "POST", "audit", audit.reviews_csv),
    ("/theme", "POST", None, account.theme),
    ("/login", "GET", None, account.login_form),
    ("/login", "POST", None, account.login),
    ("/logout", "POST", None, account.logout),
)
