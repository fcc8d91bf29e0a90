"""The tables that several commands print."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # `--help` needs no more than typer and rich
    from export.contract.parity import Parity
    from keras_realmnet.screening.bundle.bundle import Bundle
    from training.scoring.significance import Difference

__all__ = ["console", "print_artifacts", "print_parity"]


def console() -> Console:
    """Wide enough for the tables where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_parity(parity: "Mapping[str, Parity]", left_out: int = 0) -> None:
    """How far artifacts are from Keras, by their names."""
    if not parity:  # no artifact ran; why is said elsewhere
        return
    images = next(iter(parity.values())).images
    note = f", {left_out} files not gradable and left out" if left_out else ""
    labelled = any(found.macro_auroc is not None for found in parity.values())
    table = Table(title=f"difference to Keras on {images} image{'' if images == 1 else 's'}{note}")
    headings = ["artifact", "max |Δp|", "99 % |Δp|", "mean |Δp|", "decisions changed", "class maps: r, same peak"]
    for heading in headings + (["ΔAUROC (95 %)", "ΔmAP (95 %)"] if labelled else []):
        table.add_column(heading, justify="left" if heading == "artifact" else "right")
    for name, found in parity.items():
        table.add_row(
            name,
            f"{found.max_probability:.2g}",
            f"{found.p99_probability:.2g}",
            f"{found.mean_probability:.2g}",
            f"{found.flips} of {found.images}",
            f"{found.map_correlation:.4f}, {found.same_peak:.1%}",
            *([_change(found.macro_auroc), _change(found.mean_ap)] if labelled else []),
        )
    console().print(table)


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


def _change(score: "Difference | None") -> str:
    if score is None or score.difference is None:
        return "not defined"
    interval = "" if score.low is None else f" ({score.low:+.4f} to {score.high:+.4f})"
    return f"{score.difference:+.4f}{interval}"
