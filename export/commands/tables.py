"""The tables that several commands print."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # `--help` needs no more than typer and rich
    from export.contract.by_kind.figures import Value
    from export.contract.parity import Parity
    from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["console", "print_artifacts", "print_parity"]


def console() -> Console:
    """Wide enough for the tables where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_parity(parity: Mapping[str, "Parity"], left_out: int = 0) -> None:
    """How far artifacts are from Keras, by their names; a table for each output that has a truth."""
    if not parity:  # no artifact ran; why is said elsewhere
        return
    first = next(iter(parity.values()))
    note = f", {left_out} files not gradable and left out" if left_out else ""
    title = f"difference to Keras on {first.images} image{'' if first.images == 1 else 's'}{note}"
    several = len(first.task.trained) > 1
    for name in first.task.trained:
        explained = [each for each in (name, first.task.maps_of(name)) if each is not None]
        features = [each for each, output in first.task.outputs.items() if output.kind == "features"]
        shown = [*explained, *(features if name == next(iter(first.task.trained)) else [])]
        rows = {artifact: _cells(found, shown) for artifact, found in parity.items()}
        table = Table(title=f"{name}: {title}" if several else title)
        headings = {heading: None for cells in rows.values() for heading in cells}
        table.add_column("artifact")
        for heading in headings:
            table.add_column(heading, justify="right")
        for artifact, cells in rows.items():
            table.add_row(artifact, *(cells.get(heading, "not measured") for heading in headings))
        console().print(table)


def _cells(found: "Parity", outputs: Sequence[str]) -> dict[str, str]:
    """{heading: what stands there} of some outputs of an artifact, scores last."""
    from export.contract.by_kind.kinds import contract_of

    contracts = {name: contract_of(found.task.outputs[name]) for name in outputs}
    cells = {
        heading: cell(found.values[name], found.images)
        for name, contract in contracts.items()
        for heading, cell in contract.cells.items()
    }
    return cells | {
        f"Δ{change.short} (95 %)": _change(found.values[name][figure])
        for name, contract in contracts.items()
        for figure, change in contract.changes.items()
        if found.values[name].get(figure) is not None
    }


def print_artifacts(bundle: "Bundle") -> None:
    """The model files of a bundle, and what each asks of the machine as far as the bundle states it."""
    costs = [artifact.costs for artifact in bundle.artifacts.values() if artifact.costs is not None]
    measured = {known.peak_memory_of for known in costs if known.peak_memory_of is not None}
    table = Table(title="artifacts", caption="peak memory: " + "; ".join(sorted(measured)) if measured else None)
    for heading in ("artifact", "file", "MB", "G MAC", "M parameters", "peak memory, MB"):
        table.add_column(heading, justify="left" if heading in ("artifact", "file") else "right")
    for name, artifact in bundle.artifacts.items():
        shown = ["not stated"] * 3
        if artifact.costs is not None:
            memory = artifact.costs.peak_memory_mb
            shown = [
                f"{artifact.costs.macs / 1e9:.3f}",
                f"{artifact.costs.parameters / 1e6:.2f}",
                "not measured" if memory is None else f"{memory:.0f}",
            ]
        file = f"{artifact.file} (not there)" if name in bundle.absent else artifact.file
        table.add_row(name, file, f"{artifact.bytes / 1e6:.1f}", *shown)
    console().print(table)


def _change(score: "Value") -> str:
    from training.scoring.statistics.significance import Difference

    if not isinstance(score, Difference) or score.difference is None:
        return "not defined"
    interval = "" if score.low is None else f" ({score.low:+.4f} to {score.high:+.4f})"
    return f"{score.difference:+.4f}{interval}"
