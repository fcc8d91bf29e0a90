"""A dataclass from what a JSON document says: nothing missing, nothing unknown, each value of its field's type."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

__all__ = ["by_kind", "from_json"]

T = TypeVar("T")
TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
NAMES = {"str": "a text", "bool": "true or false", "int": "a whole number", "float": "a number"}


def from_json(kind: type[T], values: object, what: str) -> T:
    """The instance of the dataclass `kind` with these values, called `what` in errors.

    Fields annotated "str", "bool", "int" or "float", or one of these or None, are checked; others are the caller's.

    Raises:
        ValueError: names the field, what was received and what was expected.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}: an object expected. Received: {reprlib.repr(values)}")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ValueError(f"{what} has no field {reprlib.repr(name)}")
    for name, field in known.items():
        if name not in values:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{what} needs the field {name!r}")
            continue
        base, _, none = str(field.type).partition(" | ")
        if base in TYPES and not (none == "None" and values[name] is None) and type(values[name]) not in TYPES[base]:
            received = reprlib.repr(values[name])
            raise ValueError(f"{what}: {name} must be {NAMES[base]}. Received: {received}")
    try:
        return kind(**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{what}: {error}") from error


def by_kind(values: object, kinds: Mapping[str, type[T]], what: str) -> tuple[type[T], dict[str, Any]]:
    """The class that the field "kind" of a JSON object names, and the object's other fields.

    Raises:
        ValueError: no object, or a kind that is none of `kinds`; names `what` it should be.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}: an object expected. Received: {reprlib.repr(values)}")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"the kind of {what} must be one of {', '.join(kinds)}. Received: {reprlib.repr(kind)}")
    return kinds[kind], {name: value for name, value in values.items() if name != "kind"}
