import functools

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.efficientnet import EfficientNet

from keras_realmnet import Baseline, losses, transfer_weights
from keras_realmnet.errors import WeightsMismatch

DEIT = {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "patch_size": 16}
CONVNEXT = {"depths": (1, 1, 2, 1), "projection_dims": (8, 8, 16, 16), "layer_scale_init_value": 1.0}
EFFICIENTNET = {"width_coefficient": 0.25, "depth_coefficient": 0.5}
SWIN = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}
TINY = {"deit_b_384": DEIT, "convnext_t_384": CONVNEXT, "efficientnet_b4_380": EFFICIENTNET, "swin_b_384": SWIN}
REPRESENTATIVE = "swin_b_384"  # the most of a network: patches, windows shifted and masked, bias tables, merging
every_baseline = pytest.mark.parametrize("name", TINY)  # what each network does by its own layers, on every backend
one_baseline = pytest.mark.parametrize(  # what the class does for any network: all of them on TensorFlow alone
    "name", [pytest.param(name, marks=[] if name == REPRESENTATIVE else pytest.mark.tensorflow_only) for name in TINY]
)


def tiny(name, image_size=64, **arguments):
    return Baseline.from_preset(name, image_size=image_size, **{**TINY[name], **arguments})


@functools.cache
def looked_at(name):
    """The tiny network of a name, made once for the tests that leave its weights as they are."""
    return tiny(name)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def drop_rates(model):
    """Rates of the layers that drop whole branches, in the order of the blocks."""
    rates = []
    for layer in model._flatten_layers():
        if getattr(layer, "noise_shape", None) is not None:
            rates.append(layer.rate)
        elif type(layer).__name__ == "DropPath":
            rates.append(layer.drop_prob)
    return sorted(rates)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


PUBLISHED = {  # parameters, those of the classifier, those of ours in its place
    # 1000 classes of the class and of the distillation token; a LayerNorm more.
    "deit_b_384": (87_630_032, 2 * 769_000, 2 * 768 + 768 * 7 + 7),
    "convnext_t_384": (28_589_128, 769_000, 768 * 7 + 7),
    "efficientnet_b4_380": (19_341_616, 1_793_000, 1792 * 7 + 7),
    "swin_b_384": (87_903_584, 1_025_000, 1024 * 7 + 7),
}


@pytest.mark.slow
@one_baseline
def test_published_parameter_counts(name):
    published, classifier, ours = PUBLISHED[name]
    model = Baseline.from_preset(name)
    assert trainable(model) == published - classifier + ours
    assert model.output_shape == (None, 7)
    assert model.image_size == ((380, 380) if "380" in name else (384, 384))
    assert max(drop_rates(model)) == pytest.approx(0.5)


@one_baseline
def test_logits_at_any_size(name, images):
    model = tiny(name, num_classes=3)
    logits = model(images)
    assert logits.shape == (2, 3)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(ops.convert_to_numpy(logits)).all()
    assert (model.image_size, model.num_classes) == ((64, 64), 3)
    oblong = tiny(name, image_size=(96, 64))
    assert oblong.image_size == (96, 64)
    assert oblong(np.zeros((1, 96, 64, 3), "float32")).shape == (1, 7)


@pytest.mark.parametrize(("name", "size"), [("deit_b_384", 72), ("swin_b_384", 80)])
def test_sizes_that_do_not_fit(name, size):
    with pytest.raises(ValueError, match=rf"image_size must be divisible by (16|32). Received: \({size}, {size}\)"):
        tiny(name, image_size=size)


@one_baseline
def test_pixels_are_divided_by_255_and_no_more(name, images):
    model = looked_at(name)
    first = model.layers[1]
    np.testing.assert_allclose(ops.convert_to_numpy(first(images)), images / 255, atol=1e-6)
    scaling = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Rescaling)]
    assert scaling == [first]
    assert not any(isinstance(layer, keras.layers.Normalization) for layer in model._flatten_layers())


@pytest.mark.parametrize(
    ("name", "blocks", "residual"),
    [
        ("deit_b_384", 3, [0, 1, 2]),
        ("convnext_t_384", 5, [1, 2, 3, 4]),  # a rate of 0 has no layer
        ("efficientnet_b4_380", 10, [4, 6, 8]),  # the others change the size or the width: no shortcut
        ("swin_b_384", 5, [1, 2, 3, 4]),
    ],
)
def test_drop_path_grows_linearly_with_depth(name, blocks, residual):
    rates = drop_rates(tiny(name, drop_path_rate=0.4))
    np.testing.assert_allclose(rates, np.linspace(0, 0.4, blocks)[residual], atol=1e-7)


