import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import LinearHead, RealMNet, ResidualAttentionHead, TinyViTBackbone, TinyViTImageClassifier, losses
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.layers.heads import EXPLANATIONS

TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def tiny(head=None, image_size=64, **backbone):
    return RealMNet(TinyViTBackbone(image_size, **{**TINY, **backbone}), head or ResidualAttentionHead(7))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("realmnet_21m_384", 20_661_552),
        pytest.param("realmnet_21m_512", 20_699_184, marks=pytest.mark.tensorflow_only),
    ],
)
def test_published_parameter_counts(name, parameters):
    model = RealMNet.from_preset(name, num_classes=7, load_weights=False)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    assert model.output_shape == (None, 7)


@pytest.mark.parametrize(
    ("name", "side"),
    [("realmnet_5m_224", 224), pytest.param("realmnet_21m_224", 224, marks=pytest.mark.tensorflow_only)],
)
def test_presets_have_their_size_and_drop_path(name, side):
    model = RealMNet.from_preset(name)
    assert model.image_size == (side, side)
    assert model.backbone.drop_path_rate == 0.5


def test_pixels_are_scaled_inside(images):
    model = tiny()
    direct = model.backbone(images / 255)
    inside = keras.Model(model.input, model.feature_map)(images)
    norm = model.get_layer("head_norm")
    np.testing.assert_allclose(ops.convert_to_numpy(inside), ops.convert_to_numpy(norm(direct)), atol=1e-4)


@pytest.mark.parametrize("head", [ResidualAttentionHead(7, 4, 0.6), LinearHead(7)], ids=["csra", "linear"])
def test_inference_model_explains_the_same_logits(images, head):
    model = tiny(head)
    outputs = model.inference_model()(images)
    assert set(outputs) == {"probabilities", "class_maps"}
    logits = ops.convert_to_numpy(model(images))
    probabilities = ops.convert_to_numpy(outputs["probabilities"])
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert outputs["class_maps"].shape == (2, 2, 2, 7)
    assert ops.convert_to_numpy(outputs["class_maps"]).min() >= 0


@pytest.mark.parametrize("explanation", EXPLANATIONS)
def test_class_maps_equal_autodiff_on_the_last_normalized_map(images, value_and_gradient, explanation):
    model = tiny(image_size=128)
    images = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    features = ops.convert_to_numpy(keras.Model(model.input, model.feature_map)(images))
    inference = model.inference_model(explanation)
    maps = ops.convert_to_numpy(inference(images)["class_maps"])
    total = features.sum((1, 2), keepdims=True)

    def reference(g):
        if explanation == "grad_cam":
            weights = g.mean((1, 2), keepdims=True)
        else:
            a = np.where(g != 0, g**2 / (2 * g**2 + total * g**3 + 1e-6), 0)
            weights = (np.maximum(g, 0) * a).sum((1, 2), keepdims=True)
        return np.maximum((weights * features).sum(-1), 0)

    for label in range(7):
        _, g = value_and_gradient(lambda x, label=label: ops.sum(model.head(x)[:, label]), features)
        expected = reference(g)
        # The denominator of Grad-CAM++ may come near 0: the last digits of the gradient then count.
        rounding = np.abs(reference(g * (1 + 1e-6)) - expected).max()
        np.testing.assert_allclose(maps[..., label], expected, rtol=0, atol=rounding + 1e-5 * expected.max())
    assert maps.max() > 0


def test_save_and_load(tmp_path, images):
    model = tiny(ResidualAttentionHead(7, 6, 0.9), drop_path_rate=0.3)
    model.map_offset = (1.0, -0.5)  # as after measuring it
    expected = ops.convert_to_numpy(model(images))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, RealMNet)
    assert again.map_offset == (1.0, -0.5)
    assert again.get_config()["head"]["config"]["num_heads"] == 6
    np.testing.assert_allclose(ops.convert_to_numpy(again(images)), expected, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = tiny(ResidualAttentionHead(7, 6, 0.9), drop_path_rate=0.3)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(ops.convert_to_numpy(fresh(images)), expected, atol=1e-6)
    inference = model.inference_model()
    inference.save(tmp_path / "inference.keras")
    reloaded = keras.saving.load_model(tmp_path / "inference.keras")(images)
    for name, value in inference(images).items():
        np.testing.assert_allclose(ops.convert_to_numpy(reloaded[name]), ops.convert_to_numpy(value), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fit_learns_and_compiles(policy, images):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny(drop_path_rate=0.1)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    y_true = (rng.random((8, 7)) < 0.5).astype("float32")
    x = rng.integers(0, 256, (8, 64, 64, 3)).astype("float32")
    jit = keras.backend.backend() == "jax"
    optimizer = keras.optimizers.AdamW(3e-3)
    optimizer.build(model.trainable_variables)  # TensorFlow traces a step once more if the first time makes variables
    model.compile(optimizer, losses.AsymmetricLoss(), jit_compile=jit)
    history = model.fit(x, y_true, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.75 * history[0]


def test_jit_compiled_predictions_agree(images):
    model = tiny()
    expected = ops.convert_to_numpy(model(images))
    model.compile(loss=losses.AsymmetricLoss(), jit_compile=keras.backend.backend() != "torch")
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", ["foo", LinearHead, keras.layers.Dense(7)], ids=["text", "class", "layer"])
def test_a_head_that_is_none_is_refused(head):
    expected = r"^head must be a LinearHead or a ResidualAttentionHead\. Received: "
    with pytest.raises(ValueError, match=expected):
        RealMNet.from_preset("realmnet_5m_224", head=head)
    with pytest.raises(ValueError, match=expected):
        RealMNet(tiny().backbone, head)


def test_a_backbone_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"^backbone must be a TinyViTBackbone or an Encoder\. Received: 'foo'"):
        RealMNet("foo", LinearHead(3))
    with pytest.raises(ValueError, match=r"^backbone must be a TinyViTBackbone\. Received: 'foo'"):
        TinyViTImageClassifier("foo", 3)


@pytest.mark.parametrize("axes", [(..., slice(1)), (..., 0), (0,)], ids=["one channel", "no channel", "no batch"])
def test_images_of_another_shape_are_refused_in_one_line(images, axes):
    for network in (tiny(), tiny().inference_model(), tiny().backbone):
        with pytest.raises(ValueError, match=r"^Input .* expected [^\n]*\Z"):
            network(images[axes])


def test_head_must_have_the_number_of_classes():
    with pytest.raises(ValueError, match=r"num_classes = 7\. Received: 3"):
        RealMNet.from_preset("realmnet_5m_224", num_classes=7, head=LinearHead(3))


@pytest.mark.tensorflow_only
def test_realmnet_on_efficientnet_lite0_explains_its_logits(images):
    """The head looks at the 1280 channels of the encoder, without a LayerNorm; pixels are scaled by the encoder."""
    model = RealMNet.from_preset("realmnet_lite0_224", num_classes=3, image_size=64)
    encoder = Encoder("efficientnet_lite0", 64, {"top": True, "drop_path_rate": 0.2})
    encoder.set_weights(model.backbone.get_weights())
    features = encoder(images)[-1]
    assert tuple(features.shape[1:]) == (2, 2, 1280)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(images)), ops.convert_to_numpy(model.head(features)), atol=1e-5
    )
    outputs = model.inference_model()(images)
    expected = ops.convert_to_numpy(model.head.class_maps(features))
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["class_maps"]), expected, atol=1e-5)
    assert "head_norm" not in [layer.name for layer in model.layers]
