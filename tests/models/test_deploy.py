import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import LinearHead, RealMNet, ResidualAttentionHead, TinyViTBackbone
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError

TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def randomized(model, seed=0):
    """`model` with no weight or statistic at its initial value, and outputs that depend on the image."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        elif weight.name in ("kernel", "depthwise_kernel"):
            fan_in = np.prod(shape[:2]) if "depthwise" in weight.name else np.prod(shape[:-1])
            value = rng.normal(0, fan_in**-0.5, shape)
        else:  # biases, shifts, means
            value = rng.normal(0, 0.3, shape)
        weight.assign(value)
    norms = [layer for layer in model.backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(pictures(3, model.image_size), training=True)  # statistics of real activations: the signal comes through
    for norm in norms:
        norm.momentum = 0.9
    return model


def tiny(head, image_size=64, **backbone):
    backbone = TinyViTBackbone(image_size, **{**TINY, **backbone}, name="backbone")
    return randomized(RealMNet(backbone, head, map_offset=(-0.5, 0.25), name="tiny"))


def pictures(count, image_size):
    """float32 (count, h, w, 3), 0–255: coarse random squares, so that no two give the same features."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, image_size[0] // 16, image_size[1] // 16, 3))
    return coarse.repeat(16, axis=1).repeat(16, axis=2).astype("float32")


def numpy(outputs):
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def assert_equal(model, graph, images):
    """The graph's outputs are the training model's, on images that differ in what they give."""
    expected = numpy(model.inference_model()(images))
    received = numpy(graph(images))
    features = ops.convert_to_numpy(keras.Model(model.input, model.feature_map)(images)).mean((1, 2))
    assert np.ptp(expected["probabilities"], axis=0).max() > 0.02
    np.testing.assert_allclose(received["probabilities"], expected["probabilities"], rtol=0, atol=1e-5)
    for name, value in (("class_maps", expected["class_maps"]), ("features", features)):
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-4 * np.abs(value).max(), err_msg=name)


CASES = {
    "oblong, drop path": (LinearHead, (64, 96), {"drop_path_rate": 0.2}),
    "padded windows": (ResidualAttentionHead, 96, {"window_sizes": (3, (5, 7), 4, 2)}),
}


@pytest.fixture(scope="module")
def small():
    """A square model with drop path; a test may not change it."""
    return tiny(ResidualAttentionHead(7, name="head"), drop_path_rate=0.2)


def test_equals_the_training_model(small):
    assert_equal(small, deploy_graph(small, batch_size=3), pictures(3, small.image_size))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_training_model_of_another_form(case):
    head, image_size, backbone = CASES[case]
    model = tiny(head(7, name="head"), image_size, **backbone)
    assert_equal(model, deploy_graph(model, batch_size=3), pictures(3, model.image_size))


@pytest.mark.slow
def test_the_5m_preset_equals_the_training_model():
    model = randomized(RealMNet.from_preset("realmnet_5m_224", drop_path_rate=0.0))
    assert_equal(model, deploy_graph(model, batch_size=2), pictures(2, model.image_size))


