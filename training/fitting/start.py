"""What a training starts from: the network with the weights that the recipe names, its optimizer and its loss."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_realmnet import losses
from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.models.lesions.grading import LESION_NET, use_lesion_net
from keras_realmnet.models.network import learned_by
from keras_realmnet.presets import LESION_GUIDED_PRESETS, LESION_PRESETS, REALMNET_PRESETS, frozen_part
from keras_realmnet.schedules import WarmupCosine
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.weights import transfer_weights
from training.data.files.notices import noticed, tell
from training.datasets.image_set import ImageSet
from training.recipe import Recipe
from training.runs import build_model, load_run, patients_learned, read_task, recipe_of_run
from training.scoring.figures import Losses
from training.tasks.objective import objectives

__all__ = [
    "check_part_run",
    "compile_model",
    "decayed",
    "initial_model",
    "losses_of",
    "options_after_drop",
]

Trained = Labels | Grades | Masks | Points
_NEEDS = "looks at what a trained Lesion-Net tells: lesion_run must be the folder of such a run"


def initial_model(recipe: Recipe, size: int) -> keras.Model:
    """The recipe's network as its training begins, with the weights that `recipe.weights` names, if any.

    That is the folder of a finished run (its features, and the ends of outputs that are the same), or else what
    `keras_realmnet.models.networks.build` takes for this network: for one with TinyViT a `.safetensors` file (a
    reference checkpoint, whose classifier is left out).

    The Lesion-Net beside which a network grades is that of `recipe.lesion_run`, the run of one or of a network that
    grades beside one; `recipe.weights` is what the encoder that grades starts from, as without a Lesion-Net. The part
    of a network that is a trained network by itself (beside, or of REFUGE2) is that of `recipe.part_run`, likewise.

    Raises:
        RealMNetError: there is no such file or run, or it does not fit; a network with such a part has none that is
            trained.
    """
    part = frozen_part(recipe.preset, recipe.model_options)
    if part is not None:
        return _with_part(recipe, size, part)
    if recipe.preset not in LESION_GUIDED_PRESETS:
        return _weighted_model(recipe, size)
    if recipe.lesion_run is None:
        raise RealMNetError(f"{recipe.preset} {_NEEDS}. Received: lesion_run=None")
    run = Path(recipe.lesion_run).expanduser()
    preset = recipe_of_run(run).preset
    if preset not in (*LESION_PRESETS, *LESION_GUIDED_PRESETS):
        raise RealMNetError(f"{recipe.preset} {_NEEDS}. Received: {run}, a run of {preset}")
    lesion_net, _ = load_run(run)
    model = _weighted_model(recipe, size)
    return use_lesion_net(model, lesion_net if preset in LESION_PRESETS else lesion_net.get_layer(LESION_NET))


def _with_part(recipe: Recipe, size: int, part: str) -> keras.Model:
    if recipe.part_run is None:
        raise RealMNetError(
            f"{recipe.preset} looks at what a trained network of {part} tells: part_run must be the folder of its run. "
            "Received: part_run=None"
        )
    trained, _ = load_run(Path(recipe.part_run).expanduser())
    model = _weighted_model(recipe, size)
    # A network that has such a part itself, or what leads to its own output: a GAN's discriminator does not.
    inner = next((layer for layer in trained.layers if layer.name == part), None)
    inner, own = inner or keras.Model(trained.inputs, trained.outputs), model.get_layer(part)
    if [type(layer) for layer in inner.layers] != [type(layer) for layer in own.layers]:  # such as a normalization
        raise RealMNetError(f"{recipe.part_run}: its network of {part} is another one than model_options say")
    transfer_weights(inner, own)
    return model


def check_part_run(run: str, part: str, held_out: Iterable[ImageSet | None], cache: Path) -> None:
    """Of a network with a frozen part or a teacher: of what that one has learned, the network says too much.

    Told where the pictures of that run are not there, so that it cannot be known.

    Args:
        run, part: see `Recipe.other_runs`.

    Raises:
        RealMNetError: the network of `run` learned from patients of the images `held_out`, on which the network would
            be validated or tested; names them.
    """
    try:
        known = patients_learned(Path(run).expanduser(), cache)
    except DataSetError as error:
        what = f"whether the {part} learned from pictures that are held out here is not known"
        tell(noticed((f"{run}: {what}", [str(error)])))
        return
    seen = sorted(known & {patient for images in held_out if images is not None for patient in images.patients})
    if seen:
        raise RealMNetError(
            f"{run}: the {part} learned from pictures of patients who are held out here: leave them "
            f"out (the field `without` of your own data), or name the run of one that did not. Found: "
            f"{', '.join(seen)}"
        )


def _weighted_model(recipe: Recipe, size: int) -> keras.Model:
    if recipe.weights is None:
        return build_model(recipe, size)
    path = Path(recipe.weights).expanduser()
    preset = REALMNET_PRESETS.get(recipe.preset)
    tiny_vit = preset is not None and "architecture" not in preset
    if (path / "recipe.json").is_file() or (tiny_vit and path.is_dir()):
        return _from_run(path, recipe, size)
    if not tiny_vit:
        return build_model(recipe, size, load_weights=recipe.weights)
    if not path.exists():
        raise RealMNetError(
            f"{path}: no such file or run. Published weights: python -m training download --help; random ones: "
            "--set weights=None"
        )
    return build_model(recipe, size, load_weights=path)


def _from_run(run: Path, recipe: Recipe, size: int) -> keras.Model:
    model = build_model(recipe, size)
    source, theirs = load_run(run)
    answered, asked = read_task(run).questions, recipe.data.task.questions
    if (theirs.head, answered) == (recipe.head, asked):
        return transfer_weights(source, model)
    transfer_weights(_features(source), _features(model))
    for name, output in asked.items():
        if theirs.preset == recipe.preset and name in answered and _as_large(output, answered[name]):
            _transfer_end(name, source, model)
    norms = [[each for each in network.layers if each.name == "head_norm"] for network in (source, model)]
    if all(norms):  # networks on TinyViT with a head that attends
        norms[1][0].set_weights(norms[0][0].get_weights())
    return model


def _as_large(one: Trained, other: Trained) -> bool:
    """Whether two outputs are of one kind and have the same labels, whatever their vocabularies are called."""
    facts = [
        (type(each), each.labels.codes, *(getattr(each, option, None) for option in ("exclusive", "confidence")))
        for each in (one, other)
    ]
    return facts[0] == facts[1]


def _transfer_end(output: str, source: keras.Model, model: keras.Model) -> None:
    """The layers between the features and an output, which are named after it in networks of several outputs."""
    names = {layer.name for layer in source.layers}
    for layer in model.layers:
        if layer.name in names and (layer.name == output or layer.name.startswith(f"{output}_")):
            layer.set_weights(source.get_layer(layer.name).get_weights())


def _features(model: keras.Model) -> keras.Model:
    """The part of a network that may serve another task."""
    names = {layer.name for layer in model.layers}
    part = next((name for name in ("backbone", "encoder") if name in names), None)
    if part is None:
        raise RealMNetError(f"the features of {model.name} cannot be taken for another task: it has no encoder")
    return model.get_layer(part)


def decayed(variable: keras.Variable) -> bool:
    """Whether weight decay applies: not to biases, norms and other 1-D weights. Attention-bias tables are 2-D."""
    return len(variable.shape) > 1 and variable.name not in ("bias", "relative_position_bias_table")


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    """Gives `model` the recipe's optimizer, schedule and loss; an epoch has `steps_per_epoch` batches."""
    schedule = WarmupCosine(
        peak=recipe.learning_rate,
        total_steps=recipe.epochs * steps_per_epoch,
        warmup_steps=round(recipe.warmup_epochs * steps_per_epoch),
        warmup_start=recipe.warmup_start,
        final=recipe.final_learning_rate,
    )
    if recipe.momentum is None:
        rule, own = keras.optimizers.AdamW, {name: getattr(recipe, name) for name in ("beta_1", "beta_2", "epsilon")}
    else:
        rule, own = keras.optimizers.SGD, {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    optimizer = rule(
        schedule if recipe.drop_after is None else recipe.learning_rate,  # see `LowerLearningRate`
        **own,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema_momentum is not None,
        # Keras averages after every batch, also after those that only add to the accumulated gradient.
        ema_momentum=(recipe.ema_momentum or 0.0) ** (1 / recipe.accumulate),
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if not decayed(v)])
    optimizer.build(model.trainable_variables)
    # JAX cannot do without its compiler; on CPUs the others are slower with XLA (depthwise gradients).
    jit_compile = keras.backend.backend() == "jax"
    found = losses_of(recipe) if recipe.teacher is None else _with_teacher(recipe)
    if isinstance(model.output, dict):
        ends = learned_by(model.output)  # the loss of an auxiliary end is that of its output, and counts as often
        # An end that nothing trainable leads to, as of a frozen part, has no loss: TensorFlow then does not compute it.
        ends = {end: output for end, output in ends.items() if _learns(model, end)}
        named, weights = ({end: found[output][k] for end, output in ends.items()} for k in range(2))
        model.compile(optimizer, named, loss_weights=weights, jit_compile=jit_compile)
    else:
        ((loss, weight),) = found.values()
        model.compile(optimizer, loss, loss_weights=None if weight == 1 else weight, jit_compile=jit_compile)
    return model


def _with_teacher(recipe: Recipe) -> Losses:
    """As `losses_of`, of targets that hold what a teacher says, too; validation has no teacher."""
    options = {"temperature": recipe.teacher_temperature, "weight": recipe.teacher_weight}
    outputs = recipe.data.task.trained
    return {
        name: (losses.Distillation(loss, of=outputs[name].activation, **options), weight)
        for name, (loss, weight) in losses_of(recipe).items()
    }


def _learns(model: keras.Model, end: str) -> bool:
    return bool(keras.Model(model.inputs, model.output[end]).trainable_variables)


def options_after_drop(recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    """{output: options of its loss that change when the learning rate first falls}, empty where there are none."""
    goals = objectives(recipe.data.task, recipe.loss, recipe.loss_options_after_drop)
    return {name: goal.options for name, goal in goals.items() if recipe.loss_options_after_drop}


def losses_of(recipe: Recipe) -> Losses:
    """{output: its loss, and how often that counts}."""
    goals = objectives(recipe.data.task, recipe.loss, recipe.loss_options, recipe.loss_weights)
    return {name: (getattr(losses, goal.loss)(**goal.options), goal.weight) for name, goal in goals.items()}
