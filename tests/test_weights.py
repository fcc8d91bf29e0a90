import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from safetensors.numpy import save_file

from keras_realmnet import RealMNet, ResidualAttentionHead, TinyViTBackbone, TinyViTImageClassifier
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.weights import (
    fit_attention_biases,
    load_timm_weights,
    resize_attention_biases,
    transfer_weights,
)

TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


@pytest.fixture(scope="module")
def checkpoint():
    """A small checkpoint by timm's names in PyTorch layout, for a 10-class network at 64 px."""
    rng = np.random.default_rng(6)
    arrays = {}

    def add(name, *shape):
        arrays[name] = rng.uniform(0.5, 1.5, shape).astype("float32")

    def conv_bn(name, *shape):
        add(f"{name}.conv.weight", *shape)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.bn.{leaf}", shape[0])
        arrays[f"{name}.bn.num_batches_tracked"] = np.array(7)

    def linear(name, out, features):
        add(f"{name}.weight", out, features)
        add(f"{name}.bias", out)

    def norm(name, dim):
        add(f"{name}.weight", dim)
        add(f"{name}.bias", dim)

    dims, windows = TINY["embed_dims"], (None, 2, 4, 2)
    conv_bn("patch_embed.conv1", dims[0] // 2, 3, 3, 3)
    conv_bn("patch_embed.conv2", dims[0], dims[0] // 2, 3, 3)
    for stage, (dim, depth, heads) in enumerate(zip(dims, TINY["depths"], TINY["num_heads"], strict=True)):
        if stage:
            conv_bn(f"stages.{stage}.downsample.conv1", dim, dims[stage - 1], 1, 1)
            conv_bn(f"stages.{stage}.downsample.conv2", dim, 1, 3, 3)
            conv_bn(f"stages.{stage}.downsample.conv3", dim, dim, 1, 1)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            if not stage:
                conv_bn(f"{name}.conv1", 4 * dim, dim, 1, 1)
                conv_bn(f"{name}.conv2", 4 * dim, 1, 3, 3)
                conv_bn(f"{name}.conv3", dim, 4 * dim, 1, 1)
                continue
            norm(f"{name}.attn.norm", dim)
            linear(f"{name}.attn.qkv", 3 * dim, dim)
            linear(f"{name}.attn.proj", dim, dim)
            add(f"{name}.attn.attention_biases", heads, windows[stage] ** 2)
            conv_bn(f"{name}.local_conv", dim, 1, 3, 3)
            norm(f"{name}.mlp.norm", dim)
            linear(f"{name}.mlp.fc1", 4 * dim, dim)
            linear(f"{name}.mlp.fc2", dim, 4 * dim)
    norm("head.norm", dims[-1])
    linear("head.fc", 10, dims[-1])
    return arrays


def classifier(image_size=64):
    return TinyViTImageClassifier(TinyViTBackbone(image_size, **TINY), num_classes=10)


def outputs(model):
    side = model.inputs[0].shape[1]
    return ops.convert_to_numpy(model(np.random.default_rng(0).random((1, side, side, 3)).astype("float32")))


def to_mmpretrain(name):
    if name.startswith("head.fc"):
        return name
    name = name.replace(".conv.", ".conv2d.").replace(".bn.", ".bn2d.")
    name = name.replace("patch_embed.conv1", "patch_embed.seq.0").replace("patch_embed.conv2", "patch_embed.seq.2")
    for stage in (1, 2, 3):
        name = name.replace(f"stages.{stage}.downsample", f"stages.{stage - 1}.downsample")
    return "backbone." + name.replace("head.norm", "norm3")


def test_safetensors_dict_and_mmpretrain_names_give_the_same_network(tmp_path, checkpoint):
    expected = outputs(load_timm_weights(classifier(), checkpoint))
    save_file(checkpoint, tmp_path / "timm.safetensors")
    np.testing.assert_array_equal(outputs(load_timm_weights(classifier(), tmp_path / "timm.safetensors")), expected)
    renamed = {to_mmpretrain(name): array for name, array in checkpoint.items()}
    renamed["backbone.stages.1.blocks.0.attn.attention_bias_idxs"] = np.zeros((4, 4), "int64")
    np.testing.assert_array_equal(outputs(load_timm_weights(classifier(), renamed)), expected)


def test_every_array_lands_somewhere(checkpoint):
    model = load_timm_weights(classifier(), checkpoint)
    loaded = sum(array.size for name, array in checkpoint.items() if "num_batches" not in name)
    assert loaded == sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert all(ops.convert_to_numpy(weight).min() >= 0.5 for weight in model.weights)  # every initial value is gone


def test_backbone_and_realmnet_leave_out_the_classifier_only(checkpoint):
    backbone = load_timm_weights(TinyViTBackbone(64, **TINY), checkpoint)
    whole = load_timm_weights(classifier(), checkpoint)
    np.testing.assert_array_equal(outputs(backbone), outputs(whole.backbone))
    model = load_timm_weights(RealMNet(TinyViTBackbone(64, **TINY), ResidualAttentionHead(7)), checkpoint)
    gamma = ops.convert_to_numpy(model.get_layer("head_norm").gamma)
    np.testing.assert_array_equal(gamma, checkpoint["head.norm.weight"])


def test_residual_attention_checkpoint_fills_the_heads(checkpoint):
    rng = np.random.default_rng(0)
    heads = rng.normal(0, 1, (2, 7, 64, 1, 1)).astype("float32")
    arrays = {name: array for name, array in checkpoint.items() if not name.startswith("head.fc")}
    arrays |= {f"head.csra_heads.{h}.head.weight": heads[h] for h in range(2)}
    model = load_timm_weights(RealMNet(TinyViTBackbone(64, **TINY), ResidualAttentionHead(7)), arrays)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.head.kernel), heads[..., 0, 0].transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("stages.2.blocks.1.mlp.fc1.bias"), r"missing stages\.2\.blocks\.1\.mlp\.fc1\.bias"),
        (lambda a: a.update({"stages.9.extra": np.zeros(3)}), r"not used stages\.9\.extra"),
        (lambda a: a.update({"head.norm.bias": np.zeros(3)}), r"head\.norm\.bias has shape \(3,\)"),
        (
            lambda a: a.update({"patch_embed.conv1.conv.weight": np.zeros((8, 3, 5, 5))}),
            r"conv1\.conv\.weight has shape",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_stops_before_anything_is_written(checkpoint, change, message):
    arrays, model = dict(checkpoint), classifier()
    before = outputs(model)
    change(arrays)
    with pytest.raises(WeightsMismatch, match=message):
        load_timm_weights(model, arrays)
    np.testing.assert_array_equal(outputs(model), before)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(WeightsMismatch, match=r"weights\.safetensors: expected a \.safetensors"):
        load_timm_weights(classifier(), tmp_path / "weights.safetensors")


def test_loading_at_another_size_resizes_the_attention_biases(checkpoint):
    model = load_timm_weights(classifier(96), checkpoint)
    table = ops.convert_to_numpy(model.backbone.get_layer("stages_2_blocks_0_attn").attention_biases)
    expected = resize_attention_biases(checkpoint["stages.2.blocks.0.attn.attention_biases"], (4, 4), (6, 6))
    np.testing.assert_allclose(table, expected)
    via_transfer = transfer_weights(load_timm_weights(classifier(64), checkpoint), classifier(96))
    np.testing.assert_allclose(outputs(via_transfer), outputs(model), rtol=1e-6)


def halved(image_size):
    """The classifier with two windows a side in stage 2."""
    return TinyViTImageClassifier(TinyViTBackbone(image_size, stage_2_windows=2, **TINY), num_classes=10)


def biases(model, stage):
    return ops.convert_to_numpy(model.backbone.get_layer(f"stages_{stage}_blocks_0_attn").attention_biases)


def test_smaller_windows_take_their_part_of_a_table(checkpoint):
    """Of the same size exactly; of another, that of the table resized for its whole map; likewise by transfer."""
    whole = checkpoint["stages.2.blocks.0.attn.attention_biases"].reshape(-1, 4, 4)
    model = load_timm_weights(halved(64), checkpoint)
    np.testing.assert_array_equal(biases(model, 2), whole[:, :2, :2].reshape(-1, 4))
    np.testing.assert_array_equal(biases(model, 1), checkpoint["stages.1.blocks.0.attn.attention_biases"])
    larger = load_timm_weights(halved(96), checkpoint)
    resized = resize_attention_biases(whole.reshape(-1, 16), (4, 4), (6, 6)).reshape(-1, 6, 6)
    np.testing.assert_allclose(biases(larger, 2), resized[:, :3, :3].reshape(-1, 9))
    np.testing.assert_allclose(
        outputs(transfer_weights(load_timm_weights(classifier(64), checkpoint), halved(96))), outputs(larger), rtol=1e-6
    )
    np.testing.assert_array_equal(outputs(transfer_weights(model, halved(64))), outputs(model))
    own = {
        **checkpoint,
        "stages.2.blocks.0.attn.attention_biases": biases(model, 2),
        "stages.2.blocks.1.attn.attention_biases": checkpoint["stages.2.blocks.1.attn.attention_biases"]
        .reshape(-1, 4, 4)[:, :2, :2]
        .reshape(-1, 4),
    }
    np.testing.assert_array_equal(outputs(load_timm_weights(halved(64), own)), outputs(model))  # of such a network


def test_larger_windows_keep_what_is_known(checkpoint):
    model = transfer_weights(load_timm_weights(halved(64), checkpoint), classifier(64))
    table = biases(model, 2).reshape(-1, 4, 4)
    known = checkpoint["stages.2.blocks.0.attn.attention_biases"].reshape(-1, 4, 4)[:, :2, :2]
    np.testing.assert_array_equal(table[:, :2, :2], known)
    np.testing.assert_array_equal(table[:, 2:, 3], np.repeat(known[:, 1:, 1], 2, axis=1))


def test_a_part_of_the_biases_is_the_whole_network_that_looks_no_further_than_its_window():
    """A layer with windows of 3 against one of 6 whose scores between two of these windows are -inf."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 6, 6, 16)).astype("float32")
    whole, part = WindowAttention(2, (6, 6)), WindowAttention(2, (3, 3))
    for layer in (whole, part):
        layer.build(x.shape)
    values = [rng.normal(0, 0.5, weight.shape).astype("float32") for weight in whole.get_weights()]
    whole.set_weights(values)
    table = ops.convert_to_numpy(whole.attention_biases)
    cut = fit_attention_biases(table, (6, 6), (6, 6), (3, 3), (6, 6))
    part.set_weights([cut if value.shape == table.shape else value for value in values])
    q, k, v = (ops.convert_to_numpy(each) for each in whole._queries_keys_values(x.reshape(2, 36, 16)))
    y, column = np.divmod(np.arange(36), 6)
    window = y // 3 * 2 + column // 3
    scores = q @ k.transpose(0, 1, 3, 2) + table[:, whole.bias_index]
    scores = np.where(window[:, None] == window, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    attended = (weights / weights.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, 36, 16)
    expected = ops.convert_to_numpy(whole.proj(attended)).reshape(x.shape)
    np.testing.assert_allclose(ops.convert_to_numpy(part(x)), expected, atol=1e-5)


def test_windows_that_stay_as_they_are_keep_their_table():
    table = np.random.default_rng(3).normal(size=(2, 49)).astype("float32")
    for whole in ((28, 28), (48, 48)):
        np.testing.assert_array_equal(fit_attention_biases(table, (7, 7), (28, 28), (7, 7), whole), table)
    one = fit_attention_biases(table, (7, 7), (100, 100), (1, 1), (4, 4))  # less than a position is one
    assert one.shape == (2, 1)


def test_transfer_refuses_another_network():
    other = TinyViTImageClassifier(TinyViTBackbone(64, **{**TINY, "embed_dims": (16, 32, 64, 96)}), 10)
    with pytest.raises(WeightsMismatch, match="does not fit"):
        transfer_weights(classifier(), other)
    with pytest.raises(WeightsMismatch, match="weights"):
        transfer_weights(classifier(), TinyViTBackbone(64, **TINY))


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_attention_bias_resize_equals_pytorch(old, new, seed):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(seed).normal(0, 1, (3, old * old)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.tensor(table).reshape(1, 3, old, old), size=(new, new), mode="bicubic", antialias=True
    )
    resized = resize_attention_biases(table, (old, old), (new, new))
    np.testing.assert_allclose(resized, expected.numpy().reshape(3, -1), atol=2e-5)


def test_weights_survive_a_keras_file(tmp_path, checkpoint):
    model = load_timm_weights(classifier(), checkpoint)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(keras.saving.load_model(tmp_path / "model.keras")), outputs(model), rtol=1e-6)