@one_baseline
def test_drop_path_acts_per_image_and_in_training_alone(name, images):
    model = looked_at(name)
    assert model.drop_path_rate == 0.5
    same = np.repeat(images[:1], 16, axis=0)
    still = ops.convert_to_numpy(model(same, training=False))
    np.testing.assert_allclose(still, np.repeat(still[:1], 16, axis=0), atol=1e-5)
    features = ops.convert_to_numpy(model.backbone(same / 255, training=True))
    assert len(np.unique(features.round(4), axis=0)) > 1
    without = tiny(name, drop_path_rate=0.0)
    features = ops.convert_to_numpy(without.backbone(same / 255, training=True))
    np.testing.assert_allclose(features, np.repeat(features[:1], 16, axis=0), atol=1e-4)


@every_baseline
def test_random_states_are_the_models_own(name, images):
    model = looked_at(name)
    assert model.drop_path_rate == 0.5
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    assert len(states) >= sum(rate > 0 for rate in drop_rates(model)) > 0
    backbone = model.backbone
    same = np.repeat(images[:1], 16, axis=0) / 255
    features = []
    for _ in range(2):  # the same states, the same branches
        for k, state in enumerate(states):
            state.assign(np.array([k, 7], "uint32"))
        features.append(ops.convert_to_numpy(backbone(same, training=True)))
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


