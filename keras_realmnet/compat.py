"""Everything that this project relies on inside Keras 3.15.1 and keras-hub 0.32.0, beyond their public interface.

No other module touches these parts (`tests/test_private_names.py`), and each function has a test of its own that fails
where another release behaves differently, on each backend (`tests/test_keras_compat.py`). Each says which names it
uses, and which public way is missing.
"""

import io

from keras.optimizers import SGD
from keras.src.applications.convnext import ConvNeXt, LayerScale, StochasticDepth
from keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
from keras.src.models.functional import Functional
from keras.src.models.sequential import Sequential

__all__ = [
    "DEFAULT_BLOCKS_ARGS",
    "ConvNeXt",
    "EfficientNet",
    "LayerScale",
    "StochasticDepth",
    "all_layers",
    "averages",
    "deit_layers",
    "direct_layers",
    "is_functional",
    "moments",
    "operation_of",
    "own_variables",
    "run_through",
    "seed_states",
    "step_count",
    "weights_file",
]

# ConvNeXt, LayerScale, StochasticDepth, EfficientNet, DEFAULT_BLOCKS_ARGS of `keras.src.applications`: the public
# functions (`keras.applications.EfficientNetB4` and so on) leave no choice of size or of stochastic depth.


def deit_layers():
    """(DeiTEmbeddings, DeiTEncoder, DeiTEncoderBlock) of `keras_hub.src.models.deit.deit_layers`.

    `keras_hub.models.DeiTBackbone` has no stochastic depth. Imported here alone: keras-hub takes its time.
    """
    from keras_hub.src.models.deit.deit_layers import DeiTEmbeddings, DeiTEncoder, DeiTEncoderBlock

    return DeiTEmbeddings, DeiTEncoder, DeiTEncoderBlock


# ---- layers ----


def direct_layers(layer):
    """The layers that are parts of `layer` itself, in the order in which they became so.

    `Layer._layers`; `Model.layers` is of models alone.
    """
    return list(layer._layers)


def all_layers(layer):
    """`layer` and every layer inside, each once.

    `Layer._flatten_layers`; `Model.layers` does not look inside of layers.
    """
    return list(layer._flatten_layers())


def own_variables(layer):
    """The variables of `layer` itself, those that are trained first, without its sublayers' and random states.

    `Layer._trainable_variables` and `Layer._non_trainable_variables`; `Layer.variables` has the sublayers', too.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def operation_of(tensor):
    """The operation, a layer for one, that a symbolic tensor is an output of.

    `KerasTensor._keras_history`; nothing public leads from a tensor to it.
    """
    return tensor._keras_history.operation


def is_functional(layer):
    """Whether all that `layer` computes is the graph of its layers: `run_through` goes through it.

    `keras.src.models.functional.Functional` and `Sequential._functional`: `keras.Model` makes the first, which has no
    public name, and a class that derives from it may compute something else in a `call` of its own.
    """
    if isinstance(layer, Sequential):
        return type(layer).call is Sequential.call and layer._functional is not None
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def run_through(model, inputs, call):
    """What comes out of the functional `model` if each of its operations gives what `call` makes of it.

    In the order in which Keras computes them, `call(operation, *arguments, **keywords)` is handed what it has given for
    the operations before, `inputs` at first; anything that `keras.tree` takes as a leaf will do.

    `Functional._run_through_graph`; `keras.models.clone_model`, which calls it, takes symbolic tensors alone.
    """
    functional = model._functional if isinstance(model, Sequential) else model
    return functional._run_through_graph(inputs, call_fn=call)


def seed_states(model):
    """The variables that hold the state of random layers, in the order of `model.variables`.

    Those whose path ends with `seed_generator_state`, as `keras.random.SeedGenerator` names them: no public list has
    the generators of a model, and no checkpoint their states.
    """
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


# ---- optimizers ----


def moments(optimizer):
    """What an optimizer keeps of each variable, lists in the order of the variables it was built with.

    (first moments, second moments) of Adam or AdamW, (momenta,) of SGD with momentum.

    `Adam._momentums` and `Adam._velocities`; `Optimizer.variables` has them by the names of their variables alone.
    """
    if isinstance(optimizer, SGD):
        return (optimizer.momentums,)
    return optimizer._momentums, optimizer._velocities


def averages(optimizer):
    """The averages of the weights, in the order of the variables it was built with; for one with `use_ema`.

    `Optimizer._model_variables_moving_average`. The public `finalize_variable_values` puts them in the place of the
    weights, but shares JAX' buffers, which the next compiled step gives away.
    """
    return optimizer._model_variables_moving_average


def step_count(optimizer):
    """The variable that counts the batches.

    `Optimizer._iterations`; the public `iterations` is no variable where gradients are accumulated.
    """
    return optimizer._iterations


# ---- files ----


class _Memory(io.BytesIO):
    """A weights file in memory, named as Keras wants it."""

    def __str__(self):
        return "memory.weights.h5"


def weights_file(model):
    """The bytes of the file that `model.save_weights` writes, of weights and optimizer, without a file.

    `Model.save_weights` takes an open file in the place of a path where `str` of it ends as a path would have to, and
    leaves it open; it promises neither.
    """
    memory = _Memory()
    model.save_weights(memory)
    return memory.getbuffer()
