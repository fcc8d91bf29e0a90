"""The network of a run and its test images, for figures that show pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_realmnet.errors import DataSetError, RealMNetError
from training.scoring.evaluated_runs import EvaluatedRun

if TYPE_CHECKING:
    import keras

    from training.datasets.image_set import ImageSet
    from training.recipe import Recipe

__all__ = ["network_of", "scored_images"]


def network_of(run: EvaluatedRun) -> "tuple[keras.Model, Recipe]":
    """The trained network and its recipe. Raises RealMNetError: the run holds none."""
    for name in ("recipe.json", "weights.weights.h5"):
        if not (run.folder / name).is_file():
            raise RealMNetError(f"the run has no {name}")
    from training.runs import load_run  # Keras, which the rest does without

    return load_run(run.folder)


def scored_images(run: EvaluatedRun, recipe: "Recipe", data: str | None, cache: Path) -> "ImageSet":
    """The images that a run was scored on. Raises DataSetError: they are not at hand.

    Args:
        data: another place of the data set; `None`: that of the recipe.
    """
    from training.recipe import with_data

    if data is not None:
        recipe = with_data(recipe, data)
    images = recipe.data.load("test", recipe.spec(), cache)
    recorded = run.scored.get("data_sha256", {}).get("test")
    if images is None or images.names != tuple(run.names.tolist()) or recorded not in (None, images.sha256):
        raise DataSetError("the test images at hand are not those that the run was scored on")
    return images
