"""The networks of every kind of output: what they give, that they learn, and what survives saving."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import (
    Baseline,
    RealMNet,
    TinyViTBackbone,
    TinyViTImageClassifier,
    compat,
    losses,
    transfer_weights,
)
from keras_realmnet.models.edge import SoftArgmax
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.presets import NETWORKS, network_options
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Points
from keras_realmnet.tasks.vocabulary import Label, LabelSet

pytestmark = pytest.mark.usefixtures("short_encoders")

tensorflow_only = pytest.mark.tensorflow_only  # on PyTorch and JAX one of each kind


def label_set(name, *codes):
    return LabelSet(name, tuple(Label(code, code, f"{code} is there") for code in codes))


GRADES = Grades(label_set("grades", "R0", "R1", "R2"))
LABELS = Labels(label_set("labels", "L0", "L1"))
PLACES = Points(label_set("places", "fovea", "disc"))
SURE_PLACES = Points(PLACES.labels, confidence=True)
DISC = Masks(label_set("disc", "disc"), exclusive=True)
LESIONS = Masks(label_set("lesions", "MA", "HE", "EX"))
EVERYTHING = {"grades": GRADES, "labels": LABELS, "lesions": LESIONS, "disc": DISC, "places": SURE_PLACES}
LANDMARKS = {"landmarks": SURE_PLACES, "disc": DISC}

CASES = {  # name: network, outputs, options
    "palm_classifier": ("palm_classifier", {"grades": GRADES}, {}),
    "palm_fovea": ("palm_fovea", {"places": PLACES}, {}),
    "palm_fovea vgg19": ("palm_fovea", {"places": PLACES}, {"backbone": "vgg19"}),
    "palm_fovea resnet50": ("palm_fovea", {"places": PLACES}, {"backbone": "resnet50"}),
    "palm_disc": ("palm_disc", {"disc": DISC}, {}),
    "landmarks": ("edge_mobilenet_v2", LANDMARKS, {}),
    "everything": ("edge_lite0", EVERYTHING, {"head": "linear", "mask_stride": 4, "drop_path_rate": 0.1}),
    "grades": ("edge_mobilenet_v2", {"grades": GRADES}, {"head_options": {"num_heads": 4}}),
    "realmnet_lite0": ("realmnet_lite0_224", {"labels": LABELS}, {}),
}


def cases(*everywhere):
    """All; on PyTorch and JAX, whose first step with a network takes long, those that are named."""
    return [name if name in everywhere else pytest.param(name, marks=tensorflow_only) for name in CASES]


def made(case, size=64, **arguments):
    name, outputs, options = CASES[case]
    return build(name, outputs, size, **options, **arguments)


def images(size=64, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def answers(model, pixels, **arguments):
    return [ops.convert_to_numpy(ops.cast(x, "float32")) for x in keras.tree.flatten(model(pixels, **arguments))]


SHAPES = {  # of the outputs for one image of 64 px
    "grades": (3,),
    "labels": (2,),
    "places": (2, 2),
    "landmarks": (2, 3),
    "disc": (32, 32, 2),
}
OTHER_SHAPES = {
    "palm_disc": {"disc": (64, 64, 2)},
    "everything": {"places": (2, 3), "disc": (16, 16, 2), "lesions": (16, 16, 3)},
}


@pytest.mark.parametrize("case", cases("landmarks"))
def test_each_output_has_its_shape_by_name(case):
    model = made(case)
    outputs = CASES[case][1]
    shapes = {name: (OTHER_SHAPES.get(case, {}).get(name) or SHAPES[name]) for name in outputs}
    given = model(images())
    if case == "realmnet_lite0":
        given = {"labels": given}
    assert {name: tuple(value.shape[1:]) for name, value in given.items()} == shapes
    assert {str(keras.backend.standardize_dtype(value.dtype)) for value in given.values()} == {"float32"}
    for name, output in outputs.items():
        value = ops.convert_to_numpy(given[name])
        assert np.ptp(value) > 0
        if isinstance(output, Points):
            output.check(value)
            assert 0 <= value.min() <= value.max() <= 1
    assert model.image_size == (64, 64)


def truth(output, model, count):
    """A truth for `count` images of which the first is black, the others are white."""
    size, k = model.image_size[0], len(output.labels)
    there = (np.arange(count) > 0).astype("float32")
    if isinstance(output, Grades):
        return np.eye(k, dtype="float32")[(there * (k - 1)).astype(int)]
    if isinstance(output, Labels):
        return np.repeat(there[:, None], k, axis=1)
    if isinstance(output, Points):
        place = np.repeat(0.25 + 0.5 * there[:, None, None], k, axis=1)
        return np.concatenate([place, place, np.ones_like(place)], axis=-1)
    shape = (count, size, size) if output.exclusive else (count, size, size, k)
    return np.broadcast_to(there.reshape(-1, *[1] * (len(shape) - 1)), shape).astype("uint8")


def loss_of(output):
    if isinstance(output, Masks):
        return losses.CrossentropyDice(output.exclusive)
    kinds = {Grades: losses.SoftmaxCrossentropy, Labels: losses.AsymmetricLoss, Points: losses.EuclideanDistance}
    return kinds[type(output)]()


def to_fit(model, outputs, count=4):
    """Images, a truth and losses by output, as `fit` takes them."""
    pixels = images(model.image_size[0], count) * 0.2
    pixels[1:] += 200
    y_true = {name: truth(output, model, count) for name, output in outputs.items()}
    chosen = {name: loss_of(output) for name, output in outputs.items()}
    if not isinstance(model.output, dict):
        (y_true,), (chosen,) = y_true.values(), chosen.values()
    return pixels, y_true, chosen


@pytest.mark.parametrize("case", cases("palm_fovea", "landmarks", "grades"))
def test_a_short_fit_moves_every_weight_and_lowers_the_loss(case):
    model = made(case)
    pixels, y_true, chosen = to_fit(model, CASES[case][1])
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    rate = 1e-4 if "fovea" in case else 1e-3  # VGG19 has no BatchNorm
    eager = keras.backend.backend() == "tensorflow"  # tracing a graph would take it longer than these steps
    model.compile(keras.optimizers.Adam(rate), chosen, run_eagerly=eager, jit_compile=keras.backend.backend() == "jax")
    history = []
    while len(history) < 5 and not (history and history[-1] < 0.9 * history[0]):
        history.append(float(model.train_on_batch(pixels, y_true, return_dict=True)["loss"]))
    assert np.isfinite(history).all()
    assert history[-1] < 0.9 * history[0]
    still = [
        weight.path
        for weight, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(ops.convert_to_numpy(weight), old)
    ]
    assert still == []


def policies_of_layers(model):
    """Of all that compute; networks and their inputs have policies of their own, which say nothing."""
    idle = keras.Model | keras.layers.InputLayer
    return [layer.dtype_policy.name for layer in compat.all_layers(model) if not isinstance(layer, idle)]


@pytest.mark.parametrize("case", cases("grades"))
def test_a_saved_network_is_the_same(tmp_path, case):
    model = made(case, dtype="mixed_bfloat16")
    model.layers[1].trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, Network)
    policies = [policies_of_layers(each) for each in (model, again)]
    assert policies[0] == policies[1]
    assert {"mixed_bfloat16", "float32"} <= set(policies[0])
    assert len(again.trainable_variables) == len(model.trainable_variables) < len(model.variables)
    for old, new in zip(answers(model, images()), answers(again, images()), strict=True):
        assert np.isfinite(old).all()
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("case", ["landmarks", pytest.param("palm_disc", marks=tensorflow_only)])
def test_weights_move_to_another_image_size(case):
    small, large = made(case), made(case, 128)
    transfer_weights(small, large)
    for old, new in zip(small.weights, large.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new))


@tensorflow_only
def test_the_published_parts_of_palm_disc():
    """At 512 px the ASPP works on 16 × 16, and the smaller images come in at 256 and 128 px."""
    model = build("palm_disc", {"disc": DISC})
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers if not isinstance(layer, keras.Model)}
    assert shapes["aspp_relu"] == (16, 16, 256)
    assert shapes["half_concat"] == (256, 256, 128)
    assert shapes["quarter_concat"] == (128, 128, 128)
    assert [shapes[f"decoder{k}_second_relu"] for k in range(5)] == [
        *((32, 32, 256), (64, 64, 128), (128, 128, 64), (256, 256, 64), (512, 512, 32))
    ]
    assert tuple(model.output["disc"].shape) == (None, 512, 512, 2)


@tensorflow_only
def test_blocks_4_and_5_of_palm_fovea_are_mixed():
    model = build("palm_fovea", {"fovea": PLACES}, 64)
    assert tuple(model.get_layer("mixed").output.shape[1:]) == (4, 4, 1024)


@tensorflow_only
def test_the_smaller_images_of_palm_disc_come_in_beside_what_the_encoder_knows():
    """Where they say nothing, the encoder's map passes as it is."""
    model = made("palm_disc")
    for name in ("half", "quarter"):
        model.get_layer(f"{name}_side_norm").gamma.assign(np.zeros(64))
        ends = [model.get_layer(f"{name}_{layer}").output for layer in ("project", "concat")]
        projected, joined = (ops.convert_to_numpy(x) for x in keras.Model(model.input, ends)(images()))
        np.testing.assert_allclose(projected, joined[..., :64], atol=1e-5)
        assert np.ptp(projected) > 0


