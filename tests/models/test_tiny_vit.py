import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import TinyViTBackbone, TinyViTImageClassifier, load_timm_weights
from keras_realmnet.models.tiny_vit import WindowAttention

TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize(
    ("name", "batch", "strides"),
    [("tiny_vit_5m_224", 2, (8, 8, 4, 2, 1)), ("tiny_vit_21m_384", 1, (16, 16, 8, 4, 2))],
)
def test_every_stage_and_the_logits_equal_timm(goldens, reference_inputs, name, batch, strides):
    shapes = json.loads((goldens / f"{name}.shapes.json").read_text())
    golden = np.load(goldens / f"{name}.npz")
    model = TinyViTImageClassifier.from_preset(name)
    load_timm_weights(model, {key: reference_inputs.parameter(key, tuple(shape)) for key, shape in shapes.items()})
    images = reference_inputs.images(batch, model.backbone.image_size[0], 42)
    pyramid = keras.Model(model.backbone.input, model.backbone.pyramid_outputs).predict(images, verbose=0)
    for stage, stride in zip(("stem", "stage0", "stage1", "stage2", "stage3"), strides, strict=True):
        expected = golden[stage]
        assert pyramid[stage].shape == tuple(golden[f"{stage}_shape"])
        np.testing.assert_allclose(
            pyramid[stage][:, ::stride, ::stride], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-5 * np.abs(golden["logits"]).max())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tiny_vit_5m_224", 5_392_764),
        pytest.param("tiny_vit_21m_384", 21_230_488, marks=pytest.mark.tensorflow_only),
        pytest.param("tiny_vit_21m_512", 21_268_120, marks=pytest.mark.tensorflow_only),
    ],
)
def test_parameter_counts(name, parameters):
    assert count(TinyViTImageClassifier.from_preset(name).trainable_weights) == parameters


