"""Why no decision was made, counted over many pictures: the reason without what was measured on one of them."""

from __future__ import annotations

import re

from keras_realmnet.tasks.rules import Outcome

__all__ = ["UNDECIDED", "UNGRADABLE", "cause"]

# Outcomes of a picture on which nothing was decided. The first is remedied by taking the picture again.
UNGRADABLE: tuple[Outcome, Outcome] = ("insufficient", "not_analysed")
# Those that a person decides on.
UNDECIDED: tuple[Outcome, ...] = ("uncertain", *UNGRADABLE)


def cause(reason: str) -> str:
    """The part of a reason that other pictures may share: up to its first explanation, with numbers left out.

    `Out of focus: sharpness 0.31 (at least 0.45).` has the cause `Out of focus`. File names, which may hold a patient's
    number, stand in no reason.
    """
    head = re.split(r"[:;(]|\. ", reason, maxsplit=1)[0]
    head = re.sub(r"\d+(?:[.,]\d+)*", "…", " ".join(head.split())).rstrip(" .,")
    return head[:1].upper() + head[1:] or "No reason given"
