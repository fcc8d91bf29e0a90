"""The command that shows what a recipe would learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.options import (
    Cache,
    Columns,
    Data,
    Fold,
    OwnVocabulary,
    Settings,
    Table,
    recipe_from_options,
)

if TYPE_CHECKING:
    from training.datasets.image_set import ImageSet

__all__ = ["datasets"]


def datasets(
    recipe: Annotated[str, typer.Option(help="Whose data, at whose input size.")] = "own_lite_256",
    data: Data = None,
    table: Table = None,
    columns: Columns = None,
    vocabulary: OwnVocabulary = None,
    fold: Fold = None,
    settings: Settings = None,
    cache: Cache = Path("data/cache"),
) -> None:
    """Show what a recipe would learn from: pictures, patients, and what is known of them, set by set.

    Everything is read and prepared as training would, so that what is wrong shows now, with file and line.

    [bold]Example[/bold]: python -m training datasets --data pictures --table list.csv --labels vocabulary.toml
    """
    from rich.console import Console
    from rich.table import Table as Grid

    from training.datasets.data_set import SPLITS

    chosen = recipe_from_options(
        recipe, data, settings=settings, table=table, columns=columns, vocabulary=vocabulary, fold=fold
    )
    task = chosen.data.task
    loaded = {split: chosen.data.load(split, chosen.spec(), cache) for split in SPLITS}
    sets = {split: images for split, images in loaded.items() if images is not None}
    rows: dict[str, list[str]] = {"pictures": [], "patients": []}
    for images in sets.values():
        counts = {"pictures": f"{len(images):,}", "patients": f"{len(set(images.patients)):,}", **_known(images)}
        for name, count in counts.items():
            rows.setdefault(name, []).append(count)
    grid = Grid()
    grid.add_column("")
    for split in sets:
        grid.add_column(split, justify="right")
    for name, texts in rows.items():
        grid.add_row(name, *texts, end_section=name == "patients")
    outputs = ", ".join(f"{name} ({output.kind})" for name, output in task.trained.items())
    print(f"{task.name}: {task.modality}, {outputs}")
    Console().print(grid)


def _known(images: "ImageSet") -> dict[str, str]:
    """Of each label, grade, mask and point: in how many pictures it is there, of how many where that is known."""
    from training.tasks.kinds import kind_of

    counts = {}
    for name, output in images.task.trained.items():
        there, known = kind_of(output).presence(output, images.truth_of(name))
        for label, present, told in zip(output.labels.labels, there.sum(axis=0), known.sum(axis=0), strict=True):
            counts[f"{name}: {label.code} {label.name}"] = f"{present:,} of {told:,}"
    return counts