@tensorflow_only
def test_imagenet_weights_reach_the_encoder(tmp_path):
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    network.save_weights(tmp_path / "theirs.weights.h5")
    model = made("palm_classifier", load_weights=tmp_path / "theirs.weights.h5")
    expected = Encoder("resnet50", 64, load_weights=tmp_path / "theirs.weights.h5")
    for ours, theirs in zip(model.get_layer("encoder").weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


# ---- points


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 16)])
def test_a_peak_is_read_back_where_it_was_placed(height, width):
    heat = np.zeros((2, height, width, 3), "float32")
    placed = [(0, 0), (height - 1, width - 1), (2, 3)]
    for point, (row, column) in enumerate(placed):
        heat[0, row, column, point] = 200.0
    heat[1, 1, 2], heat[1, 1, 3] = 200.0, 200.0  # between two positions
    places = ops.convert_to_numpy(SoftArgmax()(heat))
    expected = np.array([[(column + 0.5) / width, (row + 0.5) / height] for row, column in placed], "float32")
    np.testing.assert_array_equal(places[0], expected)
    np.testing.assert_array_equal(places[1], np.tile(np.array([3 / width, 1.5 / height], "float32"), (3, 1)))


def test_soft_argmax_is_the_mean_under_the_softmax_and_has_its_gradient(value_and_gradient):
    heat = np.random.default_rng(0).normal(0, 2, (2, 4, 6, 3)).astype("float32")

    def expected(x):
        p = np.exp(x.astype("float64"))
        p /= p.sum(axis=(1, 2), keepdims=True)
        across, down = (np.arange(6) + 0.5) / 6, (np.arange(4) + 0.5) / 4
        return np.stack([np.einsum("nijk,j->nk", p, across), np.einsum("nijk,i->nk", p, down)], axis=-1)

    value, gradient = value_and_gradient(lambda x: ops.sum(SoftArgmax()(x)[..., 0]), heat)
    np.testing.assert_allclose(ops.convert_to_numpy(SoftArgmax()(heat)), expected(heat), atol=1e-6)
    assert value == pytest.approx(expected(heat)[..., 0].sum(), rel=1e-6)
    step = np.zeros_like(heat, dtype="float64")
    step[1, 2, 3, 0] = 1e-4
    slope = (expected(heat + step) - expected(heat - step))[..., 0].sum() / 2e-4
    assert gradient[1, 2, 3, 0] == pytest.approx(slope, rel=1e-3)


