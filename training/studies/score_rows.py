"""Rows of scores of several runs, {name: value, name_low: …, name_high: …} beside what tells the runs apart."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["SHOWN", "print_rows", "write_rows"]

SHOWN = ("macro_f1", "map", "macro_auroc")  # what fits on a terminal


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A csv with a column for every name that any row has; it appears under its name only when it is complete."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def print_rows(rows: Sequence[dict[str, Any]], keys: Sequence[str], metrics: Sequence[str] = SHOWN) -> None:
    """Rows of scores with their intervals on the terminal; the csv files have more scores."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="value (95 % interval, patients resampled)", box=box.SIMPLE)
    for name in (*keys, *metrics):
        table.add_column(name, justify="right" if name in metrics else "left")
    for row in rows:
        cells = []
        for metric in metrics:
            value, low, high = (row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
            around = "" if low is None else f"\n{_short(low)}–{_short(high)}"
            cells.append("-" if value is None else f"{_short(value)}{around}")
        table.add_row(*(str(row[key]) for key in keys), *cells)
    Console().print(table)


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
