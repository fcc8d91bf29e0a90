"""The pictures of one item."""

import logging
from collections.abc import Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response

from edge_app.logs import error_place
from edge_app.web import images
from edge_app.web.site import Visitor
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["class_map", "evidence", "marks", "preview", "thumbnail"]

log = logging.getLogger(__name__)


def preview(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", lambda folder, record: images.preview(folder))


def thumbnail(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", lambda folder, record: images.thumbnail(folder))


def evidence(visitor: Visitor) -> Response:
    return _picture(visitor, "image/jpeg", images.evidence)


def marks(visitor: Visitor) -> Response:
    return _picture(visitor, "image/png", images.marks)


def class_map(visitor: Visitor) -> Response:
    code = visitor.request.path_params["code"]
    return _picture(visitor, "image/png", lambda folder, record: images.class_map(folder, record, code))


def _picture(
    visitor: Visitor, media_type: str, draw: Callable[[Path, ScreeningRecord | None], bytes | None]
) -> Response:
    """What `draw` makes of an item's files. Raises HTTPException (404) where there are none, or they are damaged."""
    store, item = visitor.site.store, visitor.item()
    result = store.record(item.id)
    try:
        content = draw(images.folder_of(store, item.id), None if result is None else result.record)
    except Exception as error:  # the files may hold anything, and so may fail in any way
        log.warning("item %d: its pictures cannot be drawn: %s", item.id, error_place(error))
        content = None
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type=media_type)
