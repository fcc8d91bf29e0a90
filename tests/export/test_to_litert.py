import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.parity import LIMITS, keras_predictions, measure, runtime_predictions
from export.quantize_litert import LITERT_ARTIFACTS
from export.to_litert import to_litert
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PSMM
from keras_realmnet.screening.runtimes import LiteRTRuntime

POINT = OperatingPoint(thresholds=dict.fromkeys(PSMM.pathologic, 0.5), chosen="for this test")


@pytest.fixture(scope="module")
def models(tmp_path_factory, small_model, pictures):
    folder = tmp_path_factory.mktemp("litert")
    float32 = to_litert(small_model, folder / "float32.tflite")
    smaller = {name: make(float32, folder / f"{name}.tflite", pictures) for name, make in LITERT_ARTIFACTS.items()}
    return {"float32": float32, **smaller}


def opened(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def test_float_model_equals_keras(models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    assert np.ptp(expected.probabilities, axis=0).max() > 0.02  # the images differ, or nothing would be tested
    received = runtime_predictions(LiteRTRuntime(models["float32"], threads=1), pictures)
    found = measure(expected, received, PSMM, POINT)
    assert found.violations(LIMITS["float32"]) == []


def test_int8_model_stays_near(models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    received = runtime_predictions(LiteRTRuntime(models["int8"], threads=1), pictures)
    found = measure(expected, received, PSMM, POINT)
    # Untrained weights on noise are harder on int8 than what LIMITS are for.
    assert 1e-6 < found.mean_probability < 0.02


def test_float16_model_stays_within_its_limits(models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    received = runtime_predictions(LiteRTRuntime(models["float16"], threads=1), pictures)
    found = measure(expected, received, PSMM, POINT)
    assert found.violations(LIMITS["float16"]) == []
    assert found.max_probability > 1e-6  # it is another model


def test_all_of_the_model_runs_in_one_call_of_xnnpack(models):
    for path in models.values():
        interpreter = opened(path)
        names = [operation["op_name"] for operation in interpreter._get_ops_details()]
        assert not {name for name in names if name.startswith(("Flex", "CUSTOM"))}
        assert names.count("DELEGATE") == 1
        once = ("DELEGATE", "DEQUANTIZE", "GATHER", "QUANTIZE")  # or, in static int8, between float and int8
        assert len([name for name in names if name not in once]) <= 258  # four blocks with attention
        assert names.count("GELU") == 14  # none is spelled out
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [1, 64, 64, 3]


def test_features_are_the_pooled_map(models, small_model, pictures):
    (picture,) = pictures[:1].astype("float32")
    runner = opened(models["float32"]).get_signature_runner()
    features = keras.Model(small_model.input, small_model.feature_map)(picture[None]).numpy().mean((1, 2))
    np.testing.assert_allclose(runner(images=picture[None])["features"], features, atol=1e-5)


def test_attention_biases_are_small_tables_that_are_expanded_when_the_model_is_opened(models, small_model):
    interpreter = opened(models["float32"])  # not run yet
    gathers = [operation for operation in interpreter._get_ops_details() if operation["op_name"] == "GATHER"]
    expanded = {interpreter._get_tensor_details(g["outputs"][0], 0)["name"]: g["outputs"][0] for g in gathers}
    attention = [layer for layer in small_model.backbone.layers if isinstance(layer, WindowAttention)]
    assert len(expanded) == len(attention) == 4
    for layer in attention:
        (tensor,) = (number for name, number in expanded.items() if layer.name in name)
        biases = layer.attention_biases.numpy()[:, layer.bias_index]
        np.testing.assert_array_equal(interpreter.get_tensor(tensor).reshape(biases.shape), biases)


def test_smaller_weights_make_the_file_smaller(models):
    size = {name: path.stat().st_size for name, path in models.items()}
    assert size["int8"] < size["float16"] < 0.6 * size["float32"]


def test_int8_covers_the_backbone_and_spares_the_head(models):
    interpreter = opened(models["int8"])
    kinds = {}
    for operation in interpreter._get_ops_details():
        if operation["op_name"] == "FULLY_CONNECTED":
            output = interpreter._get_tensor_details(operation["outputs"][0], 0)["name"]
            weights = interpreter._get_tensor_details(operation["inputs"][1], 0)
            kinds.setdefault("stages_" in output, []).append(weights["dtype"])
    assert kinds[True] == [np.int8] * 24  # query, key, value, proj, fc1 and fc2 of four blocks
    assert set(kinds[False]) == {np.float32}


def test_static_int8_needs_calibration_images(models, tmp_path):
    with pytest.raises(ValueError, match="needs calibration images"):
        LITERT_ARTIFACTS["int8_static"](models["float32"], tmp_path / "static.tflite")


def test_kinds_of_int8(models):
    """How many dense layers and convolutions have int8 weights, and how many of them give int8."""
    found = {}
    for name in ("int8", "int8_static", "int8_mixed", "int8_pointwise"):
        interpreter = opened(models[name])
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
