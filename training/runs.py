"""A run folder read again: its recipe, its network, what that network says of images."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.heads import LinearHead, ResidualAttentionHead
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.presets import REALMNET_PRESETS
from training.datasets.image_set import ImageSet
from training.input.input_pipeline import EvaluationBatches
from training.recipe import Recipe

__all__ = ["build_model", "load_run", "predict", "read_recipe", "recipe_json"]


def build_model(recipe: Recipe, size: int, load_weights: Any = False) -> keras.Model:
    """The recipe's network for inputs of `size` pixels, with random weights unless `load_weights` names others.

    Args:
        load_weights: what the preset's `from_preset` takes: a checkpoint's file or name.
    """
    classes = len(recipe.data.label_set)
    common = {"image_size": size, "drop_path_rate": recipe.drop_path_rate, "load_weights": load_weights}
    if recipe.preset not in REALMNET_PRESETS:
        from keras_realmnet.models.baselines import Baseline  # keras-hub takes its time

        return Baseline.from_preset(recipe.preset, num_classes=classes, **common, **recipe.model_options)
    head_class = LinearHead if recipe.head == "linear" else ResidualAttentionHead
    head = head_class(classes, name="head", **recipe.head_options)
    return RealMNet.from_preset(recipe.preset, num_classes=classes, head=head, **common, **recipe.model_options)


def predict(model: keras.Model, data: ImageSet, batch_size: int) -> NDArray[np.float32]:
    """Probabilities of shape (n, classes)."""
    logits = model.predict(EvaluationBatches(data, model.image_size[0], batch_size), verbose=0)
    return (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)


def load_run(run: Path) -> tuple[keras.Model, Recipe]:
    """The trained model of a run folder and its recipe.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
    """
    run = Path(run)
    for name in ("recipe.json", "weights.weights.h5"):
        if not (run / name).is_file():
            raise RealMNetError(f"{run / name}: no such file; expected the folder of a finished run")
    recipe = read_recipe(run / "recipe.json")
    keras.config.set_dtype_policy("float32")
    model = build_model(recipe, recipe.image_size)
    model.load_weights(run / "weights.weights.h5")
    return model, recipe


def read_recipe(path: Path) -> Recipe:
    try:
        return Recipe.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not a recipe as fit writes it ({error})") from error


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(recipe.to_dict()))
