"""Encoders and networks from Keras through the deploy graph to LiteRT and ONNX Runtime: the same outputs."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.contract.keras_source import keras_predictions
from export.conversion.deployment import deployment_of, maps_in_words
from export.conversion.to_litert import to_litert
from export.conversion.to_onnx import PORTABLE_OPSET, to_onnx
from export.conversion.to_tensorrt import tensorrt_violations
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.layers.heads import ResidualAttentionHead
from keras_realmnet.models.networks import build
from keras_realmnet.presets import LESION_GUIDED_PRESETS
from keras_realmnet.tasks.guidance import deployed, marked_regions
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet

# Of the largest value of a map, what float32 may differ by where engines sum in another order, through up to 150
# convolutions.
TOLERANCE = 1e-4
SAME_LAYERS = ("inception_v3, same", "efficientnet_b4")  # as another one; LiteRT's converter takes its time
ENCODERS = {
    "efficientnet_lite0": {"image_size": 64, "options": {"top": True}},
    "mobilenet_v2": {"image_size": (64, 96)},
    "tiny_vit": {"image_size": 64},
    "resnet34": {"image_size": 64},
    "resnet50": {"image_size": 64},
    "vgg19": {"image_size": 64},
    "inception_v3": {"image_size": 96},
    "inception_v3, same": {"architecture": "inception_v3", "image_size": 96, "options": {"padding": "same"}},
    "efficientnet_b0": {"image_size": 64},
    "efficientnet_b4": {"image_size": 64},
}


def randomized(model):
    """`model` with no weight or statistic at its initial value."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype != "float32" or not weight.shape:  # counters and random states
            continue
        if weight.name in ("gamma", "moving_variance", "variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "kernel" in weight.name:
            fan_in = np.prod(weight.shape[:2]) if "depthwise" in weight.name else np.prod(weight.shape[:-1])
            weight.assign(rng.normal(0, (2 / fan_in) ** 0.5, weight.shape))
        else:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def pixels(model):
    return np.random.default_rng(1).integers(0, 256, (1, *model.input_shape[1:])).astype("float32")


def in_engines(model, folder, litert=True, **deployment):
    """{engine: {output: array}} of `model` for one picture."""
    images = pixels(model)
    path = to_onnx(model, folder / "model.onnx", opset=PORTABLE_OPSET["float32"], **deployment)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    received = {"ONNX Runtime": dict(zip(names, session.run(names, {"images": images}), strict=True))}
    if litert:
        runner = Interpreter(str(to_litert(model, folder / "model.tflite", **deployment))).get_signature_runner()
        received["LiteRT"] = runner(images=images)
    return received, path


def assert_equal(received, expected):
    for engine, outputs in received.items():
        assert set(outputs) == set(expected)
        for name, value in expected.items():
            value = np.asarray(value)
            assert np.ptp(value) > 0
            limit = TOLERANCE * np.abs(value).max()
            np.testing.assert_allclose(outputs[name], value, rtol=0, atol=limit, err_msg=f"{name} in {engine}")


@pytest.mark.slow
@pytest.mark.parametrize("case", ENCODERS)
def test_an_encoder_in_the_engines(case, tmp_path):
    encoder = Encoder(**{"architecture": case, **ENCODERS[case]})
    names = [f"map_{k}" for k in range(5)]
    model = randomized(keras.Model(encoder.input, dict(zip(names, encoder.outputs, strict=True)), name="encoder"))
    received, path = in_engines(model, tmp_path, case not in SAME_LAYERS, activations=dict.fromkeys(names))
    assert_equal(received, model(pixels(model)))
    assert tensorrt_violations(onnx.load(path)) == []


@pytest.mark.slow
def test_a_classifier_for_the_edge_with_its_class_maps(tmp_path):
    encoder = Encoder("efficientnet_lite0", 64)
    logits = ResidualAttentionHead(7, name="head")(encoder(encoder.input)[-1])
    model = randomized(keras.Model(encoder.input, {"probabilities": logits}, name="classifier"))
    deployment = {
        "activations": {"probabilities": "sigmoid"},
        "class_maps": {"class_maps": "probabilities"},
        "features": {"features": "probabilities"},
    }
    received, _ = in_engines(model, tmp_path, **deployment)
    feature_map = encoder(pixels(model))[-1]
    expected = {
        "probabilities": keras.ops.sigmoid(model(pixels(model))["probabilities"]),
        "class_maps": model.get_layer("head").class_maps(feature_map),
        "features": keras.ops.mean(feature_map, axis=(1, 2)),
    }
    assert_equal(received, expected)


def label_set(name, *codes):
    return LabelSet(name, tuple(Label(code, code, f"{code} is there") for code in codes))


FOVEA, DISC = label_set("points", "fovea", "disc"), label_set("masks", "disc")
NETWORKS = {
    "edge_mobilenet_v2": {
        "landmarks": Points(FOVEA, confidence=True),
        "disc": Masks(DISC, exclusive=True),
        "lesions": Masks(label_set("lesions", "MA", "HE")),
        "grades": Grades(label_set("grades", "R0", "R1", "R2")),
    },
    "palm_disc": {"disc": Masks(DISC, exclusive=True)},
    "palm_fovea": {"fovea": Points(FOVEA)},
}
# The last weights of networks whose random logits would be so large that all is decided, or rounding is magnified.
DAMPED = {"palm_disc": ("disc", 0.05), "palm_fovea": ("coordinates", 0.002)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_in_the_engines(name, tmp_path):
    model = randomized(build(name, NETWORKS[name], 64))
    if name in DAMPED:
        layer, share = DAMPED[name]
        kernel = model.get_layer(layer).kernel
        kernel.assign(share * kernel)
    activations = {key: output.activation for key, output in NETWORKS[name].items()}
    received, path = in_engines(model, tmp_path, activations=activations)
    functions = {"sigmoid": keras.ops.sigmoid, "softmax": keras.ops.softmax, None: keras.ops.copy}
    expected = {key: functions[activations[key]](value) for key, value in model(pixels(model)).items()}
    assert_equal(received, expected)
    assert tensorrt_violations(onnx.load(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grading_abn", *LESION_GUIDED_PRESETS])
def test_grades_that_look_at_lesions_in_the_engines(name, tmp_path):
    lesions, grades = NETWORKS["edge_mobilenet_v2"]["lesions"], NETWORKS["edge_mobilenet_v2"]["grades"]
    outputs = {"grades": grades} if name == "grading_abn" else {"lesions": lesions, "grades": grades}
    model = randomized(build(name, outputs, 64, encoder="mobilenet_v2"))
    received, path = in_engines(model, tmp_path, activations={key: value.activation for key, value in outputs.items()})
    logits = model(pixels(model))
    expected = {"grades": keras.ops.softmax(logits["grades"])}
    if "lesions" in outputs:
        expected["lesions"] = keras.ops.sigmoid(logits["lesions"])
    assert_equal(received, expected)
    assert tensorrt_violations(onnx.load(path)) == []


@pytest.mark.slow
def test_realmnet_on_efficientnet_lite0_in_the_engines(tmp_path):
    model = randomized(build("realmnet_lite0_224", {"probabilities": Labels(label_set("labels", "L0", "L1"))}, 64))
    received, _ = in_engines(model, tmp_path)
    features = keras.Model(model.input, model.feature_map)(pixels(model))
    expected = {**model.inference_model()(pixels(model)), "features": keras.ops.mean(features, axis=(1, 2))}
    assert_equal(received, expected)


@pytest.mark.slow
def test_glaucoma_beside_its_local_mean_in_the_engines(tmp_path):
    small = {"normalization": "local_mean", "filters": 4, "blocks": 1, "branch_filters": 4}
    model = randomized(build("refuge_glaucoma", {"glaucoma": Labels(label_set("glaucoma", "G", "S"))}, 64, **small))
    received, path = in_engines(model, tmp_path, activations={"glaucoma": "sigmoid"})
    assert_equal(received, {"glaucoma": keras.ops.sigmoid(model(pixels(model))["glaucoma"])})
    assert tensorrt_violations(onnx.load(path)) == []


@pytest.mark.slow
def test_a_guided_network_shows_its_activation_map_in_the_engines(tmp_path):
    labels = label_set("finding", "EX", "HE")
    outputs = {"probabilities": Labels(labels), "class_maps": marked_regions(labels)}
    model = randomized(build("guided_small", outputs, 64, map_stride=16, filters=4, pyramid_filters=4))
    task = deployed(Task("finding", "colour_fundus", outputs, NoReferral()))
    deployment = deployment_of(model, task)
    assert deployment["class_maps"] == deployment["features"] == {}
    assert maps_in_words(model, task) == "activation map of the network"
    received, path = in_engines(model, tmp_path, **deployment)
    expected = keras_predictions(model, pixels(model).astype(np.uint8), task)
    assert expected["class_maps"].shape == (1, 4, 4, 2)
    assert 0 < expected["class_maps"].min() < expected["class_maps"].max() < 1
    assert_equal(received, expected)
    assert tensorrt_violations(onnx.load(path)) == []
