"""Documents of earlier releases, brought up to date step by step, so that everything ever written stays readable.

A document says in `schema` which version wrote it. A release that changes a format adds one step and changes none
that was released.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_realmnet.errors import RealMNetError

__all__ = ["Step", "upgrade"]

Step = Callable[[dict[str, Any]], dict[str, Any]]


def upgrade(
    document: Mapping[str, Any], steps: Sequence[Step], what: str, error: type[RealMNetError] = RealMNetError
) -> dict[str, Any]:
    """`document` in the newest version, `1 + len(steps)`; the document itself is left alone.

    Args:
        steps: `steps[k]` makes a document of version k + 2 from one of version k + 1, `schema` aside.
        what: names the document in an error.
        error: the kind that is raised.

    Raises:
        RealMNetError: a version that does not exist, or that of a newer release.
    """
    newest, version = 1 + len(steps), document.get("schema")
    if type(version) is not int or version < 1:
        raise error(f"{what}: schema 1 to {newest} expected. Received: {reprlib.repr(version)}")
    if version > newest:
        raise error(
            f"{what}: schema {reprlib.repr(version)}, written by a newer release; this one reads up to {newest}"
        )
    upgraded = dict(document)
    for step in steps[version - 1 :]:
        upgraded = step(upgraded)
    return {**upgraded, "schema": newest}
