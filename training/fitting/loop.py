"""From images to a trained network, phase by phase, each begun from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_realmnet.deploy.quantization import fake_quantize
from keras_realmnet.errors import RealMNetError
from keras_realmnet.weights import transfer_weights
from training.datasets.image_set import ImageSet
from training.fitting.best import KeepBest, best_epoch, best_path, stops
from training.fitting.callbacks import (
    LowerLearningRate,
    SeedRandomLayers,
    StopOnNonFiniteLoss,
    Validate,
    WeightsAndBiases,
)
from training.fitting.checkpoints import SaveCheckpoint, last_epoch, move_to_size, restore, use_averages
from training.fitting.devices import check_same_epoch, on_devices, process_share
from training.fitting.history import History, history_columns, read_history
from training.fitting.packages import installed
from training.input.input_pipeline import TrainingBatches
from training.recipe import Recipe
from training.runs import build_model

__all__ = ["Resources", "train"]


@dataclass(frozen=True)
class Resources:
    """What a run may use; it changes the speed, not the result (but see `training.fitting.devices` on BatchNorm).

    `devices`: GPUs or other devices that share each batch; None: one. `processes`: worker processes that augment; 0:
    threads do. `track`: None or "wandb".
    """

    devices: int | None = None
    processes: int = 0
    track: str | None = None


def train(
    recipe: Recipe,
    data: ImageSet,
    validation: ImageSet | None,
    out: Path,
    verbose: int | str = "auto",
    resources: Resources | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: bool = True,
) -> keras.Model:
    """Trains `recipe` on `data`, continuing from the newest checkpoint in `out`; `callbacks` are called before ours.

    Args:
        resume: False: from the first epoch, whatever checkpoint there is; `callbacks` may then remove it.

    Returns:
        The trained, not compiled model at the last phase's size, with averaged weights where the recipe averages.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
        RealMNetError: a checkpoint cannot be written; the devices are not there; or the best epoch shall be kept and
            there are no validation images.
    """
    resources = resources or Resources()
    keras.config.set_dtype_policy("mixed_bfloat16" if recipe.mixed_precision else "float32")
    # Whole steps of the optimizer: no gradient is left over at the end of an epoch.
    steps = len(data) // recipe.batch_size // recipe.accumulate * recipe.accumulate
    if steps == 0:
        needed = recipe.batch_size * recipe.accumulate
        raise RealMNetError(f"a step of {recipe.name!r} takes {needed} images; there are {len(data)}")
    with on_devices(resources.devices, recipe.batch_size):
        # Each phase begins as a resumed run does, from the checkpoint: one path for both.
        epoch = last_epoch(out) if resume else 0
        while epoch < recipe.epochs and not stops(read_history(out, epoch), recipe, data.task):
            check_same_epoch(epoch)
            _train_phase(recipe, data, validation, out, epoch, steps, verbose, resources, callbacks)
            epoch = last_epoch(out)
        model = restore(recipe, out, epoch, steps)
        kept = best_epoch(read_history(out, epoch), recipe, data.task)
        if kept is None:
            use_averages(model)
        else:
            print(f"kept: epoch {kept} of {epoch}, the best by {recipe.keep}")
            model.load_weights(best_path(out, kept))
    return transfer_weights(model, build_model(recipe, recipe.image_size))


def _train_phase(
    recipe: Recipe,
    data: ImageSet,
    validation: ImageSet | None,
    out: Path,
    epoch: int,
    steps: int,
    verbose: int | str,
    resources: Resources,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """From `epoch`, after which `out` has a checkpoint, to the end of its phase; an epoch has `steps` batches."""
    keras.utils.set_random_seed(recipe.seed)  # for the weights of a new run
    phase, end = recipe.phase_of(epoch)
    model = restore(recipe, out, epoch, steps)
    size = recipe.trained_size(phase.size)
    if model.image_size[0] != size:
        model = move_to_size(model, recipe, size, steps)
    if recipe.fake_quantization is not None:
        fake_quantize(model, recipe.fake_quantization)
    print(f"epochs {epoch + 1} to {end} of {recipe.epochs}: {size} px, {steps} steps of {recipe.batch_size}")
    share = process_share()
    if share != (0, 1):  # several machines cannot predict each for itself meanwhile
        validation = None
    if validation is None and recipe.keep is not None:
        raise RealMNetError(
            f"keep={recipe.keep!r} needs validation images, and one machine that trains. Received: none"
        )
    out.mkdir(parents=True, exist_ok=True)
    all_callbacks = _callbacks(recipe, validation, out, epoch, resources.track, callbacks)
    batches = TrainingBatches(
        data,
        phase.size,
        recipe.batch_size,
        recipe.augmentation,
        recipe.seed,
        epoch,
        processes=resources.processes,
        batches=steps,
        share=share,
        named=isinstance(model.output, dict),
        windows=recipe.windows,
    )
    try:
        _make_means_of_losses(model, batches)
        model.fit(batches, epochs=end, initial_epoch=epoch, shuffle=False, callbacks=all_callbacks, verbose=verbose)
    finally:
        batches.close()


def _make_means_of_losses(model: keras.Model, batches: TrainingBatches) -> None:
    """TensorFlow traces a step once more if the first time makes variables, as the means of several losses are."""
    if keras.backend.backend() == "tensorflow" and isinstance(model.output, dict) and len(model.output) > 1:
        images, truth = batches[0]
        said = {end: np.zeros((1, *output.shape[1:]), np.float32) for end, output in model.output.items()}
        model.compute_loss(images[:1], {name: each[:1] for name, each in truth.items()}, said, training=False)


def _callbacks(
    recipe: Recipe,
    validation: ImageSet | None,
    out: Path,
    epoch: int,
    track: str | None,
    given: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """In the order in which Keras calls them: the checkpoint comes last, when all else of its epoch is written."""
    callbacks = [SeedRandomLayers(recipe.seed), StopOnNonFiniteLoss(), *given]
    if validation is not None:
        callbacks.append(Validate(validation, recipe))
    history = History(out, epoch, history_columns(recipe, recipe.data.task))
    callbacks.append(history)
    if recipe.drop_after is not None:
        callbacks.append(LowerLearningRate(recipe, recipe.data.task, history))
    if installed("tensorflow"):
        callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False))
    if track == "wandb":
        callbacks.append(WeightsAndBiases(recipe, out))
    if recipe.keep is not None:
        callbacks.append(KeepBest(out, recipe, recipe.data.task, history))
    callbacks.append(SaveCheckpoint(out))
    return callbacks
