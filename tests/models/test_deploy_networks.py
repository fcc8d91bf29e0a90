"""Deploy graphs of any network: what is folded is found by who reads what, and the result is what the network gives."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet import LinearHead, ResidualAttentionHead
from keras_realmnet.deploy.arithmetic import batch_norm_as_scale_shift, fold_layer_norm, fold_scale_shift_after
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.layers.heads import ClassMaps

tensorflow_only = pytest.mark.tensorflow_only
SIZE = 16


def randomized(model, seed=0):
    """`model` with no weight or statistic at its initial value."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.dtype != "float32" or not shape:  # counters and random states
            continue
        if weight.name in ("gamma", "moving_variance", "variance"):
            weight.assign(rng.uniform(0.5, 1.5, shape))
        elif "kernel" in weight.name:
            fan_in = np.prod(shape[:2]) if "depthwise" in weight.name else np.prod(shape[:-1])
            weight.assign(rng.normal(0, (2 / fan_in) ** 0.5, shape))
        else:  # biases, shifts, means
            weight.assign(rng.normal(0, 0.3, shape))
    return model


def pixels(count=2, size=SIZE):
    return np.random.default_rng(1).uniform(0, 255, (count, size, size, 3)).astype("float32")


def network(make, name="network"):
    """A model of `SIZE` pixels whose only output, "y", is what `make` makes of the pixels."""
    images = keras.Input((SIZE, SIZE, 3), name="images")
    return randomized(keras.Model(images, {"y": make(images)}, name=name))


def kinds(graph):
    return [type(layer).__name__ for layer in graph.layers if not isinstance(layer, layers.InputLayer)]


def deployed(model, images=None, tolerance=1e-5):
    """The deploy graph of a `network`, after it was compared with that."""
    images = pixels() if images is None else images
    graph = deploy_graph(model, batch_size=len(images), activations=dict.fromkeys(model.output))
    received = graph(images)
    for name, value in model(images).items():
        value = ops.convert_to_numpy(value)
        assert np.ptp(value) > 0
        atol = tolerance * np.abs(value).max()
        np.testing.assert_allclose(ops.convert_to_numpy(received[name]), value, rtol=0, atol=atol, err_msg=name)
    return graph


def norm(**arguments):
    return layers.BatchNormalization(epsilon=0.01, **arguments)


def scaled(x):
    """Pixels as a network sees them, not shifted."""
    return layers.Rescaling(1 / 255)(x)


FOLDED = {
    "Conv2D": lambda x: norm()(layers.Conv2D(4, 3, use_bias=False)(x)),
    "Conv2D with a bias, padded": lambda x: norm()(layers.Conv2D(4, 3, padding="same")(x)),
    "Conv2D in groups": lambda x: norm()(layers.Conv2D(6, 3, groups=3)(x)),
    "dilated Conv2D": lambda x: norm()(layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)),
    "DepthwiseConv2D": lambda x: norm()(layers.DepthwiseConv2D(3, 2, "same", use_bias=False)(x)),
    "DepthwiseConv2D with a multiplier": lambda x: norm()(layers.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "Conv2DTranspose": lambda x: norm()(layers.Conv2DTranspose(4, 3, 2, "same")(x)),
    "Dense": lambda x: norm()(layers.Dense(4)(x)),
    "neither γ nor β": lambda x: norm(center=False, scale=False)(layers.Conv2D(4, 3)(x)),
    "β alone": lambda x: norm(scale=False)(layers.Conv2D(4, 3)(x)),
}


@pytest.mark.parametrize("case", FOLDED)
def test_a_batch_norm_becomes_part_of_the_layer_that_it_alone_reads(case):
    graph = deployed(network(lambda x: FOLDED[case](scaled(x))))
    assert len(kinds(graph)) == (2 if "Transpose" in case or "groups" in case else 1)  # before those the scale stays


