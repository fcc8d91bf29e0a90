import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from keras_realmnet import LinearHead, ResidualAttentionHead
from keras_realmnet.models.layers.heads import ClassMaps


def grad_cam(features, gradient):
    """Grad-CAM as pytorch-grad-cam codes it, in float64 NumPy; (h, w, features) both → (h, w)."""
    features, gradient = features.astype("float64"), gradient.astype("float64")
    return np.maximum((gradient.mean((0, 1)) * features).sum(-1), 0)


def grad_cam_plus_plus(features, gradient):
    """The same for Grad-CAM++."""
    features, gradient = features.astype("float64"), gradient.astype("float64")
    square, cube = gradient**2, gradient**3
    a = square / (2 * square + features.sum((0, 1)) * cube + 1e-6)
    weights = (np.maximum(gradient, 0) * np.where(gradient != 0, a, 0)).sum((0, 1))
    return np.maximum((weights * features).sum(-1), 0)


@pytest.mark.parametrize("num_heads", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("lam", [0.2, 1.2])
def test_residual_attention_equals_the_authors_module(goldens, num_heads, lam):
    golden = np.load(goldens / "csra_head.npz")
    head = ResidualAttentionHead(7, num_heads, lam)
    head.build(golden["features"].shape)
    assert tuple(head.kernel.shape) == (num_heads, 96, 7)
    head.kernel.assign(golden["classifiers"][:num_heads].transpose(0, 2, 1))
    logits = ops.convert_to_numpy(head(golden["features"]))
    expected = golden[f"logits_H{num_heads}_lam{lam}"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("reference", [grad_cam, grad_cam_plus_plus])
@pytest.mark.parametrize("head", [ResidualAttentionHead(3, 4), ResidualAttentionHead(3, 2, 0.7), LinearHead(3)])
def test_closed_form_class_maps_equal_autodiff(value_and_gradient, head, reference):
    rng = np.random.default_rng(3)
    features = rng.normal(0.2, 1, (2, 5, 4, 16)).astype("float32")
    head(features)
    maps = ops.convert_to_numpy(head.class_maps(ops.convert_to_tensor(features), reference.__name__))
    assert maps.shape == (2, 5, 4, 3)
    for label in range(3):
        _, gradient = value_and_gradient(lambda x, label=label: ops.sum(head(x)[:, label]), features)
        for image in range(2):
            expected = reference(features[image], gradient[image])
            np.testing.assert_allclose(maps[image, :, :, label], expected, rtol=0, atol=1e-4 * expected.max())
            assert expected.max() > 0


@pytest.mark.parametrize("rows", [0, 1, -0.5])
@pytest.mark.parametrize("columns", [0, -2, 0.25])
def test_class_maps_are_moved_back_by_the_offset(rows, columns):
    head = ResidualAttentionHead(3)
    features = ops.convert_to_tensor(np.random.default_rng(5).normal(0.2, 1, (2, 5, 4, 16)).astype("float32"))
    maps, moved = (ops.convert_to_numpy(ClassMaps(head, offset=o)(features)) for o in ((0, 0), (rows, columns)))
    expected = ndimage.shift(maps.astype("float64"), (0, -rows, -columns, 0), order=1, mode="grid-constant", cval=0)
    np.testing.assert_allclose(moved, expected, atol=1e-5 * maps.max())


def test_linear_head_equals_keras_layers():
    rng = np.random.default_rng(4)
    features = rng.normal(0, 2, (3, 4, 4, 8)).astype("float32")
    head = LinearHead(5)
    head.build(features.shape)
    for variable in head.weights:
        variable.assign(rng.normal(0, 1, variable.shape))
    norm, dense = keras.layers.LayerNormalization(epsilon=1e-5), keras.layers.Dense(5)
    dense(norm(features.mean((1, 2))))
    norm.set_weights([head.gamma, head.beta])
    dense.set_weights([head.kernel, head.bias])
    expected = ops.convert_to_numpy(dense(norm(features.mean((1, 2)))))
    np.testing.assert_allclose(ops.convert_to_numpy(head(features)), expected, atol=1e-5)


def test_head_computes_in_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        head = ResidualAttentionHead(7)
    finally:
        keras.config.set_dtype_policy("float32")
    assert head.compute_dtype == "float32"


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"grad_cam, grad_cam_plus_plus. Received: 'saliency'"):
        ClassMaps(LinearHead(2), "saliency")
    with pytest.raises(ValueError, match=r"grad_cam, grad_cam_plus_plus. Received: 'saliency'"):
        LinearHead(2).class_maps(np.zeros((1, 2, 2, 4), "float32"), "saliency")
    with pytest.raises(ValueError, match=r"1, 2, 4, 6 or 8. Received: 3"):
        ResidualAttentionHead(7, num_heads=3)
    with pytest.raises(ValueError, match="Received: 0"):
        LinearHead(0)


def test_config_round_trip():
    head = ResidualAttentionHead(5, num_heads=4, lam=0.7, name="head")
    again = ResidualAttentionHead.from_config(head.get_config())
    assert (again.num_classes, again.num_heads, again.lam, again.name) == (5, 4, 0.7, "head")
