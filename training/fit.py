"""Training with Keras: from a recipe to a run folder that is enough to repeat the run, to resume it and to export it.

A run folder holds: `recipe.json`, `run.json` (command, versions, git commit, data hashes), `history.csv`,
`tensorboard/` (where TensorFlow is installed), `checkpoint-NNNN.weights.h5` while it is training, and in the end
`weights.weights.h5` (the averaged weights where the recipe averages; always of the last epoch, as in the paper),
`scores.json` and `*_scores.csv`.

A run is deterministic: on the same machine, backend and versions the same recipe gives the same weights, interrupted
(killed, power lost, disk full) or not; bitwise on TensorFlow's CPU backend; GPU kernels may add up in another order.
"""

import csv
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_realmnet import losses
from keras_realmnet.deploy.quantization import fake_quantize
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.heads import LinearHead, ResidualAttentionHead
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.presets import REALMNET_PRESETS
from keras_realmnet.schedules import WarmupCosine
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.weights import transfer_weights
from training.datasets import ImageSet
from training.devices import check_same_epoch, on_devices, process_share
from training.evaluate import evaluate
from training.folders import check_folder
from training.input_pipeline import EvaluationBatches, TrainingBatches
from training.recipe import Recipe
from training.scores import score
from training.splits import patient_share

__all__ = [
    "NonFiniteLoss",
    "Resources",
    "build_model",
    "compile_model",
    "decayed",
    "fit",
    "initial_model",
    "load_run",
    "predict",
    "train",
    "training_images",
]

# What a run folder holds of ours, and what --no-resume deletes there.
OWN_FILES = (
    *("recipe.json", "run.json", "history.csv", "scores.json", "validation_scores.csv", "test_scores.csv"),
    *("recipe.tmp", "run.tmp", "history.tmp", "scores.tmp", "unfinished.weights.h5"),
    *("weights.weights.h5", "checkpoint-[0-9][0-9][0-9][0-9].weights.h5", "tensorboard/*/events.out.tfevents.*"),
)
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "scikit-learn")


class NonFiniteLoss(RealMNetError):
    """The loss became NaN or infinite; the last checkpoint is from before that."""


# ---------------------------------------------------------------------------------------------- model and optimizer


def build_model(recipe: Recipe, size: int) -> keras.Model:
    """The recipe's network for inputs of `size` pixels, with random weights."""
    return _network(recipe, size, load_weights=False)


def initial_model(recipe: Recipe, size: int) -> keras.Model:
    """The recipe's network as its training begins, with the weights that `recipe.weights` names, if any.

    That is a `.safetensors` file (a reference TinyViT checkpoint, whose classifier is left out), or the folder of a
    finished run of the same network (its features, and its head too where the labels are the same), or for a baseline
    what `Baseline.from_preset` takes.

    Raises:
        RealMNetError: there is no such file or run, or it does not fit.
    """
    if recipe.weights is None:
        return build_model(recipe, size)
    if recipe.preset not in REALMNET_PRESETS:
        return _network(recipe, size, load_weights=recipe.weights)
    path = Path(recipe.weights).expanduser()
    if not path.exists():
        raise RealMNetError(
            f"{path}: no such file or run. Published weights: python -m training download --help; random ones: "
            "--set weights=None"
        )
    if not path.is_dir():
        return _network(recipe, size, load_weights=path)
    model = build_model(recipe, size)
    source, theirs = load_run(path)
    if (theirs.head, theirs.data.label_set) == (recipe.head, recipe.data.label_set):
        return transfer_weights(source, model)
    transfer_weights(source.backbone, model.backbone)
    if recipe.head == theirs.head == "residual_attention":
        model.get_layer("head_norm").set_weights(source.get_layer("head_norm").get_weights())
    return model


def _network(recipe: Recipe, size: int, load_weights: Any) -> keras.Model:
    classes = len(recipe.data.label_set)
    common = {"image_size": size, "drop_path_rate": recipe.drop_path_rate, "load_weights": load_weights}
    if recipe.preset not in REALMNET_PRESETS:
        from keras_realmnet.models.baselines import Baseline  # keras-hub takes its time

        return Baseline.from_preset(recipe.preset, num_classes=classes, **common, **recipe.model_options)
    head_class = LinearHead if recipe.head == "linear" else ResidualAttentionHead
    head = head_class(classes, name="head", **recipe.head_options)
    return RealMNet.from_preset(recipe.preset, num_classes=classes, head=head, **common, **recipe.model_options)


