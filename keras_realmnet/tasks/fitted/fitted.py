"""All that is fitted between a network's outputs and the rule, as data of its task."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_realmnet.tasks.findings import Finding
from keras_realmnet.tasks.fitted.calibration import Calibration
from keras_realmnet.tasks.fitted.doubts import Doubt, doubt_from_dict
from keras_realmnet.tasks.outputs import Output

__all__ = ["Fitted"]


@dataclass(frozen=True)
class Fitted:
    """calibration: {output: its calibration}. doubts: what makes a negative result uncertain. Empty: nothing is fitted,
    as in bundles of earlier releases."""

    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.calibration or self.doubts)

    def check(self, outputs: Mapping[str, Output]) -> None:
        """Raises ValueError where something does not fit a task's outputs."""
        for name, calibration in self.calibration.items():
            calibration.check(outputs.get(name), name)
        for doubt in self.doubts:
            doubt.check(outputs)

    def why_uncertain(self, findings: Sequence[Finding], referred: Sequence[str]) -> tuple[str, ...]:
        """Why a negative result is uncertain, as sentences; empty where it is not."""
        return tuple(reason for each in self.doubts if (reason := each.why(findings, referred)) is not None)

    def grounds(self) -> tuple[str, ...]:
        """How and on which images it was fitted, for people."""
        curves = tuple(each.chosen for each in self.calibration.values())
        return (*curves, *(each.chosen for each in self.doubts))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe, without what is empty; `from_dict` gives an equal one back."""
        parts = {
            "calibration": {name: each.to_dict() for name, each in self.calibration.items()},
            "doubts": [each.to_dict() for each in self.doubts],
        }
        return {name: part for name, part in parts.items() if part}

    @classmethod
    def from_dict(cls, values: Any) -> Fitted:
        """Raises ValueError for other fields, and whatever cannot be fitted."""
        known = {"calibration": Mapping, "doubts": list | tuple}
        wrong = not isinstance(values, Mapping) or not set(values) <= set(known)
        if wrong or not all(isinstance(part, known[name]) for name, part in values.items()):
            raise ValueError(
                f"fitted has calibrations by output and a list of doubts. Received: {reprlib.repr(values)}"
            )
        return cls(
            {str(name): Calibration.from_dict(each) for name, each in values.get("calibration", {}).items()},
            tuple(map(doubt_from_dict, values.get("doubts", ()))),
        )
