"""The command that shows what a recipe's augmentation does."""

from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.errors import RealMNetError
from training.commands.options import Cache, Columns, Data, OwnVocabulary, Settings, Table, recipe_from_options

__all__ = ["augmentations"]


def augmentations(
    recipe: Annotated[str, typer.Option(help="Whose augmentation, on whose training images.")],
    out: Annotated[Path, typer.Option(help="Picture to write (.jpg or .png).")] = Path("augmentations.jpg"),
    data: Data = None,
    table: Table = None,
    columns: Columns = None,
    vocabulary: OwnVocabulary = None,
    images: Annotated[int, typer.Option(min=1, max=40, help="Images, one per row, chosen evenly.")] = 6,
    settings: Settings = None,
    cache: Cache = Path("data/cache"),
) -> None:
    """Show what a recipe's augmentation does: each operation by itself, all together, and mixing.

    [bold]Example[/bold]: python -m training augmentations --recipe study_realmnet --set augmentation.hue=0.25
    """
    import numpy as np
    from PIL import Image

    from training.input.augmentation_sheet import augmentation_sheet

    chosen = recipe_from_options(recipe, data, settings=settings, table=table, columns=columns, vocabulary=vocabulary)
    training_set = chosen.data.load("train", chosen.spec(), cache)
    if training_set is None:
        raise RealMNetError(f"recipe {recipe!r}: its data has nothing to train on")
    rows = np.linspace(0, len(training_set) - 1, min(images, len(training_set))).astype(int)
    sheet = augmentation_sheet([training_set.image(k) for k in rows], chosen.augmentation, chosen.seed)
    try:
        Image.fromarray(sheet).save(out, quality=92)
    except (OSError, ValueError) as error:
        raise RealMNetError(f"{out} cannot be written ({error}); expected a name such as sheet.jpg") from error
    print(f"written: {out}")
