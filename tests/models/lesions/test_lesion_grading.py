"""Grades by an attention branch, and beside a frozen Lesion-Net."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.lesions.grading import use_lesion_net
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.presets import GRADING_PRESETS, LESION_GUIDED_PRESETS
from keras_realmnet.tasks.outputs import Grades, Labels, Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

pytestmark = pytest.mark.usefixtures("short_encoders")

tensorflow_only = pytest.mark.tensorflow_only  # the encoders beside them are tested on every backend


def label_set(name, *codes):
    return LabelSet(name, tuple(Label(code, code, f"{code} is there") for code in codes))


GRADES = Grades(label_set("grades", "R0", "R1", "R2", "R3", "R4"))
LESIONS = Masks(label_set("lesions", "MA", "HE", "EX"))
DISC = Masks(label_set("disc", "disc"), exclusive=True)
BOTH = {"lesions": LESIONS, "grades": GRADES}
GUIDED = list(LESION_GUIDED_PRESETS)


def made(name, outputs=None, size=64, **options):
    return build(name, outputs or {"grades": GRADES}, size, **{"encoder": "mobilenet_v2", **options})


def images(count=2, size=(64, 64)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype("float32")


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(ops.cast(x, "float32")), values)


def inside(model, multiplies, *layers):
    """What goes into the layer `multiplies`, and what comes out of `layers`, for the drawn images."""
    ends = [model.get_layer(multiplies).input, *(model.get_layer(name).output for name in layers)]
    return numbers(keras.Model(model.input, ends)(images()))


@tensorflow_only
@pytest.mark.parametrize("name", [*GRADING_PRESETS, *GUIDED])
def test_grades_come_out_and_one_step_moves_what_is_trained(name, tmp_path):
    model = made(name)
    given = numbers(model(images()))
    ends = ["grades", "grades_auxiliary"] if name == "grading_abn" else ["grades"]
    assert {key: value.shape for key, value in given.items()} == dict.fromkeys(ends, (2, 5))
    assert given["grades"].dtype == np.float32
    assert np.ptp(given["grades"]) > 0
    before = [np.array(value) for value in model.get_weights()]
    moving = {id(weight) for weight in model.trainable_variables}
    eager = keras.backend.backend() == "tensorflow"
    loss = losses.SoftmaxCrossentropy()
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=eager, jit_compile=keras.backend.backend() == "jax")
    model.train_on_batch(images(), {"grades": np.eye(5, dtype="float32")[[0, 3]]})
    for weight, old in zip(model.weights, before, strict=True):
        if id(weight) in moving:
            assert not np.array_equal(ops.convert_to_numpy(weight), old), weight.path
    if name in GUIDED:  # frozen, the statistics of its BatchNorm too
        frozen = model.get_layer("lesion_net").weights
        assert not moving & {id(weight) for weight in frozen}
        kept = {id(weight): old for weight, old in zip(model.weights, before, strict=True)}
        for weight in frozen:
            np.testing.assert_array_equal(ops.convert_to_numpy(weight), kept[id(weight)])

    if name not in ("grading_abn", "grading_lesion_conv"):
        return
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert isinstance(again, Network)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(numbers(again(images()))["grades"], numbers(model(images()))["grades"])


@tensorflow_only
@pytest.mark.parametrize("name", ["grading_plain", "grading_lesion_conv"])
def test_the_first_layers_of_the_encoder_may_stay_as_they_are(name):
    model = made(name, frozen_stride=16)
    encoder = model.get_layer("encoder")
    front = {layer.name for layer in keras.Model(encoder.inputs, encoder.outputs[3]).layers}
    for layer in encoder.layers:
        assert layer.trainable == (layer.name not in front), layer.name
    assert {layer.name for layer in encoder.layers} > front > {"scaling"}
    assert len(made(name).trainable_variables) > len(model.trainable_variables)
    assert not made("grading_abn", frozen_stride=16).get_layer("encoder_to_stride16").trainable_variables


@tensorflow_only
def test_a_picture_need_not_be_square():
    assert numbers(made("grading_lesion_max", size=(64, 32))(images(1, (64, 32))))["grades"].shape == (1, 5)


@tensorflow_only
@pytest.mark.parametrize("name", [*GRADING_PRESETS, *GUIDED])
def test_the_deployed_network_says_the_same_and_nothing_more(name):
    model = made(name)
    graph = deploy_graph(model, batch_size=None, activations={"grades": "softmax"})
    assert list(graph.output) == ["grades"]
    assert not [layer.name for layer in graph.layers if "branch_scores" in layer.name or "auxiliary" in layer.name]
    logits = numbers(model(images()))["grades"]
    expected = numbers(ops.softmax(logits))
    np.testing.assert_allclose(numbers(graph(images()))["grades"], expected, atol=1e-5)


@tensorflow_only
def test_the_attention_branch_lets_more_through_and_speaks_for_itself():
    model = made("grading_abn")
    (x, attention), attended, maps = inside(model, "attended_part", "attended", "branch_maps_relu")
    assert attention.shape == (2, 4, 4, 1)
    assert 0 < attention.min() < attention.max() < 1
    np.testing.assert_allclose(attended, x * (1 + attention), atol=1e-5)
    kernel, bias = map(ops.convert_to_numpy, model.get_layer("branch_scores").weights)
    expected = (maps @ kernel[0, 0] + bias).mean(axis=(1, 2))
    given = numbers(model(images()))
    np.testing.assert_allclose(given["grades_auxiliary"], expected, atol=1e-5)
    labels = Labels(LESIONS.labels)
    assert made("grading_abn", {"lesions": labels}).output["lesions"].shape == (None, 3)


@tensorflow_only
@pytest.mark.parametrize("name", GUIDED)
def test_grades_look_at_what_the_lesion_net_tells(name):
    model = made(name, BOTH)
    lesion_net = build("lesion_net_16s", {"lesions": LESIONS}, 64, encoder="mobilenet_v2")
    kernel = lesion_net.get_layer("lesions").kernel  # as it is, all probabilities are one half
    kernel.assign(kernel * (3 / np.std(numbers(lesion_net(images()))["lesions"])))
    assert use_lesion_net(model, lesion_net) is model
    told, given = numbers(lesion_net(images()))["lesions"], numbers(model(images()))
    assert given["grades"].shape == (2, 5)
    np.testing.assert_allclose(given["lesions"], told, atol=1e-3)
    p = 1 / (1 + np.exp(-told.astype("float64")))  # (2, 4, 4, 3)
    assert np.ptp(p) > 0.5
    halved = p.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    if name == "grading_lesion_concat":
        (pooled, _), beside = inside(model, "lesions_beside", "lesions_beside")
        np.testing.assert_allclose(beside, np.concatenate([pooled, p.max(axis=(1, 2))], axis=1), atol=1e-4)
        return
    (x, attention), attended, maps = inside(model, "attended", "attended", "lesion_maps_at_stride32")
    np.testing.assert_allclose(maps, halved, atol=1e-4)
    np.testing.assert_allclose(attended, x * attention, rtol=1e-4, atol=1e-5)
    if name == "grading_lesion_max":
        np.testing.assert_allclose(attention, halved.max(axis=-1, keepdims=True), atol=1e-4)
    else:
        assert attention.shape == x.shape
        assert 0 < attention.min() < attention.max() < 1


@tensorflow_only
def test_another_lesion_net_does_not_fit():
    with pytest.raises(WeightsMismatch, match="weights"):
        use_lesion_net(
            made("grading_lesion_max", BOTH), build("lesion_net_8s", {"lesions": LESIONS}, 64, encoder="mobilenet_v2")
        )
    model = made("grading_lesion_max", BOTH, lesion_stride=32)
    use_lesion_net(model, build("lesion_net_32s", {"lesions": LESIONS}, 64, encoder="mobilenet_v2"))


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        ("grading_plain", {"m": LESIONS}, r"one output of labels or grades\. Received: m \(masks\)"),
        ("grading_abn", {"a": GRADES, "b": GRADES}, r"one output of labels or grades\. Received: a \(grades\), b \(gr"),
        ("grading_abn", {}, r"Received: none"),
        ("grading_lesion_max", {"m": LESIONS}, r"one output of grades, and at most one of masks .*Received: m"),
        ("grading_lesion_max", {"g": GRADES, "d": DISC}, r"Received: g \(grades\), d \(exclusive masks\)"),
        ("grading_lesion_conv", {"g": GRADES, "a": LESIONS, "b": LESIONS}, r"Received: g \(grades\), a \(masks\), b"),
    ],
)
def test_other_outputs_are_refused(name, outputs, message):
    with pytest.raises(ValueError, match=message):
        build(name, outputs, 64)
