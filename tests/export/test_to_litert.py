import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.parity import LIMITS, keras_predictions, measure, runtime_predictions
from export.to_litert import to_litert, to_litert_int8
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PSMM
from keras_realmnet.screening.runtimes import LiteRTRuntime

POINT = OperatingPoint(thresholds=dict.fromkeys(PSMM.pathologic, 0.5), chosen="for this test")


@pytest.fixture(scope="module")
def models(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("litert")
    float32 = to_litert(small_model, folder / "float32.tflite")
    return {"float32": float32, "int8": to_litert_int8(float32, folder / "int8.tflite")}


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


def test_only_built_in_operations_and_a_static_batch(models):
    for path in models.values():
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        names = {operation["op_name"] for operation in interpreter._get_ops_details()}
        assert not {name for name in names if name.startswith(("Flex", "CUSTOM"))}
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [1, 64, 64, 3]


def test_int8_weights_make_the_file_smaller(models):
    assert models["int8"].stat().st_size < 0.75 * models["float32"].stat().st_size


def test_int8_covers_the_backbone_and_spares_the_head(models):
    interpreter = Interpreter(str(models["int8"]))
    kinds = {}
    for operation in interpreter._get_ops_details():
        if operation["op_name"] == "FULLY_CONNECTED":
            output = interpreter._get_tensor_details(operation["outputs"][0], 0)["name"]
            weights = interpreter._get_tensor_details(operation["inputs"][1], 0)
            kinds.setdefault("backbone" in output, []).append(weights["dtype"])
    assert kinds[True] == [np.int8] * 16  # qkv, proj, fc1 and fc2 of four blocks
    assert set(kinds[False]) == {np.float32}
