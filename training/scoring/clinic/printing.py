"""The figures of a clinic as tables, on the terminal and in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from training.scoring.clinic.figures import FIGURES, Proportion

__all__ = ["LEVELS", "cause_rows", "figure_rows", "print_clinic", "subgroup_rows"]

LEVELS = ("picture", "eye", "patient")


def figure_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """(figure, of pictures, of eyes, of patients), in words, of what `clinic_figures` returns; levels without cases
    are left out."""
    levels = [level for level in LEVELS if figures[level]["cases"]]
    yield ("figure", *(f"of {figures[level]['cases']:,} {level}s" for level in levels))
    for name in FIGURES:
        yield (name.replace("_", " "), *(_text(figures[level]["figures"][name]) for level in levels))


def subgroup_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """(kind, subgroup, pictures, and the first four figures) in words; of a small one the number of pictures alone."""
    yield ("by", "subgroup", "pictures", *(name.replace("_", " ") for name in list(FIGURES)[:4]))
    for kind, found in figures["subgroups"].items():
        for name, level in found["groups"].items():
            shown = [_text(level["figures"][figure]) for figure in list(FIGURES)[:4]]
            yield (kind, name, f"{level['cases']:,}", *shown)
        for name, number in found["left_out"].items():
            yield (kind, name, f"{number:,}", *["too few"] * 4)


def print_clinic(title: str, figures: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 160)
    about = f"{figures['pictures']:,} pictures of {figures['patients']:,} patients"
    intervals = "; ".join(f"{level}: {figures[level]['interval']}" for level in LEVELS if figures[level]["cases"])
    for heading, rows in (
        (f"{title}: {about}", figure_rows(figures)),
        ("flow", _flow_rows(figures)),
        ("why pictures have no decision", cause_rows(figures)),
        ("subgroups of pictures", subgroup_rows(figures)),
    ):
        first, *others = rows
        table = Table(title=heading, title_justify="left", caption=intervals if "figure" in first else None)
        for column in first:
            table.add_column(column)
        for row in others:
            table.add_row(*row)
        console.print(table)


def _flow_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("", *(f"{level}s" for level in LEVELS))
    for name in figures["picture"]["flow"]:
        yield (name.replace("_", " "), *(f"{figures[level]['flow'][name]:,}" for level in LEVELS))


def cause_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """(cause, pictures to retake, pictures not analysed) in words, the most frequent first."""
    yield ("cause", "to retake", "not analysed")
    for cause, counts in figures["causes"].items():
        yield (cause, *(f"{counts.get(outcome, 0):,}" for outcome in ("insufficient", "not_analysed")))


def _text(figure: Mapping[str, Any]) -> str:
    return str(Proportion(**{name: value for name, value in figure.items() if name != "value"}))