LEFT = {
    "at the beginning": lambda x: layers.Conv2D(4, 3, padding="same")(norm()(x)),
    "after a pooling": lambda x: norm()(layers.MaxPooling2D()(x)),
    "after an activation inside of the convolution": lambda x: norm()(layers.Conv2D(4, 3, activation="relu")(x)),
    "after an addition": lambda x: norm()(layers.Add()([layers.Conv2D(3, 1)(x), x])),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_batch_norm_without_a_convolution_before_it_stays_as_a_multiply_add(case):
    graph = deployed(network(lambda x: LEFT[case](x)))
    assert kinds(graph).count("ScaleShift") == 1
    assert "BatchNormalization" not in kinds(graph)


def test_a_convolution_with_another_reader_keeps_its_weights():
    def two_readers(x):
        x = layers.Conv2D(4, 3, name="conv")(x)
        return layers.Add()([norm()(x), x])

    model = network(two_readers)
    graph = deployed(model)
    assert kinds(graph) == ["Conv2D", "ScaleShift", "Add"]
    kernels = [ops.convert_to_numpy(m.get_layer("conv").kernel) for m in (model, graph)]
    np.testing.assert_array_equal(*kernels)

    images = keras.Input((SIZE, SIZE, 3), name="images")
    x = layers.Conv2D(4, 3)(images)
    graph = deployed(randomized(keras.Model(images, {"before": x, "after": norm()(x)})))  # read as an output
    assert kinds(graph) == ["Conv2D", "ScaleShift"]


def normalization():
    return layers.Normalization(mean=(120.0, 100.0, 90.0), variance=(2500.0, 2400.0, 900.0))


PIXELS = {  # what scales the pixels, what comes next, whether the scale becomes part of that
    "no shift, padded": (lambda: layers.Rescaling(1 / 255), {"padding": "same"}, True),
    "no shift, valid": (lambda: layers.Rescaling(1 / 255), {"padding": "valid"}, True),
    "a shift, valid": (lambda: layers.Rescaling(1 / 127.5, -1.0), {"padding": "valid"}, True),
    "a shift, padded": (lambda: layers.Rescaling(1 / 127.5, -1.0), {"padding": "same"}, False),
    "by channel, valid": (normalization, {"padding": "valid"}, True),
    "by channel, padded": (normalization, {"padding": "same"}, False),
    "a list of scales": (lambda: layers.Rescaling([0.01, 0.02, 0.03], [0.1, 0.2, 0.3]), {"padding": "valid"}, True),
}


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
@pytest.mark.parametrize("case", PIXELS)
def test_the_scaling_of_the_pixels_is_folded_where_that_is_exact(case, kind):
    scaling, options, folded = PIXELS[case]
    convolution = layers.Conv2D(4, 3, **options) if kind == "Conv2D" else layers.DepthwiseConv2D(3, **options)
    graph = deployed(network(lambda x: convolution(scaling()(x))))
    assert kinds(graph) == ([kind] if folded else ["ScaleShift", kind])


def test_zeros_around_shifted_pixels_stay_zeros():
    pad = layers.ZeroPadding2D(2)
    assert kinds(deployed(network(lambda x: layers.Conv2D(4, 3)(pad(normalization()(x)))))) == [
        *("ScaleShift", "ZeroPadding2D", "Conv2D")
    ]
    assert kinds(deployed(network(lambda x: layers.Conv2D(4, 3)(pad(scaled(x)))))) == ["ZeroPadding2D", "Conv2D"]


def test_two_scalings_are_one():
    graph = deployed(network(lambda x: layers.Conv2D(4, 3, padding="same")(normalization()(scaled(x)))), tolerance=1e-4)
    assert kinds(graph) == ["ScaleShift", "Conv2D"]


@pytest.mark.parametrize("affine", [{}, {"scale": False}, {"center": False}, {"center": False, "scale": False}])
@pytest.mark.parametrize("bias", [True, False])
def test_the_affine_part_of_a_layer_norm_becomes_part_of_the_dense_layer_after_it(affine, bias):
    graph = deployed(network(lambda x: layers.Dense(5, use_bias=bias)(layers.LayerNormalization(**affine)(x))))
    (kept,) = (layer for layer in graph.layers if isinstance(layer, layers.LayerNormalization))
    assert not kept.weights
    model = network(lambda x: layers.Add()([layers.Dense(3)(y := layers.LayerNormalization()(x)), y]))
    (kept,) = (layer for layer in deployed(model).layers if isinstance(layer, layers.LayerNormalization))
    assert len(kept.weights) == 2  # there is another reader


def test_what_only_training_needs_is_gone():
    def make(x):
        x = layers.GaussianNoise(1.0)(layers.Conv2D(8, 3, name="conv")(x))
        x = layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(layers.Identity()(x))
        return norm()(layers.SpatialDropout2D(0.5)(layers.Activation("linear")(x)))

    assert kinds(deployed(network(make))) == ["Conv2D"]


def test_networks_inside_are_taken_apart_and_shared_ones_are_copied():
    inner = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Conv2D(3, 3, padding="same", name="conv"), norm()])
    inside = keras.Input((SIZE, SIZE, 3))
    middle = keras.Model(inside, [inner(inside), layers.Conv2D(3, 1, name="conv")(inside)], name="middle")

    def make(x):
        first, second = middle(x)
        return layers.Add()([*middle(first), second])

    graph = deployed(network(make))
    assert kinds(graph).count("Conv2D") == 4
    assert sorted(layer.name for layer in graph.layers if isinstance(layer, layers.Conv2D)) == [
        *("conv", "conv_2", "conv_3", "conv_4")
    ]
    assert "BatchNormalization" not in kinds(graph)