def test_a_point_is_where_the_heat_map_of_the_network_peaks():
    """The map of stride 16 is enlarged without a shift: a symmetric peak keeps its centre."""
    model = made("landmarks", 128)
    heat = keras.Input(model.get_layer("landmarks_heat_map").output.shape[1:])
    x = model.get_layer("landmarks_places")(model.get_layer("landmarks_heat_map_up")(heat))
    peaks = np.full((1, 8, 8, 2), -500.0, "float32")
    peaks[0, 2, 5, 0], peaks[0, 4:6, 3, 1] = 500.0, 500.0
    places = ops.convert_to_numpy(keras.Model(heat, x)(peaks))
    np.testing.assert_allclose(places[0], [[5.5 / 8, 2.5 / 8], [3.5 / 8, 5 / 8]], atol=1e-6)


def spots(count, size, seed):
    """Grey pictures with a bright spot each, or none in every fourth, and where that lies."""
    rng = np.random.default_rng(seed)
    y_true = np.full((count, 1, 3), np.nan, "float32")
    y_true[:, 0, 2] = 0
    pixels = rng.normal(100, 8, (count, size, size, 3))
    rows, columns = np.mgrid[:size, :size] + 0.5
    for k in range(count):
        if k % 4:
            x, y = rng.uniform(0.15, 0.85, 2)
            y_true[k, 0] = x, y, 1
            distance = (columns - x * size) ** 2 + (rows - y * size) ** 2
            pixels[k] += 120 * np.exp(-distance / (2 * 5**2))[..., None]
    return pixels.clip(0, 255).astype("float32"), y_true