def decayed(variable: keras.Variable) -> bool:
    """Whether weight decay applies: not to biases, norms and other 1-D weights. Attention-bias tables are 2-D."""
    return len(variable.shape) > 1 and variable.name not in ("bias", "relative_position_bias_table")


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    """Gives `model` the recipe's optimizer, schedule and loss; an epoch has `steps_per_epoch` batches."""
    optimizer = keras.optimizers.AdamW(
        WarmupCosine(
            peak=recipe.learning_rate,
            total_steps=recipe.epochs * steps_per_epoch,
            warmup_steps=round(recipe.warmup_epochs * steps_per_epoch),
            warmup_start=recipe.warmup_start,
            final=recipe.final_learning_rate,
        ),
        weight_decay=recipe.weight_decay,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        epsilon=recipe.epsilon,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema_momentum is not None,
        # Keras averages after every batch, also after those that only add to the accumulated gradient.
        ema_momentum=(recipe.ema_momentum or 0.0) ** (1 / recipe.accumulate),
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if not decayed(v)])
    optimizer.build(model.trainable_variables)
    loss = getattr(losses, recipe.loss)
    # JAX cannot do without its compiler; on CPUs the others are slower with XLA (depthwise gradients).
    jit_compile = keras.backend.backend() == "jax"
    model.compile(optimizer, loss(**recipe.loss_options), jit_compile=jit_compile)
    return model


def predict(model: keras.Model, data: ImageSet, batch_size: int) -> NDArray[np.float32]:
    """Probabilities of shape (n, classes)."""
    logits = model.predict(EvaluationBatches(data, model.image_size[0], batch_size), verbose=0)
    return (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)


def _copies(variables: list[keras.Variable]) -> list[NDArray[Any]]:
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def _use_averages(model: keras.Model) -> None:
    """Puts the averaged weights in the place of the last step's, where the optimizer keeps averages.

    By copies: the optimizer's own method would share JAX buffers, which the next compiled step gives away.
    """
    if model.optimizer.use_ema:
        averages = _copies(model.optimizer._model_variables_moving_average)
        for variable, average in zip(model.trainable_variables, averages, strict=True):
            variable.assign(average)


# ------------------------------------------------------------------------------------------------------- checkpoints


def _checkpoint(folder: Path, epoch: int) -> Path:
    """Weights and optimizer after `epoch` epochs."""
    return folder / f"checkpoint-{epoch:04d}.weights.h5"


def _last_epoch(folder: Path) -> int:
    """How many epochs the newest checkpoint has behind it; 0 without one."""
    return max((int(path.name[11:15]) for path in folder.glob("checkpoint-????.weights.h5")), default=0)


class _Memory(io.BytesIO):
    """A weights file in memory, named as Keras wants it."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def _save_whole(model: keras.Model, path: Path) -> None:
    """Writes under another name, forces it to the disk, then renames: `path` is whole or as it was before.

    Raises:
        RealMNetError: it cannot be written, as on a full disk.
    """
    memory = _Memory()  # HDF5 itself crashes the process when its disk is full
    model.save_weights(memory)
    temporary = path.with_name("unfinished.weights.h5")
    try:
        with temporary.open("wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # the rename, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RealMNetError(
            f"{path} could not be written ({error.strerror}); with room on the disk the same command goes on from the "
            "last checkpoint"
        ) from error


class _SaveCheckpoint(keras.callbacks.Callback):
    """A checkpoint after each epoch, in the place of the one before."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        _save_whole(self.model, _checkpoint(self.folder, epoch + 1))
        for path in self.folder.glob("checkpoint-????.weights.h5"):
            if path != _checkpoint(self.folder, epoch + 1):
                path.unlink()


def _restore(recipe: Recipe, folder: Path, epoch: int, steps_per_epoch: int) -> keras.Model:
    """The compiled model as it was after `epoch` epochs, at the size of the phase it ended in."""
    size = recipe.phase_of(max(0, epoch - 1))[0].size
    model = build_model(recipe, size) if epoch else initial_model(recipe, size)
    compile_model(model, recipe, steps_per_epoch)
    if epoch:
        model.load_weights(_checkpoint(folder, epoch))
    return model


