"""What happens beside the steps of a training: seeds, validation, a learning rate that falls, a stop where the loss is
no number."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_realmnet import compat
from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.task import Task
from keras_realmnet.weights import transfer_weights
from training.datasets.image_set import ImageSet
from training.fitting.best import drops, rate_after
from training.fitting.checkpoints import averaged
from training.fitting.history import History
from training.fitting.start import losses_of, options_after_drop
from training.recipe import Recipe
from training.runs import build_model, recipe_json
from training.scoring.figures import figures_of

__all__ = [
    "LowerLearningRate",
    "NonFiniteLoss",
    "SeedRandomLayers",
    "StopOnNonFiniteLoss",
    "Validate",
    "WeightsAndBiases",
]


class NonFiniteLoss(RealMNetError):
    """The loss became NaN or infinite; the last checkpoint is from before that."""


class SeedRandomLayers(keras.callbacks.Callback):
    """Starts drop path's generators anew with each epoch, by (seed, epoch): Keras keeps them out of its checkpoints."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        for k, variable in enumerate(compat.seed_states(self.model)):
            variable.assign(np.random.SeedSequence((self.seed, epoch, k)).generate_state(2))


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Stops with an error before an epoch with a non-finite loss can become a checkpoint."""

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise NonFiniteLoss(f"the loss became {loss} at step {step}: lower learning_rate or check the data")


class LowerLearningRate(keras.callbacks.Callback):
    """Before an epoch: a learning rate that fell each time that there was no gain (`best.drops`, `best.rate_after`).

    From the first time on, losses have the recipe's `loss_options_after_drop`. Both follow from the history, also in a
    run that is resumed. `val_loss` stays what it was, so that it can be compared.
    """

    def __init__(self, recipe: Recipe, task: Task, history: History):
        super().__init__()
        self.recipe, self.task, self.history = recipe, task, history
        self.fallen = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        before, self.fallen = self.fallen, drops(self.history.rows, self.recipe, self.task)
        rate = rate_after(self.fallen, self.recipe)
        self.model.optimizer.learning_rate = rate
        if self.fallen == before:
            return
        print(f"epoch {epoch + 1}: learning rate {rate:.3g}")
        changes = options_after_drop(self.recipe)
        if changes and before == 0:
            of_model = self.model.loss if isinstance(self.model.loss, dict) else {next(iter(changes)): self.model.loss}
            for name, options in changes.items():
                of_model[name].change(**options)
            self.model.make_train_function(force=True)  # a compiled step keeps the options it was compiled with


class Validate(keras.callbacks.Callback):
    """Adds figures of the validation split to the epoch's logs, with the averaged weights where there are any."""

    def __init__(self, data: ImageSet, recipe: Recipe):
        super().__init__()
        self.data, self.recipe = data, recipe
        self.losses = losses_of(recipe) if recipe.validation_loss else None
        self.whole: keras.Model | None = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.recipe.validate_every and epoch + 1 != self.recipe.epochs:
            return
        with averaged(self.model):
            figures = figures_of(self._whole(epoch), self.data, self.recipe.batch_size, self.losses)
        logs |= {name: value for name, value in figures.items() if value is not None}
        found = ", ".join(f"{name[4:]} {value:.4f}" for name, value in logs.items() if name.startswith("val_"))
        print(f"epoch {epoch + 1}, validation: {found}", flush=True)

    def _whole(self, epoch: int) -> keras.Model:
        """The network that sees whole images, where the one that is trained sees windows of them."""
        if self.recipe.windows is None:
            return self.model
        size = self.recipe.phase_of(epoch)[0].size
        if self.whole is None or self.whole.image_size[0] != size:
            self.whole = build_model(self.recipe, size)
        return transfer_weights(self.model, self.whole)


class WeightsAndBiases(keras.callbacks.Callback):
    """Sends each epoch's numbers to Weights & Biases, into one run of theirs however often ours is resumed."""

    def __init__(self, recipe: Recipe, folder: Path):
        super().__init__()
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise RealMNetError("--track wandb needs the package wandb: pip install wandb") from error
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self.run = wandb.init(
            project="keras-realmnet",
            name=recipe.name,
            id=identity,
            resume="allow",
            dir=folder,
            config=recipe_json(recipe),
        )

    def on_epoch_end(self, epoch, logs=None):
        self.run.log({"epoch": epoch + 1, **(logs or {})})

    def on_train_end(self, logs=None):
        self.run.finish()