@tensorflow_only
@pytest.mark.slow
def test_points_and_their_confidence_are_learned():
    model = build("edge_mobilenet_v2", {"spot": Points(label_set("spots", "spot"), confidence=True)}, 64)
    pixels, y_true = spots(96, 64, seed=1)
    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(model.trainable_variables)  # TensorFlow traces a step once more if the first time makes variables
    model.compile(optimizer, {"spot": losses.EuclideanDistance()}, jit_compile=False)
    model.fit(pixels, {"spot": y_true}, batch_size=16, epochs=25, verbose=0)
    others, y_true = spots(40, 64, seed=2)
    given, seen = model.predict(others, verbose=0)["spot"][:, 0], y_true[:, 0, 2] == 1
    away = np.linalg.norm(given[seen, :2] - y_true[seen, 0, :2], axis=-1)
    assert np.median(away) * 64 < 3.0  # pixels; the middle of the picture is 17 away
    assert ((given[:, 2] > 0.5) == seen).mean() > 0.8


# ---- what is refused, and what every network takes


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        (
            "palm_classifier",
            {"p": PLACES},
            r"palm_classifier answers one output of labels or grades. Received: p \(poi",
        ),
        ("palm_classifier", {"a": GRADES, "b": LABELS}, r"Received: a \(grades\), b \(labels\)"),
        ("palm_fovea", {"p": SURE_PLACES}, r"points without confidence. Received: p \(points with confidence\)"),
        ("palm_disc", {"m": LESIONS}, r"one output of exclusive masks. Received: m \(masks\)"),
        ("realmnet_5m_224", {"m": DISC}, r"realmnet_5m_224 answers .* Received: m \(exclusive masks\)"),
        ("deit_b_384", {"p": PLACES}, r"deit_b_384 answers one output of labels or grades"),
        ("edge_lite0", {"f": Features()}, r"edge_lite0 answers .*, at least one. Received: f \(features\)"),
        ("edge_lite1", {"g": GRADES}, r"a network's name must be one of .* Received: 'edge_lite1'"),
    ],
)
def test_outputs_that_a_network_cannot_have_are_refused(name, outputs, message):
    with pytest.raises(ValueError, match=message):
        build(name, outputs, 64)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("palm_classifier", {"depth": 3}, r"palm_classifier takes no options\. Received: depth=3"),
        ("palm_fovea", {"backbone": "vgg16"}, r"backbone must be vgg19_mixed, vgg19 or resnet50\. Received: 'vgg16'"),
        ("edge_lite0", {"mask_strides": 2}, r"edge_lite0 takes head, .* Received: mask_strides=2"),
        ("edge_lite0", {"mask_stride": 8}, r"mask_stride must be 2 or 4\. Received: 8"),
        ("edge_lite0", {"head": "csra"}, r"head must be residual_attention or linear\. Received: 'csra'"),
        ("edge_lite0", {"head_options": {"heads": 2}}, r"head_options of residual_attention takes .*heads=2"),
        ("realmnet_lite0_224", {"embed_dims": (8, 8, 8, 8)}, r"realmnet_lite0_224 takes .*Received: embed_dims"),
        ("realmnet_5m_224", {"image_sizes": 3}, r"realmnet_5m_224 takes .*Received: image_sizes=3"),
        ("swin_b_384", {"window": 7}, r"swin_b_384 takes .*Received: window=7"),
    ],
)
def test_unknown_options_are_refused_by_name(name, options, message):
    outputs = {"p": PLACES} if name == "palm_fovea" else {"grades": GRADES}
    with pytest.raises(ValueError, match=message):
        build(name, outputs, 64, **options)