def _moved(model: keras.Model, recipe: Recipe, size: int, steps_per_epoch: int) -> keras.Model:
    """`model` rebuilt for another input size, with its optimizer: step count and moments move too.

    Whatever belongs to an attention-bias table is resized like the table itself. Averages of the weights start anew
    from the moved weights: averages over two sizes, with the BatchNorm statistics of one, fit neither.
    """
    moved = compile_model(build_model(recipe, size), recipe, steps_per_epoch)
    weights = model.get_weights()
    old, new = model.optimizer, moved.optimizer
    slots = [(old._momentums, new._momentums), (old._velocities, new._velocities)]
    for sources, targets in slots:
        for variable, source in zip(model.trainable_variables, sources, strict=True):
            variable.assign(source)
        transfer_weights(model, moved)
        for source, target, variable in zip(sources, targets, moved.trainable_variables, strict=True):
            value, old_value = ops.convert_to_numpy(variable), ops.convert_to_numpy(source)
            # Bicubic interpolation overshoots; a second moment must not become negative or vanish.
            target.assign(np.clip(value, old_value.min(), old_value.max()))
    new._iterations.assign(old._iterations)
    model.set_weights(weights)
    transfer_weights(model, moved)
    if recipe.ema_momentum is not None:
        for average, variable in zip(new._model_variables_moving_average, moved.trainable_variables, strict=True):
            average.assign(np.array(ops.convert_to_numpy(variable)))  # a copy: JAX gives buffers away, each once
    return moved


# --------------------------------------------------------------------------------------------------------- callbacks


class _SeedRandomLayers(keras.callbacks.Callback):
    """Starts drop path's generators anew with each epoch, by (seed, epoch): Keras keeps them out of its checkpoints."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        for k, variable in enumerate(v for v in self.model.variables if v.path.endswith("seed_generator_state")):
            variable.assign(np.random.SeedSequence((self.seed, epoch, k)).generate_state(2))


class _StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Stops with an error before an epoch with a non-finite loss can become a checkpoint."""

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise NonFiniteLoss(f"the loss became {loss} at step {step}: lower learning_rate or check the data")


class _Validate(keras.callbacks.Callback):
    """Adds scores on the validation split to the epoch's logs, with the averaged weights where there are any."""

    def __init__(self, data: ImageSet, recipe: Recipe):
        super().__init__()
        self.data, self.recipe = data, recipe

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.recipe.validate_every and epoch + 1 != self.recipe.epochs:
            return
        weights = _copies(self.model.trainable_variables)
        _use_averages(self.model)
        predicted = predict(self.model, self.data, self.recipe.batch_size)
        scores = score(self.data.labels, predicted, self.data.label_set)
        for variable, value in zip(self.model.trainable_variables, weights, strict=True):
            variable.assign(value)
        for name in ("macro_auroc", "map", "pathologic_auroc"):
            if scores[name].value is not None:
                logs[f"val_{name}"] = scores[name].value
        found = ", ".join(f"{name[4:]} {value:.4f}" for name, value in logs.items() if name.startswith("val_"))
        print(f"epoch {epoch + 1}, validation: {found}", flush=True)


class _History(keras.callbacks.Callback):
    """`history.csv`, one row per epoch; rows of epochs that a resumed run repeats are replaced."""

    COLUMNS = (
        "epoch",
        "size",
        "seconds",
        "learning_rate",
        "loss",
        "val_macro_auroc",
        "val_map",
        "val_pathologic_auroc",
    )

    def __init__(self, path: Path, first_epoch: int):
        super().__init__()
        self.path, self.rows = path, []
        if path.is_file():
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= first_epoch]

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        seconds = round(time.monotonic() - self.began, 1)
        row = {"epoch": epoch + 1, "size": self.model.image_size[0], "seconds": seconds}
        row["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({**row, **{name: logs[name] for name in self.COLUMNS if name in logs and name not in row}})
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)


# --------------------------------------------------------------------------------------------------------------- fit


class _WeightsAndBiases(keras.callbacks.Callback):
    """Sends each epoch's numbers to Weights & Biases, into one run of theirs however often ours is resumed."""

    def __init__(self, recipe: Recipe, folder: Path):
        super().__init__()
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise RealMNetError("--track wandb needs the package wandb: pip install wandb") from error
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self.run = wandb.init(
            project="keras-realmnet", name=recipe.name, id=identity, resume="allow", dir=folder, config=_json(recipe)
        )

    def on_epoch_end(self, epoch, logs=None):
        self.run.log({"epoch": epoch + 1, **(logs or {})})

    def on_train_end(self, logs=None):
        self.run.finish()