def test_a_layer_with_an_outputs_name_leaves_it_to_the_output():
    images = keras.Input((SIZE, SIZE, 3), name="images")
    x = layers.GlobalAveragePooling2D()(images)
    logits = {name: layers.Dense(3, name=name)(x) for name in ("grades", "labels", "points")}
    model = randomized(keras.Model(images, logits))
    activations = {"labels": "sigmoid", "grades": "softmax", "points": None}
    received = deploy_graph(model, batch_size=2, activations=activations)(pixels())
    expected = model(pixels())
    for name, function in (("grades", ops.softmax), ("labels", ops.sigmoid), ("points", ops.copy)):
        value = ops.convert_to_numpy(function(expected[name]))
        np.testing.assert_allclose(ops.convert_to_numpy(received[name]), value, atol=1e-4 * np.abs(value).max())
    assert list(deploy_graph(model, ("points",), activations=activations).output) == ["points"]


@pytest.mark.parametrize("head", [ResidualAttentionHead, LinearHead])
def test_class_maps_and_features_of_a_head(head):
    model = network(lambda x: head(5, name="head")(layers.Conv2D(8, 3, 4, activation="relu", name="map")(scaled(x))))
    options = {"activations": {"y": "softmax"}, "class_maps": {"maps": "y"}, "features": {"vector": "y"}}
    received = deploy_graph(model, batch_size=2, **options)(pixels())
    feature_map = keras.Model(model.input, model.get_layer("map").output)(pixels())
    expected = {
        "y": ops.softmax(model(pixels())["y"]),
        "maps": ClassMaps(model.get_layer("head"))(feature_map),
        "vector": ops.mean(feature_map, axis=(1, 2)),
    }
    assert set(received) == set(expected)
    for name, value in expected.items():
        value = ops.convert_to_numpy(value)
        assert np.ptp(value) > 0
        np.testing.assert_allclose(ops.convert_to_numpy(received[name]), value, atol=1e-5 * np.abs(value).max())