def test_the_options_of_every_network_are_known():
    for name in NETWORKS:
        assert all(rule.expected for rule in network_options(name).values())
    with pytest.raises(ValueError, match=r"a network's name must be one of realmnet_5m_224, .* Received: 'realmnet'"):
        network_options("realmnet")


def test_maps_and_features_are_not_the_networks_own():
    outputs = {"grades": GRADES, "maps": Maps("grades"), "vector": Features()}
    assert set(build("edge_mobilenet_v2", outputs, 64).output) == {"grades"}


TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def test_realmnets_and_baselines_are_built_by_their_names_too():
    model = build("realmnet_5m_224", {"labels": LABELS}, 64, head="linear", drop_path_rate=0.1, **TINY)
    assert isinstance(model, RealMNet)
    assert (model.output_shape, model.image_size) == ((None, 2), (64, 64))
    assert model.backbone.drop_path_rate == 0.1
    model = build("deit_b_384", {"grades": GRADES}, 32, num_layers=1, num_heads=1, hidden_dim=8, dtype="mixed_bfloat16")
    assert isinstance(model, Baseline)
    assert (model.output_shape, model.image_size) == ((None, 3), (32, 32))
    assert build("realmnet_5m_224", {"labels": LABELS, "maps": Maps("labels")}).image_size == (224, 224)


PRESETS = {
    "RealMNet": lambda **a: RealMNet.from_preset("realmnet_5m_224", 3, image_size=64, **TINY, **a),
    "RealMNet lite0": lambda **a: RealMNet.from_preset("realmnet_lite0_224", 3, image_size=64, **a),
    "TinyViTBackbone": lambda **a: TinyViTBackbone.from_preset("tiny_vit_5m_224", image_size=64, **TINY, **a),
    "TinyViTImageClassifier": lambda **a: TinyViTImageClassifier.from_preset(
        "tiny_vit_5m_224", num_classes=3, image_size=64, **TINY, **a
    ),
    "Baseline": lambda **a: Baseline.from_preset(
        "convnext_t_384", 3, 64, depths=(1,) * 4, projection_dims=(8,) * 4, **a
    ),
}


@tensorflow_only
@pytest.mark.parametrize("case", PRESETS)
def test_every_preset_takes_a_dtype(case):
    assert set(policies_of_layers(PRESETS[case]())) == {"float32"}
    half = PRESETS[case](dtype="mixed_bfloat16")
    assert "mixed_bfloat16" in policies_of_layers(half)
    assert all(np.isfinite(value).all() for value in answers(half, images()))
    assert keras.config.dtype_policy().name == "float32"
