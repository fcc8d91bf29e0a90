"""What `keras_realmnet.compat` relies on inside Keras is as it says, on each backend. A failure here means: another
release, read that module again before anything else."""

import importlib.metadata
import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet import compat


class Outer(layers.Layer):
    """Two dense layers, the second one within a layer of its own, and two variables."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first = layers.Dense(2, name="first")
        self.inner = keras.Sequential(
            [layers.Dense(3, name="second"), layers.Dropout(0.5, noise_shape=(None, 1), name="drop")], name="inner"
        )
        self.again = self.first

    def build(self, shape):
        self.counter = self.add_weight(name="counter", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(4,), initializer="ones")
        self.first.build(shape)
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x * self.scale) + self.first(x)[..., :1]


def network():
    images = keras.Input((4,), name="images")
    x = Outer(name="outer")(images)
    return keras.Model(images, layers.Dropout(0.25, noise_shape=(None, 1), name="last")(x), name="model")


@pytest.fixture
def model():
    return network()


def names(of):
    return [each.name for each in of]


@pytest.mark.parametrize("package", ["Keras", "keras-hub"])
def test_the_release_is_the_one_that_was_read(package):
    installed = f"{package} {importlib.metadata.version(package.lower())}"
    assert installed in compat.__doc__, (
        f"{installed} is installed: compare it with what each function of keras_realmnet/compat.py says, "
        "then name the release there"
    )


def test_direct_layers_are_those_of_the_layer_itself(model):
    assert names(compat.direct_layers(model)) == ["images", "outer", "last"], "a model's `_layers` are others"
    outer = model.get_layer("outer")
    assert names(compat.direct_layers(outer)) == ["first", "inner"], "`_layers` is not the parts in order, each once"


def test_all_layers_are_those_inside_too_each_once(model):
    found = names(compat.all_layers(model))
    assert found[0] == "model", f"`_flatten_layers` does not begin with the layer itself: {found}"
    inside = {"images", "outer", "first", "inner", "second", "drop", "last"}
    assert inside <= set(found), f"`_flatten_layers` lacks {inside - set(found)}"
    assert len(found) == len(set(found)), f"`_flatten_layers` has some twice: {found}"
    kinds, again = ([type(layer) for layer in compat.all_layers(each)] for each in (model, network()))
    assert kinds == again, "the order differs in a copy"


def test_own_variables_are_neither_sublayers_nor_random_states(model):
    outer = model.get_layer("outer")
    assert names(compat.own_variables(outer)) == ["scale", "counter"], names(compat.own_variables(outer))
    assert names(compat.own_variables(outer.first)) == ["kernel", "bias"]
    assert compat.own_variables(model.get_layer("last")) == [], "a random state is among a layer's own variables"
    every = [id(variable) for layer in compat.all_layers(model) for variable in compat.own_variables(layer)]
    assert sorted(every) == sorted(map(id, model.weights)), "all layers' own variables are not the model's weights"


def test_a_symbolic_tensor_leads_to_its_operation(model):
    assert compat.operation_of(model.output) is model.get_layer("last"), "`_keras_history` leads elsewhere"
    added = ops.add(model.output, 1.0)
    assert type(compat.operation_of(added)).__name__ == "Add", "`_keras_history` leads elsewhere"


class OwnCall(type(network())):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training, mask)


def test_what_a_functional_network_calls_is_gone_through_in_order(model):
    """Networks inside are operations of their own; what `call` gives for one is handed to the next."""
    seen = []

    def call(operation, *arguments, **keywords):
        seen.append((operation.name, arguments, keywords))
        return f"{operation.name}({', '.join(map(str, keras.tree.flatten(arguments)))})"

    images = keras.Input((4,), name="images")
    inside = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name="inside")
    both = layers.Add(name="both")([inside(images, training=False), images])
    given = compat.run_through(keras.Model(images, {"y": model(both)}), "x", call)
    assert given == {"y": "model(both(inside(x), x))"}
    assert seen[0] == ("inside", ("x",), {"training": False})
    assert compat.run_through(inside, "x", call) == "dense(x)"


def test_functional_are_networks_that_compute_their_graph_and_nothing_else(model):
    images = keras.Input((4,))
    built, unbuilt = keras.Sequential([images, layers.Dense(2)]), keras.Sequential([layers.Dense(2)])
    assert compat.is_functional(model)
    assert compat.is_functional(built)
    own = OwnCall(images, layers.Dense(2)(images))
    assert not any(compat.is_functional(other) for other in (unbuilt, own, layers.Dense(2), keras.Model()))


def test_seed_states_are_the_random_layers_and_in_no_checkpoint(model, tmp_path):
    states = compat.seed_states(model)
    drops = [layer for layer in compat.all_layers(model) if isinstance(layer, layers.Dropout)]
    assert len(states) == len(drops) == 2, f"{len(drops)} random layers have the states {[v.path for v in states]}"
    model.save_weights(tmp_path / "before.weights.h5")
    before = [ops.convert_to_numpy(state).copy() for state in states]
    model(np.ones((2, 4), "float32"), training=True)
    after = [ops.convert_to_numpy(state).copy() for state in states]
    assert not any(map(np.array_equal, before, after)), "a step of training does not move the states"
    model.load_weights(tmp_path / "before.weights.h5")
    loaded = [ops.convert_to_numpy(state) for state in states]
    assert all(map(np.array_equal, after, loaded)), "Keras keeps the states in its checkpoints now: no need to set them"


def variables(*values):
    return [keras.Variable(np.full(2 + k, value, "float32"), name=f"v{k}") for k, value in enumerate(values)]


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_moments_are_adams_in_the_order_of_the_variables(optimizer):
    weights, gradients = variables(1.0, 2.0), (0.5, -0.25)
    adam = optimizer(beta_1=0.9, beta_2=0.99)
    adam.build(weights)
    adam.apply([ops.full(w.shape, g) for w, g in zip(weights, gradients, strict=True)], weights)
    first, second = compat.moments(adam)
    for variable, m, v, gradient in zip(weights, first, second, gradients, strict=True):
        assert m.shape == v.shape == variable.shape, "moments are in another order than the variables"
        np.testing.assert_allclose(ops.convert_to_numpy(m), 0.1 * gradient, rtol=1e-5, err_msg="`_momentums`")
        np.testing.assert_allclose(ops.convert_to_numpy(v), 0.01 * gradient**2, rtol=1e-4, err_msg="`_velocities`")


def test_the_momenta_of_sgd_are_in_the_order_of_the_variables():
    weights, gradients = variables(1.0, 2.0), (0.5, -0.25)
    sgd = keras.optimizers.SGD(0.1, momentum=0.9)
    sgd.build(weights)
    sgd.apply([ops.full(w.shape, g) for w, g in zip(weights, gradients, strict=True)], weights)
    (momenta,) = compat.moments(sgd)
    for variable, momentum, gradient in zip(weights, momenta, gradients, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(momentum), np.full(variable.shape, -0.1 * gradient), rtol=1e-5)


def test_averages_follow_the_weights_in_their_order():
    weights = variables(1.0, 2.0)
    adam = keras.optimizers.AdamW(0.1, use_ema=True, ema_momentum=0.75)
    adam.build(weights)
    expected = None
    for _ in range(3):
        adam.apply([ops.ones(w.shape) for w in weights], weights)
        now = [ops.convert_to_numpy(w).copy() for w in weights]
        expected = now if expected is None else [0.75 * a + 0.25 * w for a, w in zip(expected, now, strict=True)]
    found = [ops.convert_to_numpy(average) for average in compat.averages(adam)]
    for average, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(average, value, rtol=1e-5, err_msg="`_model_variables_moving_average`")


def test_step_count_counts_batches_also_where_gradients_are_accumulated():
    weights = variables(1.0)
    adam = keras.optimizers.AdamW(gradient_accumulation_steps=2)
    adam.build(weights)
    for _ in range(3):
        adam.apply([ops.ones(w.shape) for w in weights], weights)
    assert int(compat.step_count(adam)) == 3, "`_iterations` counts something else than batches"
    assert int(adam.iterations) == 1
    compat.step_count(adam).assign(8)
    assert int(adam.iterations) == 4, "`_iterations` is not what the optimizer counts by"


def test_a_weights_file_without_a_file_is_the_same(model, tmp_path):
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    compat.step_count(model.optimizer).assign(7)
    (tmp_path / "kept.weights.h5").write_bytes(compat.weights_file(model))
    again = network()
    again.compile("adam", "mse")
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "kept.weights.h5")
    for kept, loaded in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, loaded)
    assert int(compat.step_count(again.optimizer)) == 7, "the optimizer is not in it"


# ---- networks of keras.applications and keras-hub ----


def refused(function, arguments):
    return sorted(set(arguments.split()) - set(inspect.signature(function).parameters))


def test_builders_of_networks_take_what_they_are_given():
    common = "name weights_name include_top weights input_shape pooling"
    given = "depths projection_dims drop_path_rate layer_scale_init_value include_preprocessing " + common
    assert refused(compat.ConvNeXt, given) == [], "ConvNeXt has other arguments"
    assert list(inspect.signature(compat.ConvNeXt).parameters)[:3] == ["depths", "projection_dims", "drop_path_rate"]
    given = "width_coefficient depth_coefficient default_size drop_connect_rate depth_divisor " + common
    assert refused(compat.EfficientNet, given) == [], "EfficientNet has other arguments"
    assert list(inspect.signature(compat.EfficientNet).parameters)[:2] == ["width_coefficient", "depth_coefficient"]
    assert [stage["repeats"] for stage in compat.DEFAULT_BLOCKS_ARGS] == [1, 2, 2, 3, 3, 4, 1]


def test_parts_of_convnext_have_what_is_read_of_them():
    network = compat.ConvNeXt(
        [1, 1, 1, 1],
        [8, 8, 8, 8],
        0.5,
        1e-6,
        name="convnext_tiny",
        weights_name="convnext_tiny",
        include_preprocessing=False,
        include_top=False,
        weights=None,
        input_shape=(32, 32, 3),
        pooling="avg",
    )
    scales = [layer for layer in network.layers if isinstance(layer, compat.LayerScale)]
    assert [(layer.init_values, layer.projection_dim) for layer in scales] == [(1e-6, 8)] * 4
    assert all(len(layer.get_weights()) == 1 for layer in scales), "LayerScale has other weights than one scale"
    depths = [layer.drop_path_rate for layer in network.layers if isinstance(layer, compat.StochasticDepth)]
    assert depths, "ConvNeXt has no StochasticDepth"
    assert max(depths) == pytest.approx(0.5), f"StochasticDepth drops at {depths}"
    grouped = [layer for layer in network.layers if isinstance(layer, layers.Conv2D) and layer.groups > 1]
    assert [tuple(layer.kernel.shape) for layer in grouped] == [(7, 7, 1, 8)] * 4, "depthwise kernels lie otherwise"


def test_parts_of_deit_have_what_is_replaced_in_them():
    embeddings, encoder, block = compat.deit_layers()
    assert list(inspect.signature(embeddings).parameters)[:3] == ["image_size", "patch_size", "hidden_dim"]
    sizes = {"num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    tokens = keras.random.normal((1, 6, 8), seed=0)
    one = block(**sizes)
    one.build((None, 6, 8))
    normalized = one.layer_norm_1(tokens)
    x = tokens + one.mha(normalized, normalized)
    x = x + one.output_layer.dense(one.mlp(one.layer_norm_2(x)))  # as our block with a rate of 0
    found = one(tokens)[0]
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, x)), atol=1e-5, err_msg="the block does otherwise")
    whole = encoder(num_layers=2, **sizes)
    assert (whole.num_layers, whole.num_heads, whole.hidden_dim, whole.intermediate_dim) == (2, 2, 8, 16)
    assert isinstance(whole.layer_norm_epsilon, float)
    whole.build((None, 6, 8))
    assert len(whole.encoder_layers) == 2, "the encoder's blocks have another name: ours would be left out"
    x = tokens
    for each in whole.encoder_layers:
        x = each(x)[0]
    found = whole(tokens)[0]
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, whole.layer_norm(x))), atol=1e-5)