@dataclass(frozen=True)
class Resources:
    """What a run may use; it changes the speed, not the result (but see `training.devices` on BatchNorm).

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
):
    """Trains `recipe` on `data`, continuing from the newest checkpoint in `out`; `callbacks` are called before ours.

    Args:
        resume: False: from the first epoch, whatever checkpoint there is; `callbacks` may then remove it.

    Returns:
        The trained, not compiled model at the last phase's size, with averaged weights where the recipe averages.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
        RealMNetError: a checkpoint cannot be written; or the devices are not there.
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
        epoch = _last_epoch(out) if resume else 0
        while epoch < recipe.epochs:
            check_same_epoch(epoch)
            _train_phase(recipe, data, validation, out, epoch, steps, verbose, resources, callbacks)
            epoch = _last_epoch(out)
        model = _restore(recipe, out, recipe.epochs, steps)
        _use_averages(model)
        weights = model.get_weights()
    trained = build_model(recipe, recipe.image_size)
    trained.set_weights(weights)
    return trained


def _train_phase(recipe, data, validation, out, epoch, steps, verbose, resources: Resources, further) -> None:
    """From `epoch` to the end of its phase."""
    keras.utils.set_random_seed(recipe.seed)  # for the weights of a new run
    phase, end = recipe.phase_of(epoch)
    model = _restore(recipe, out, epoch, steps)
    if model.image_size[0] != phase.size:
        model = _moved(model, recipe, phase.size, steps)
    if recipe.fake_quantization is not None:
        fake_quantize(model, recipe.fake_quantization)
    print(f"epochs {epoch + 1} to {end} of {recipe.epochs}: {phase.size} px, {steps} steps of {recipe.batch_size}")
    callbacks = [_SeedRandomLayers(recipe.seed), _StopOnNonFiniteLoss(), *further]
    share = process_share()
    if validation is not None and share == (0, 1):  # several machines cannot predict each for itself meanwhile
        callbacks.append(_Validate(validation, recipe))
    out.mkdir(parents=True, exist_ok=True)
    callbacks.append(_History(out / "history.csv", epoch))
    if _installed("tensorflow"):
        callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False))
    if resources.track == "wandb":
        callbacks.append(_WeightsAndBiases(recipe, out))
    callbacks.append(_SaveCheckpoint(out))
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
    )
    try:
        model.fit(batches, epochs=end, initial_epoch=epoch, shuffle=False, callbacks=callbacks, verbose=verbose)
    finally:
        batches.close()


def training_images(recipe: Recipe, data: ImageSet) -> ImageSet:
    """What `recipe` trains on, of the images of its training split: a share of the patients, then resampled.

    Raises:
        DataSetError: labels that are not known cannot be resampled.
    """
    if recipe.train_share < 1:
        data = data.like(patient_share(data.table(), recipe.train_share, recipe.seed))
    if recipe.resampling is not None:
        data = data.like(recipe.resampling.apply(data.table()))
    return data