@one_baseline
def test_save_and_load(name, tmp_path, images):
    model = looked_at(name)
    expected = ops.convert_to_numpy(model(images))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, Baseline)
    assert (again.name, again.drop_path_rate, again.image_size) == (name, 0.5, (64, 64))
    np.testing.assert_allclose(ops.convert_to_numpy(again(images)), expected, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = tiny(name)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(ops.convert_to_numpy(fresh(images)), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [pytest.param("float32", marks=pytest.mark.tensorflow_only), "mixed_bfloat16"])
@every_baseline
def test_fit_learns_and_compiles(name, policy):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny(name, image_size=32, drop_path_rate=0.1)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    y_true = (rng.random((8, 7)) < 0.5).astype("float32")
    brightness = np.linspace(0.2, 1, 8, dtype="float32")[:, None, None, None]
    x = brightness * rng.integers(0, 256, (8, 32, 32, 3)).astype("float32")
    jit = keras.backend.backend() == "jax"
    optimizer = keras.optimizers.AdamW(1e-2)
    optimizer.build(model.trainable_variables)  # TensorFlow traces a step once more if the first time makes variables
    model.compile(optimizer, losses.AsymmetricLoss(gamma_pos=0, gamma_neg=0), jit_compile=jit)
    history = model.fit(x, y_true, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.85 * history[0]


# ----------------------------------------------------------------------------------------------------------- weights


def test_convnext_equals_keras_applications(tmp_path, images):
    reference = ConvNeXt(
        list(CONVNEXT["depths"]),
        list(CONVNEXT["projection_dims"]),
        layer_scale_init_value=1.0,
        include_top=False,
        include_preprocessing=False,
        input_shape=(64, 64, 3),
        pooling="avg",
    )
    rng = np.random.default_rng(0)
    for weight in reference.trainable_weights:  # as if trained: no two alike
        weight.assign(ops.convert_to_numpy(weight) + rng.normal(0, 0.1, weight.shape).astype("float32"))
    reference.save_weights(tmp_path / "convnext.weights.h5")
    model = tiny("convnext_t_384", load_weights=tmp_path / "convnext.weights.h5")
    gammas = [v for v in model.variables if v.name == "gamma" and "layer_scale" in v.path]
    assert len(gammas) == 5
    expected = ops.convert_to_numpy(reference(images / 255))
    np.testing.assert_allclose(ops.convert_to_numpy(model.backbone(images / 255)), expected, rtol=1e-4, atol=1e-4)


def test_efficientnet_equals_keras_applications(tmp_path, images):
    reference = EfficientNet(
        0.25, 0.5, 64, include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )  # divides by 255 itself; its normalization does nothing unless weights bring ImageNet's
    expected = ops.convert_to_numpy(reference(images))
    reference.save_weights(tmp_path / "efficientnet.weights.h5")
    model = tiny("efficientnet_b4_380", load_weights=tmp_path / "efficientnet.weights.h5")
    np.testing.assert_allclose(ops.convert_to_numpy(model.backbone(images / 255)), expected, rtol=1e-4, atol=1e-5)


def hub_deit(size):
    return keras_hub.models.DeiTBackbone((size, size, 3), 16, 3, 2, 16, 64)


def hub_swin(size):
    return keras_hub.models.SwinTransformerBackbone((size, size, 3), 8, (1, 1, 2, 1), (1, 1, 2, 2), size // 32)


@pytest.mark.parametrize(("name", "hub"), [("deit_b_384", hub_deit), ("swin_b_384", hub_swin)])
def test_keras_hub_presets(name, hub, tmp_path, images):
    network = hub(64)
    network.save_to_preset(str(tmp_path / "preset"))
    model = tiny(name, load_weights=tmp_path / "preset")
    tokens = ops.convert_to_numpy(network(images / 255))
    if name == "deit_b_384":  # the patches' mean, normalized; pool_norm is new: gamma 1, beta 0
        pooled = tokens[:, 2:].mean(axis=1)
        centred = pooled - pooled.mean(axis=1, keepdims=True)
        expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    else:
        expected = tokens.mean(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(model.backbone(images / 255)), expected, rtol=1e-4, atol=1e-4)

    larger = tiny(name, image_size=96, load_weights=tmp_path / "preset")
    same = transfer_weights(larger, tiny(name, image_size=96))
    x = np.zeros((1, 96, 96, 3), "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(same(x)), ops.convert_to_numpy(larger(x)), atol=1e-6)
    with pytest.raises(WeightsMismatch, match=r"preset: expected a keras-hub preset of a .*does not fit"):
        tiny(name, load_weights=tmp_path / "preset", **{"hidden_dim" if name == "deit_b_384" else "embed_dim": 32})


@one_baseline
def test_weights_move_to_another_size(name):
    source, target = looked_at(name), tiny(name, image_size=96)
    transfer_weights(source, target)
    for old, new in zip(source.trainable_weights, target.trainable_weights, strict=True):
        if old.shape == new.shape:
            np.testing.assert_array_equal(ops.convert_to_numpy(new), ops.convert_to_numpy(old))
        else:
            assert new.name in ("position_embedding", "relative_position_bias_table")
    back = tiny(name)
    transfer_weights(source, back)
    x = np.full((1, 64, 64, 3), 99.0, "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(back(x)), ops.convert_to_numpy(source(x)), atol=1e-6)


def test_position_embeddings_and_bias_tables_are_resized():
    source, target = tiny("deit_b_384", image_size=64), tiny("deit_b_384", image_size=128)
    embeddings = next(v for v in source.variables if v.name == "position_embedding")
    value = np.zeros(embeddings.shape, "float32")  # (1, 2 + 4 · 4, 16)
    value[0, :2], value[0, 2:] = 5.0, np.repeat(np.arange(4.0), 4)[:, None]  # the tokens; the row of each patch
    embeddings.assign(value)
    transfer_weights(source, target)
    resized = ops.convert_to_numpy(next(v for v in target.variables if v.name == "position_embedding"))
    np.testing.assert_array_equal(resized[0, :2], 5.0)
    grid = resized[0, 2:].reshape(8, 8, 16)
    np.testing.assert_allclose(grid, np.broadcast_to(grid[:, :1, :1], grid.shape), atol=1e-6)
    np.testing.assert_allclose(grid[3:5, 0, 0], [1.25, 1.75], atol=1e-6)  # half-pixel centres, linear in the middle

    source, target = tiny("swin_b_384", image_size=64), tiny("swin_b_384", image_size=96)
    tables = [[v for v in model.variables if v.name == "relative_position_bias_table"] for model in (source, target)]
    for table in tables[0]:
        value = np.zeros(table.shape, "float32")  # (3 · 3, heads) for windows of 2 x 2
        value[4] = 1.0  # a patch with itself
        table.assign(value)
    transfer_weights(source, target)
    for table in map(ops.convert_to_numpy, tables[1]):
        assert table.shape[0] == 25
        np.testing.assert_array_equal(table.argmax(axis=0), 12)
        np.testing.assert_allclose(table, table[::-1], atol=1e-6)


@one_baseline
def test_weights_that_are_not_there(name, tmp_path):
    with pytest.raises(ValueError, match=r"load_weights must be False or .* Received: True"):
        tiny(name, load_weights=True)
    with pytest.raises(WeightsMismatch, match=r"^\S*missing: expected .*keras[^\n]*$"):
        tiny(name, load_weights=tmp_path / "missing")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"deit_b_384, convnext_t_384, .* Received: 'vgg'"):
        Baseline.from_preset("vgg")
    with pytest.raises(ValueError, match=r"deit, convnext, efficientnet, swin. Received: 'vgg'"):
        Baseline("vgg", 64)
