"""What a training starts from: the network with the weights that the recipe names, its optimizer and its loss."""

from pathlib import Path

import keras

from keras_realmnet import losses
from keras_realmnet.errors import RealMNetError
from keras_realmnet.presets import REALMNET_PRESETS
from keras_realmnet.schedules import WarmupCosine
from keras_realmnet.weights import transfer_weights
from training.recipe import Recipe
from training.runs import build_model, load_run

__all__ = ["compile_model", "decayed", "initial_model"]


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
        return build_model(recipe, size, load_weights=recipe.weights)
    path = Path(recipe.weights).expanduser()
    if not path.exists():
        raise RealMNetError(
            f"{path}: no such file or run. Published weights: python -m training download --help; random ones: "
            "--set weights=None"
        )
    if not path.is_dir():
        return build_model(recipe, size, load_weights=path)
    model = build_model(recipe, size)
    source, theirs = load_run(path)
    if (theirs.head, theirs.data.task.trained) == (recipe.head, recipe.data.task.trained):
        return transfer_weights(source, model)
    transfer_weights(source.backbone, model.backbone)
    if recipe.head == theirs.head == "residual_attention":
        model.get_layer("head_norm").set_weights(source.get_layer("head_norm").get_weights())
    return model


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
