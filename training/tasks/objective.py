"""What each output of a task is trained by: a loss that fits it, the loss's options, its weight among others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_realmnet.arguments import LOSSES, check, number
from keras_realmnet.tasks.task import Task
from training.tasks.kinds import kind_of

__all__ = ["Objective", "objectives"]

_WEIGHT = number(0, above=True)


@dataclass(frozen=True)
class Objective:
    """loss: a class of `keras_realmnet.losses`, made with `options`; it counts `weight` times in the sum."""

    loss: str
    options: Mapping[str, Any]
    weight: float


def objectives(
    task: Task,
    loss: str | Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Objective]:
    """{output: what it is trained by} for every output of a task that has a truth.

    Args:
        loss: its name, or of several outputs {output: name}; those that are not named, or None: the kind's default.
        options: of the loss, or of several outputs {output: options}.
        weights: {output: weight}, 1 where none is given.

    Raises:
        ValueError: an output that is not there, a loss that does not fit, or an option that it does not take.
    """
    outputs = task.trained
    names = {next(iter(outputs)): loss} if isinstance(loss, str) and len(outputs) == 1 else (loss or {})
    if isinstance(names, str):
        raise ValueError(f"loss must be {{output: name}} for {', '.join(outputs)}. Received: {loss!r}")
    given = _by_output(options or {}, list(outputs))
    weights = weights or {}
    for what, values in (("loss", names), ("loss_options", given), ("loss_weights", weights)):
        for name in values:
            if name not in outputs:
                raise ValueError(f"{what} must name outputs of {', '.join(outputs)}. Received: {name!r}")
    found = {}
    for name, output in outputs.items():
        fitting = kind_of(output).losses_of(output)
        chosen = names.get(name) or next(iter(fitting))
        if chosen not in fitting:
            raise ValueError(f"the loss of {output.kind} ({name}) must be {' or '.join(fitting)}. Received: {chosen!r}")
        fixed, own = fitting[chosen], given.get(name, {})
        check(f"loss_options of {chosen}", {key: rule for key, rule in LOSSES[chosen].items() if key not in fixed}, own)
        check("loss_weights", {name: _WEIGHT}, {name: weights.get(name, 1.0)})
        found[name] = Objective(chosen, {**fixed, **own}, float(weights.get(name, 1.0)))
    return found


def _by_output(options: Mapping[str, Any], outputs: list[str]) -> Mapping[str, Mapping[str, Any]]:
    """{output: options}; of one output they may stand alone."""
    keyed = all(isinstance(values, Mapping) for values in options.values())
    if keyed and (options or len(outputs) > 1):
        return options
    if len(outputs) > 1:
        raise ValueError(f"loss_options must be {{output: options}} for {', '.join(outputs)}. Received: {options!r}")
    return {outputs[0]: options}
