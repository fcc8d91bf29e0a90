"""Whether a JSON document that somebody else wrote, and the texts in it, have the form they should have."""

from __future__ import annotations

import re
import reprlib
from typing import Any

__all__ = ["check_file_name", "check_form", "check_line", "check_text"]

NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def check_form(value: Any, form: Any, where: str = "") -> None:
    """Raises ValueError, naming the place and what is expected there, where `value` has not the form `form`.

    A form is `str`, `int`, `bool` or `dict` (anything in it); `float`, any number; `[form]`, a list; `{name: form}`, an
    object of these fields, of which those with a "?" behind their name may be missing; `{str: form}`, an object of any
    fields; `(form, None)`, which may be null.
    """
    place = where or "the document"
    if isinstance(form, tuple):
        if value is not None:
            check_form(value, form[0], where)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{place}: a list expected. Received: {reprlib.repr(value)}")
        for k, entry in enumerate(value):
            check_form(entry, form[0], f"{where}[{k}]")
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: an object expected. Received: {reprlib.repr(value)}")
        fields = dict.fromkeys(value, form[str]) if str in form else {n.removesuffix("?"): f for n, f in form.items()}
        missing = [name for name in form if str not in form and not name.endswith("?") and name not in value]
        if missing:
            raise ValueError(f"{place}: the field {missing[0]!r} is missing")
        for name, entry in value.items():
            if name not in fields:
                raise ValueError(f"{place}: there is no field {reprlib.repr(name)}")
            check_form(entry, fields[name], f"{where}.{reprlib.repr(name)[1:-1]}".lstrip("."))
    elif type(value) not in ((int, float) if form is float else (form,)):
        raise ValueError(f"{place}: {NAMES[form]} expected. Received: {reprlib.repr(value)}")


def check_file_name(name: str) -> str:
    """`name`, or ValueError where it is no plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", name):
        raise ValueError(f"a plain file name without folders expected. Received: {name!r}")
    return name


def check_line(what: str, text: str) -> None:
    """Raises ValueError, calling the text `what`, where it is not one printable line."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{what} must be a line of text. Received: {text!r}")


def check_text(what: str, text: object) -> None:
    """As `check_line`; the text may have several lines."""
    if not isinstance(text, str) or not text.strip() or not all(line.isprintable() for line in text.splitlines()):
        raise ValueError(f"{what} must be a text for people. Received: {text!r}")
