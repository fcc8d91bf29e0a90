"""Smaller LiteRT models: near the float one, quantized where they should be, and foretold by fake quantization."""

import platform

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from export.contract.images import Images
from export.contract.keras_source import keras_predictions
from export.contract.parity import measure, runtime_predictions
from export.conversion.quantize_litert import LITERT_ARTIFACTS, allow_float16, quantize_groups, read
from export.conversion.to_litert import to_litert
from keras_realmnet import RealMNet
from keras_realmnet.deploy.quantization import SCHEMES, fake_quantize, quantize_activations, quantize_weights
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM

PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides the tensors of what it takes over
POINT = OperatingPoint(thresholds=dict.fromkeys(PSMM.pathologic, 0.5), chosen="for this test")
TASK = labels_task(PSMM, "uwf_red_green", POINT)


def test_int8_model_stays_near(litert_models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    received = runtime_predictions(LiteRTRuntime(litert_models["int8"], threads=1), pictures)
    found = measure(expected, received, TASK, Images(pictures, "noise"))
    # Untrained weights on noise are harder on int8 than what the limits are for.
    assert 1e-6 < found["mean_probability"] < 0.02


def test_float16_model_stays_within_its_limits(litert_models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    received = runtime_predictions(LiteRTRuntime(litert_models["float16"], threads=1), pictures)
    found = measure(expected, received, TASK, Images(pictures, "noise"))
    assert found.violations("float16") == []
    assert found["max_probability"] > 1e-6  # it is another model


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_float16_is_allowed_by_a_line_of_metadata_alone(litert_models, pictures, tmp_path, name):
    path = allow_float16(litert_models[name], tmp_path / "arm.tflite")
    before, after = read(litert_models[name]), read(path)
    (added,) = after.metadata[len(before.metadata or []) :]
    assert (added.name, bytes(after.buffers[added.buffer].data)) == (b"reduced_precision_support", b"fp16accfp16")
    assert [entry.name for entry in after.metadata[:-1]] == [entry.name for entry in before.metadata or []]
    if platform.machine() == "x86_64":  # elsewhere the processor may follow it
        expected, received = (LiteRTRuntime(file, threads=1).predict(pictures) for file in (litert_models[name], path))
        for output in expected:
            np.testing.assert_array_equal(received[output], expected[output])


def test_smaller_weights_make_the_file_smaller(litert_models):
    size = {name: path.stat().st_size for name, path in litert_models.items()}
    assert size["int8"] < size["float16"] < 0.6 * size["float32"]


def test_int8_covers_the_backbone_and_spares_the_head(opened, litert_models):
    interpreter = opened(litert_models["int8"])
    kinds = {}
    for operation in interpreter._get_ops_details():
        if operation["op_name"] == "FULLY_CONNECTED":
            output = interpreter._get_tensor_details(operation["outputs"][0], 0)["name"]
            weights = interpreter._get_tensor_details(operation["inputs"][1], 0)
            kinds.setdefault("stages_" in output, []).append(weights["dtype"])
    assert kinds[True] == [np.int8] * 24  # query, key, value, proj, fc1 and fc2 of four blocks
    assert set(kinds[False]) == {np.float32}


def test_static_int8_needs_calibration_images(litert_models, tmp_path):
    with pytest.raises(ValueError, match="needs calibration images"):
        LITERT_ARTIFACTS["int8_static"](litert_models["float32"], tmp_path / "static.tflite")


def test_kinds_of_int8(opened, litert_models):
    """How many dense layers and convolutions have int8 weights, and how many of them give int8."""
    found = {}
    for name in ("int8", "int8_static", "int8_mixed", "int8_pointwise"):
        interpreter = opened(litert_models[name])
        kinds = found[name] = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "static": 0}
        for operation in interpreter._get_ops_details():
            if operation["op_name"] in kinds:
                weights, output = operation["inputs"][1], operation["outputs"][0]
                if interpreter._get_tensor_details(weights, 0)["dtype"] == np.int8:
                    kinds[operation["op_name"]] += 1
                    kinds["static"] += interpreter._get_tensor_details(output, 0)["dtype"] == np.int8
    dense, stage_0, downsamplings = 24, 2, 6
    assert found == {
        "int8": {"FULLY_CONNECTED": dense, "CONV_2D": 0, "static": 0},
        "int8_static": {"FULLY_CONNECTED": dense, "CONV_2D": 0, "static": dense - 4},  # but the four fc2
        "int8_mixed": {"FULLY_CONNECTED": dense, "CONV_2D": stage_0, "static": 0},
        "int8_pointwise": {"FULLY_CONNECTED": dense, "CONV_2D": stage_0 + downsamplings, "static": 0},
    }


def test_dead_channels_have_scales_and_keep_their_biases(dying_model, pictures, tmp_path):
    whole = to_litert(dying_model, tmp_path / "float32.tflite")
    expected = LiteRTRuntime(whole).predict(pictures)["probabilities"]
    for name, make in LITERT_ARTIFACTS.items():
        path = make(whole, tmp_path / f"{name}.tflite", pictures)
        assert np.abs(LiteRTRuntime(path).predict(pictures)["probabilities"] - expected).mean() < 0.03, name
        interpreter = Interpreter(str(path), experimental_op_resolver_type=PLAIN)
        for tensor in interpreter.get_tensor_details():
            scales = tensor["quantization_parameters"]["scales"]
            assert (scales >= np.finfo("float32").tiny).all()
            if len(scales) and tensor["dtype"] == np.int32:
                assert np.abs(interpreter.get_tensor(tensor["index"]).astype("int64")).max() < 2**31 - 1


def test_a_network_without_the_layers_of_a_group_is_refused(tmp_path):
    inputs = keras.Input((6, 8, 48), batch_size=1, name="images")
    model = keras.Model(inputs, keras.ops.negative(keras.layers.Dense(32, name="another")(inputs)))
    model.export(tmp_path / "float.tflite", format="litert", verbose=False)
    with pytest.raises(
        RealMNetError, match=r"float\.tflite: nothing to quantize: no FULLY_CONNECTED is called mlp_fc1"
    ):
        quantize_groups(tmp_path / "float.tflite", tmp_path / "int8.tflite", ["mlp fc1"])


LAYERS = {
    "mlp fc1": keras.layers.Dense(32, name="stages_1_blocks_0_mlp_fc1"),
    "stage 0 pointwise": keras.layers.Conv2D(32, 1, name="stages_0_blocks_0_conv1_conv"),
}


@pytest.mark.parametrize("group", LAYERS)
def test_fake_quantization_of_a_layer_is_what_litert_computes(opened, tmp_path, group):
    """To the last digits: what is added up are integers, and only the scales are floats."""
    rng = np.random.default_rng(0)
    layer = LAYERS[group]
    inputs = keras.Input((6, 8, 48), batch_size=1, name="images")
    model = keras.Model(inputs, keras.ops.negative(layer(inputs)))  # a layer right before the output loses its name
    kernel = (rng.normal(size=layer.kernel.shape) * np.logspace(-2, 1, 32)).astype("float32")
    layer.set_weights([kernel, rng.normal(size=32)])
    model.export(tmp_path / "float.tflite", format="litert", verbose=False)
    runner = opened(
        quantize_groups(tmp_path / "float.tflite", tmp_path / "int8.tflite", [group])
    ).get_signature_runner()

    x = (rng.normal(0.4, 1, (1, 6, 8, 48)) * np.logspace(-2, 2, 8)[:, None]).astype("float32")  # a scale per position
    (received,) = runner(images=x).values()
    quantized = np.asarray(quantize_activations(x)), np.asarray(quantize_weights(kernel.reshape(48, 32)))
    expected = -(quantized[0] @ quantized[1] + np.asarray(layer.bias))
    size = np.abs(expected).max(axis=(0, 1, 3), keepdims=True)
    np.testing.assert_array_less(np.abs(received - expected) / size, 2e-6)
    assert (np.abs(model(x) - expected) / size).max() > 1e-3  # rounding is felt


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fake_quantization_of_the_network_is_what_the_artifact_computes(litert_models, small_model, pictures, scheme):
    """Keras with fake quantization in the training model against LiteRT's int8 kernels in the deploy graph.

    Equal to float accuracy for most pictures. In the others some value lies so near the middle of two levels that the
    two, whose floats differ in the last digit, round it differently; later layers then round further values
    differently, and the result differs by a part of what int8 itself changes. Of 60 such pictures 52, 44 and 44 were
    equal, and the mean difference over all was .08, .16 and .16 of int8's.
    """
    float_model = keras_predictions(small_model, pictures)["probabilities"]
    artifact = LiteRTRuntime(litert_models[scheme], threads=1).predict(pictures)["probabilities"]
    fake = fake_quantize(RealMNet.from_config(small_model.get_config()), scheme)
    fake.set_weights(small_model.get_weights())
    difference = np.abs(keras_predictions(fake, pictures)["probabilities"] - artifact)
    by_int8 = np.abs(float_model - artifact)
    assert by_int8.max(axis=1).min() > 1e-3
    assert (difference.max(axis=1) < 1e-5).mean() >= 0.5
    assert difference.mean() < 0.5 * by_int8.mean()