def attention_reference(layer, x):
    """Window attention by explicit loops over windows and positions, in float64 NumPy; x (h, w, dim)."""
    weights = {v.path.split("/")[-2].split("_")[-1] + "/" + v.name: ops.convert_to_numpy(v) for v in layer.weights}
    (window_h, window_w), heads = layer.window_size, layer.num_heads
    height, width, dim = x.shape
    padded = np.zeros((-(-height // window_h) * window_h, -(-width // window_w) * window_w, dim))
    padded[:height, :width] = x
    out = np.zeros_like(padded)
    biases = ops.convert_to_numpy(layer.attention_biases)
    for top in range(0, padded.shape[0], window_h):
        for left in range(0, padded.shape[1], window_w):
            tokens = padded[top : top + window_h, left : left + window_w].reshape(-1, dim)
            mean, variance = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
            tokens = (tokens - mean) / np.sqrt(variance + 1e-5) * weights["norm/gamma"] + weights["norm/beta"]
            qkv = (tokens @ weights["qkv/kernel"] + weights["qkv/bias"]).reshape(len(tokens), heads, 3, dim // heads)
            merged = []
            for head in range(heads):
                q, k, v = qkv[:, head].transpose(1, 0, 2)
                scores = q @ k.T / np.sqrt(dim // heads)
                for i in range(len(tokens)):
                    for j in range(len(tokens)):
                        dy = abs(i // window_w - j // window_w)
                        dx = abs(i % window_w - j % window_w)
                        scores[i, j] += biases[head, dy * window_w + dx]
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                merged.append(scores / scores.sum(-1, keepdims=True) @ v)
            result = np.concatenate(merged, -1) @ weights["proj/kernel"] + weights["proj/bias"]
            out[top : top + window_h, left : left + window_w] = result.reshape(window_h, window_w, dim)
    return out[:height, :width]


@pytest.mark.parametrize(("shape", "window"), [((6, 6), (6, 6)), ((6, 8), (3, 4)), ((5, 7), (3, 3)), ((4, 9), (4, 2))])
def test_window_attention_equals_loops_and_pads_with_zeros(shape, window):
    rng = np.random.default_rng(5)
    layer = WindowAttention(2, window, name="attn")
    layer.build((None, *shape, 16))
    for variable in layer.weights:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    x = rng.normal(0, 1, (2, *shape, 16)).astype("float32")
    result = ops.convert_to_numpy(layer(x))
    for image in range(2):
        np.testing.assert_allclose(result[image], attention_reference(layer, x[image]), atol=2e-5)


@pytest.mark.parametrize("image_size", [32, 64, (64, 96)])
def test_windows_follow_from_any_size_that_32_divides(image_size):
    model = TinyViTBackbone(image_size, **TINY)
    height, width = model.image_size
    outputs = {name: tuple(x.shape) for name, x in model.pyramid_outputs.items()}
    assert list(outputs) == ["stem", "stage0", "stage1", "stage2", "stage3"]
    assert outputs["stem"] == outputs["stage0"] == (None, height // 4, width // 4, 16)
    assert outputs["stage3"] == (None, height // 32, width // 32, 64)
    assert model(np.zeros((1, height, width, 3), "float32")).shape == (1, height // 32, width // 32, 64)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("tiny_vit_5m_224", (7, 14, 7)),
        pytest.param("tiny_vit_21m_384", (12, 24, 12), marks=pytest.mark.tensorflow_only),
        pytest.param("tiny_vit_21m_512", (16, 32, 16), marks=pytest.mark.tensorflow_only),
    ],
)
def test_published_windows_are_the_derived_ones(name, windows):
    model = TinyViTBackbone.from_preset(name)
    for stage, window in enumerate(windows, start=1):
        assert model.get_layer(f"stages_{stage}_blocks_0_attn").window_size == (window, window)


def test_no_two_layers_start_from_the_same_numbers_and_a_seed_repeats_them():
    def kernels():
        keras.utils.set_random_seed(3)
        return [ops.convert_to_numpy(w) for w in TinyViTBackbone(32, **TINY).weights if w.name == "kernel"]

    first, second = kernels(), kernels()
    for k, kernel in enumerate(first):
        np.testing.assert_array_equal(kernel, second[k])
        assert not any(other.shape == kernel.shape and (other == kernel).all() for other in first[:k])


def test_drop_path_drops_whole_branches_in_training_only():
    keras.utils.set_random_seed(0)
    model = TinyViTBackbone(32, drop_path_rate=0.9, **TINY)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    np.testing.assert_allclose(rates, np.repeat(np.linspace(0, 0.9, 5)[1:], 2))
    drop = model.get_layer("stages_3_blocks_0_mlp_drop_path")
    x = np.ones((64, 2, 2, 3), "float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(drop(x, training=False)), x)
    dropped = ops.convert_to_numpy(drop(x, training=True)).reshape(64, -1)
    assert all(len(set(sample)) == 1 for sample in dropped.tolist())
    assert 0 < (dropped[:, 0] > 0).mean() < 0.4  # keeps a tenth of them
    np.testing.assert_allclose(dropped[dropped > 0], 10, rtol=1e-5)


def test_frozen_stages_neither_train_nor_move_their_statistics():
    model = TinyViTBackbone(32, frozen_stages=2, **TINY)
    trained = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert not any(name.startswith(("stages_0", "stages_1", "stages_2_downsample")) for name in trained)
    assert {"patch_embed_conv1_conv", "stages_2_blocks_0_attn"} <= {name.split("/")[0] for name in trained}
    frozen = model.get_layer("stages_0_blocks_0_conv1_bn")
    moving = model.get_layer("patch_embed_conv1_bn")
    model(np.random.default_rng(0).normal(3, 2, (4, 32, 32, 3)).astype("float32"), training=True)
    assert float(ops.max(ops.abs(frozen.moving_mean))) == 0
    assert float(ops.max(ops.abs(moving.moving_mean))) > 0


def test_save_and_load_whole_model_and_weights(tmp_path):
    model = TinyViTImageClassifier(TinyViTBackbone(32, frozen_stages=1, **TINY), num_classes=4)
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, TinyViTImageClassifier)
    assert again.backbone.frozen_stages == 1
    assert count(again.trainable_weights) == count(model.trainable_weights)
    np.testing.assert_allclose(ops.convert_to_numpy(again(x)), expected, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = TinyViTImageClassifier(TinyViTBackbone(32, frozen_stages=1, **TINY), num_classes=4)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(ops.convert_to_numpy(fresh(x)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 100}, "divisible by 32. Received: 100"),
        ({"depths": (1, 1)}, "4 entries"),
        ({"frozen_stages": 5}, "0 … 4. Received: 5"),
        ({"window_sizes": (7, 7)}, "window_sizes must be 4 entries"),
        ({"stage_2_windows": 0}, "at least 1. Received: 0"),
        ({"stage_2_windows": 3}, r"divide the map of stage 2, 14 × 14, .* Received: 3, window_sizes=None"),
        ({"stage_2_windows": 2, "window_sizes": (7, 7, 7, 7)}, r"for windows that are derived\. Received: 2"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TinyViTBackbone(**arguments)


def test_unknown_preset_and_missing_weights_are_explained():
    with pytest.raises(ValueError, match=r"tiny_vit_5m_224, .* Received: 'tiny_vit_6m'"):
        TinyViTBackbone.from_preset("tiny_vit_6m")
    with pytest.raises(ValueError, match="safetensors"):
        TinyViTBackbone.from_preset("tiny_vit_5m_224", load_weights=True)