def test_nothing_of_training_is_left_and_the_model_is_as_it_was(small):
    before = [np.array(ops.convert_to_numpy(weight)) for weight in small.weights]
    graph = deploy_graph(small)
    kinds = {type(layer).__name__ for layer in graph.layers}
    assert not kinds & {"BatchNormalization", "Dropout", "Rescaling", "TinyViTBackbone"}
    assert graph.trainable_weights == []
    assert graph.non_trainable_variables  # all it has
    assert graph.count_params() < small.count_params()
    assert graph.inputs[0].shape == (1, 64, 64, 3)
    for weight, value in zip(small.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    graph.get_layer("patch_embed_conv1_conv").kernel.assign(ops.zeros((3, 3, 3, 8)))
    np.testing.assert_array_equal(ops.convert_to_numpy(small.weights[0]), before[0])  # nothing is shared


def test_outputs_are_those_asked_for(small):
    assert list(deploy_graph(small, ("features", "probabilities")).output) == ["features", "probabilities"]
    shapes = {name: tuple(output.shape) for name, output in deploy_graph(small, batch_size=None).output.items()}
    assert shapes == {"probabilities": (None, 7), "class_maps": (None, 2, 2, 7), "features": (None, 64)}
    for wrong in ((), ("logits",)):
        with pytest.raises(ValueError, match="outputs must be some of probabilities, class_maps, features"):
            deploy_graph(small, wrong)


def test_a_model_of_mixed_precision_becomes_one_of_float32(small):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = RealMNet(TinyViTBackbone(64, **TINY, drop_path_rate=0.2), ResidualAttentionHead(7))
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(small.get_weights())
    mixed.map_offset = small.map_offset
    graph = deploy_graph(mixed, batch_size=2)
    assert {layer.compute_dtype for layer in graph.layers} == {"float32"}
    images = pictures(2, (64, 64))
    for name, value in numpy(deploy_graph(small, batch_size=2)(images)).items():
        np.testing.assert_array_equal(ops.convert_to_numpy(graph(images)[name]), value)


def test_the_graph_can_be_saved(small, tmp_path):
    graph = deploy_graph(small)
    graph.save(tmp_path / "graph.keras")
    images = pictures(1, (64, 64))
    again = keras.saving.load_model(tmp_path / "graph.keras")(images)
    for name, value in numpy(graph(images)).items():
        np.testing.assert_allclose(ops.convert_to_numpy(again[name]), value, atol=1e-6)


def changed(change):
    """A small model of which `change(backbone)` made something else."""
    model = tiny(ResidualAttentionHead(7, name="head"))
    change(model.backbone)
    return model


def setting(layer, **attributes):
    def change(backbone):
        for name, value in attributes.items():
            setattr(backbone.get_layer(layer), name, value)

    return change


UNKNOWN = {
    "stages_0_blocks_0_act1: .*activation elu": setting("stages_0_blocks_0_act1", activation=keras.activations.elu),
    "patch_embed_act: .*activation <lambda>": setting("patch_embed_act", activation=lambda x: x),
    "patch_embed_conv1_conv: .*activation elu": setting("patch_embed_conv1_conv", activation=keras.activations.elu),
    "stages_1_blocks_0_mlp_fc1: .*activation elu": setting(
        "stages_1_blocks_0_mlp_fc1", activation=keras.activations.elu
    ),
    "patch_embed_conv1_conv: .*data_format": setting("patch_embed_conv1_conv", data_format="channels_first"),
    "patch_embed_conv1_bn: .*axis": setting("patch_embed_conv1_bn", axis=1),
    "stages_1_blocks_0_mlp_norm: .*rms_scaling": setting("stages_1_blocks_0_mlp_norm", rms_scaling=True),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_a_setting_that_is_not_known_stops_it_by_name(message):
    with pytest.raises(RealMNetError, match=message):
        deploy_graph(changed(UNKNOWN[message]))


def test_the_epsilon_of_each_norm_is_its_own():
    def change(backbone):
        for name in ("stages_0_blocks_0_conv1_bn", "stages_1_blocks_0_mlp_norm"):
            backbone.get_layer(name).epsilon = 0.1
        backbone.get_layer("stages_1_blocks_0_attn").norm.epsilon = 0.1

    model = changed(change)
    assert_equal(model, deploy_graph(model, batch_size=3), pictures(3, model.image_size))


def test_activations_within_layers_are_computed():
    def change(backbone):
        backbone.get_layer("patch_embed_conv1_conv").activation = keras.activations.relu  # BatchNorm comes after it
        backbone.get_layer("stages_1_blocks_0_mlp_fc1").activation = keras.activations.silu

    model = changed(change)
    assert_equal(model, deploy_graph(model, batch_size=3), pictures(3, model.image_size))


def test_an_offset_of_the_pixels_stays_before_the_padding():
    model = tiny(ResidualAttentionHead(7, name="head"))
    model.get_layer("rescaling").offset = -0.5
    graph = deploy_graph(model, batch_size=3)
    assert_equal(model, graph, pictures(3, model.image_size))
    assert type(graph.get_layer("rescaling")).__name__ == "ScaleShift"


def test_a_batch_size_that_is_none_is_refused(small):
    for batch_size in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match=rf"batch_size must be .* Received: {batch_size!r}"):
            deploy_graph(small, batch_size=batch_size)
