"""What is said of a picture's quality: a verdict, its reasons in words, and what was beyond its limit as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Limit", "Quality", "Reason", "Shortfall", "Verdict", "shortfall_from_dict"]

Verdict = Literal["gradable", "insufficient", "not_analysed"]
Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Shortfall:
    """A measure beyond its limit. measure: its name, see `assess`. bound: the side on which good pictures lie."""

    measure: str
    value: float
    bound: Bound
    limit: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `shortfall_from_dict` gives an equal one back."""
        return asdict(self)


def shortfall_from_dict(values: Any) -> Shortfall:
    """Raises ValueError for missing or other fields, or other types."""
    fits = isinstance(values, Mapping) and set(values) == {"measure", "value", "bound", "limit"}
    if not fits or not isinstance(values["measure"], str) or values["bound"] not in ("at least", "at most"):
        raise ValueError(f"a measure beyond its limit has measure, value, bound and limit. Received: {values!r}")
    if not all(type(values[name]) in (int, float) for name in ("value", "limit")):
        raise ValueError(f"value and limit of a measure are numbers. Received: {values!r}")
    return Shortfall(values["measure"], float(values["value"]), values["bound"], float(values["limit"]))


@dataclass(frozen=True)
class Reason:
    """Words for a clinician; `shortfall`: what they say, where it is a measure beyond its limit."""

    text: str
    shortfall: Shortfall | None = None


@dataclass(frozen=True)
class Limit:
    """A measure that must be at least, or at most, so much. `words`: the reason where it is not; `{value}` and
    `{limit}` are filled in, as any measure is by its name."""

    measure: str
    bound: Bound
    limit: float
    words: str

    def margin(self, measures: Mapping[str, float]) -> float:
        """By what part of the limit the measure is on the good side of it; negative: beyond."""
        above = (measures[self.measure] - self.limit) / self.limit
        return above if self.bound == "at least" else -above

    def reason(self, measures: Mapping[str, float], **words: str) -> Reason | None:
        """Why the picture fails; None where it does not."""
        if self.margin(measures) >= 0:
            return None
        value = measures[self.measure]
        text = self.words.format(value=value, limit=self.limit, **measures, **words)
        return Reason(text, Shortfall(self.measure, value, self.bound, self.limit))


@dataclass(frozen=True)
class Quality:
    """`verdict`; `reasons` for a clinician (empty when gradable); `measures` by name, as far as they were taken;
    `shortfalls`: the measures that the reasons are about, with their limits."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    shortfalls: tuple[Shortfall, ...] = ()

    @classmethod
    def of(cls, verdict: Verdict, reasons: list[Reason], measures: dict[str, float]) -> Quality:
        texts = tuple(reason.text for reason in reasons)
        return cls(verdict, texts, measures, tuple(each.shortfall for each in reasons if each.shortfall is not None))