def test_arguments_that_do_not_fit_are_refused():
    model = network(lambda x: layers.Dense(3, name="it")(x))
    for arguments, message in (
        ({}, "activations must name y. Received: None"),
        ({"activations": {"z": None}}, "activations must name y. Received: {'z': None}"),
        ({"activations": {"y": "relu"}}, "activations must be sigmoid, softmax or None. Received: y='relu'"),
        ({"activations": {"y": None}, "class_maps": {"m": "z"}}, "class_maps must be of y. Received: {'m': 'z'}"),
        ({"activations": {"y": None}, "features": {"y": "y"}}, "names of their own. Received: y, y"),
        ({"activations": {"y": None}, "outputs": ()}, r"outputs must be some of y. Received: \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            deploy_graph(model, **arguments)
    with pytest.raises(RealMNetError, match=r"it: .*Dense.*no head computes 'y', of which 'm' is asked for"):
        deploy_graph(model, activations={"y": None}, class_maps={"m": "y"})
    one = keras.Model(model.input, model.output["y"])
    with pytest.raises(ValueError, match="activations must name the one output"):
        deploy_graph(one)
    assert list(deploy_graph(one, activations={"grades": "softmax"}).output) == ["grades"]
    for other in ("model.keras", None):
        with pytest.raises(RealMNetError, match=f"functional Keras network expected. Received: {type(other).__name__}"):
            deploy_graph(other)


class OwnCall(keras.Model):
    def call(self, x):
        return 2 * x


class Twice(layers.Conv2D):
    def call(self, inputs):
        return 2 * super().call(inputs)


UNKNOWN = {
    "it: .*UnitNormalization.*are known": layers.UnitNormalization(name="it"),
    "it: .*Twice": Twice(4, 3, name="it"),
    "it: .*OwnCall": OwnCall(name="it"),
    "it: .*activation elu": layers.Conv2D(4, 3, activation="elu", name="it"),
    "it: .*data_format": layers.ZeroPadding2D(1, data_format="channels_first", name="it"),
    "it: .*LayerNormalization with axis": layers.LayerNormalization((1, 2), name="it"),
    "it: .*BatchNormalization with axis": layers.BatchNormalization(1, name="it"),
    "it: .*Normalization with axis": layers.Normalization((1, 3), mean=0.0, variance=1.0, name="it"),
    "it: .*Normalization with invert": layers.Normalization(mean=0.0, variance=1.0, invert=True, name="it"),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_is_not_known_stops_it_by_name(message):
    images = keras.Input((SIZE, SIZE, 3), name="images")
    with pytest.raises(RealMNetError, match=message):
        deploy_graph(keras.Model(images, {"y": UNKNOWN[message](images)}), activations={"y": None})


def test_operations_and_calls_that_are_not_known_stop_it_by_name():
    for make, message in (
        (lambda x: ops.add(x, 1.0), "add.*: .*Add cannot be exported"),
        (lambda x: layers.Dropout(0.5, name="it")(x, training=True), "it: .*called with more than its input"),
        (lambda x: layers.Rescaling(np.ones((SIZE, 1, 1)), name="it")(x), "it: .*scale and offset"),
    ):
        images = keras.Input((SIZE, SIZE, 3), name="images")
        with pytest.raises(RealMNetError, match=message):
            deploy_graph(keras.Model(images, {"y": make(images)}), activations={"y": None})
    several = [keras.Input((4,)), keras.Input((4,))]
    with pytest.raises(RealMNetError, match=r"a network with one input expected\. Received: 2"):
        deploy_graph(keras.Model(several, {"y": layers.Add()(several)}), activations={"y": None})


def test_folding_by_hand():
    # One channel: γ = 2, β = 1, μ = 3, σ² + ε = 4, so y = 2·(5x − 3)/2 + 1 = 5x − 2.
    scale, shift = batch_norm_as_scale_shift([2], [1], [3], [4], epsilon=0)
    kernel, bias = fold_scale_shift_after(np.full((1, 1, 1, 1), 5.0), np.zeros(1), scale, shift)
    assert (kernel.item(), bias.item()) == (5, -2)
    # One unit: γ = (2, 3), β = (1, 0), W = (1, 1), b = 0.5, so y = 2·x₀ + 3·x₁ + 1.5.
    kernel, bias = fold_layer_norm(([2, 3], [1, 0]), np.ones((2, 1)), np.array([0.5]))
    assert (kernel.ravel().tolist(), bias.tolist()) == ([2, 3], [1.5])


ENCODERS = {
    "mobilenet_v2": {"image_size": 64, "options": {"drop_path_rate": 0.2, "top": True}},
    "efficientnet_lite0": {"image_size": 64},
    "tiny_vit": {"image_size": 64, "options": {"drop_path_rate": 0.1}},
    "resnet34": {"image_size": 64},
    "resnet50": {"image_size": 64},
    "vgg19": {"image_size": 64},
    "inception_v3": {"image_size": 96},
    "inception_v3, same": {"architecture": "inception_v3", "image_size": 96, "options": {"padding": "same"}},
    "efficientnet_b0": {"image_size": 64},
    "efficientnet_b4": {"image_size": 64},
}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[] if name == "mobilenet_v2" else tensorflow_only) for name in ENCODERS]
)
def test_an_encoder_gives_the_same_maps(case):
    encoder = Encoder(**{"architecture": case, **ENCODERS[case]})
    names = [f"map_{k}" for k in range(5)]
    model = randomized(keras.Model(encoder.input, dict(zip(names, encoder.outputs, strict=True)), name="encoder"))
    images = pixels(2, encoder.image_size[0])
    graph = deployed(model, images, tolerance=1e-4)
    assert not {"BatchNormalization", "Dropout", "Normalization", "Rescaling", "Functional"} & set(kinds(graph))
    assert kinds(graph).count("ScaleShift") <= 1  # that of the pixels