def fit(
    recipe: Recipe,
    out: Path,
    cache: Path = Path("data/cache"),
    resume: bool = True,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Prepares the data, trains, evaluates; everything ends up in `out`. Returns what `evaluate` found.

    What is in `out` changes when training begins, not before: a start that fails leaves it as it was.

    Args:
        resume: False starts over: the files of the run in `out` are deleted, and no other file there.

    Raises:
        RealMNetError: `out` cannot be made or written into; or it holds a run of another recipe or of other data, a
            finished one, or files that are named as a run's and are none.
    """
    check_folder(out)
    known = _known_recipe(out)
    if known is not None and resume:
        changed = [key for key, value in _json(known).items() if value != _json(recipe)[key]]
        if changed:
            raise RealMNetError(
                f"{out} holds a run with another {', '.join(changed)}: choose another --out, or start over with "
                "--no-resume"
            )
        if (out / "weights.weights.h5").is_file():
            if not (out / "scores.json").is_file():  # interrupted while it was scored
                return evaluate(out, cache=cache)
            raise RealMNetError(f"{out} holds a finished run: choose another --out, or start over with --no-resume")
    spec = recipe.spec(max(phase.size for phase in recipe.phases))
    data, validation = (recipe.data.load(split, spec, cache) for split in ("train", "validation"))
    if data is None:
        raise RealMNetError(f"recipe {recipe.name!r}: its data has nothing to train on")
    data = training_images(recipe, data)
    facts = _facts(recipe, data, validation, spec)
    if resume:
        _check_same_data(out / "run.json", facts)
    begin = _Begin(recipe, facts, out, resume)

    verbose = "auto" if sys.stdout.isatty() else 2
    model = train(recipe, data, validation, out, verbose, resources, [begin], resume)
    _save_whole(model, out / "weights.weights.h5")
    for path in out.glob("checkpoint-????.weights.h5"):
        path.unlink()
    return evaluate(out, cache=cache)


class _Begin(keras.callbacks.Callback):
    """Makes `out` the folder of this run as its training begins, once all that may be wrong with its start is past."""

    def __init__(self, recipe: Recipe, facts: dict[str, Any], out: Path, resume: bool):
        super().__init__()
        self.recipe, self.facts, self.out, self.resume = recipe, facts, out, resume
        self.begun = False

    def on_train_begin(self, logs=None):
        if self.begun:  # another phase
            return
        if not self.resume:
            for path in sorted(_own_files(self.out), key=lambda path: path.name == "recipe.json"):  # that one last
                path.unlink()
        for name, content in (("recipe.json", _json(self.recipe)), ("run.json", self.facts)):
            temporary = self.out / f"{name.removesuffix('.json')}.tmp"
            temporary.write_text(json.dumps(content, indent=1) + "\n")
            temporary.replace(self.out / name)
        self.begun = True


def _own_files(out: Path) -> list[Path]:
    """What `fit` and `evaluate` have written into the run folder `out`."""
    return [path for pattern in OWN_FILES for path in out.glob(pattern) if path.is_file()]


def _known_recipe(out: Path) -> Recipe | None:
    """The recipe of the run in `out`, if there is one.

    Raises:
        RealMNetError: files are in the place of a run's, but none of ours.
    """
    if (out / "recipe.json").is_file():
        return _read_recipe(out / "recipe.json")
    found = sorted(_own_files(out))
    if found:
        raise RealMNetError(
            f"{found[0]}: not the file of a run, for there is no recipe.json beside it; choose another --out"
        )
    return None


def _read_recipe(path: Path) -> Recipe:
    try:
        return Recipe.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not a recipe as fit writes it ({error})") from error


def _check_same_data(recorded: Path, facts: dict[str, Any]) -> None:
    """Raises RealMNetError where a run began with other data than it would go on with."""
    if not recorded.is_file():
        return
    try:
        before = json.loads(recorded.read_text(encoding="utf-8"))["data_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise RealMNetError(f"{recorded}: damaged ({error}); start over with --no-resume") from error
    for split in {**before, **facts["data_sha256"]}:
        if before.get(split) != facts["data_sha256"].get(split):
            raise RealMNetError(
                f"{recorded}: the run began with other {split} images or labels than there are now; put them back, "
                "choose another --out, or start over with --no-resume"
            )


def load_run(run: Path) -> tuple[keras.Model, Recipe]:
    """The trained model of a run folder and its recipe.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
    """
    run = Path(run)
    for name in ("recipe.json", "weights.weights.h5"):
        if not (run / name).is_file():
            raise RealMNetError(f"{run / name}: no such file; expected the folder of a finished run")
    recipe = _read_recipe(run / "recipe.json")
    keras.config.set_dtype_policy("float32")
    model = build_model(recipe, recipe.image_size)
    model.load_weights(run / "weights.weights.h5")
    return model, recipe


def _json(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(recipe.to_dict()))


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _facts(recipe: Recipe, data: ImageSet, validation: ImageSet | None, spec: PreprocessSpec) -> dict[str, Any]:
    """What a reader needs to repeat the run, beside the recipe."""
    sets = {"train": data} if validation is None else {"train": data, "validation": validation}
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "backend": keras.backend.backend(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
        "git_commit": git.stdout.strip() or None,
        "seed": recipe.seed,
        "training_data": recipe.data.describe(),
        "images": {split: len(images) for split, images in sets.items()},
        "patients": {split: len(set(images.patients)) for split, images in sets.items()},
        "label_counts": {
            split: dict(zip(images.label_set.codes, np.nansum(images.labels, axis=0).astype(int).tolist(), strict=True))
            for split, images in sets.items()
        },
        "data_sha256": {split: images.sha256 for split, images in sets.items()},
        "preprocess": spec.to_dict(),
        "preprocess_hash": spec.hash,
    }
