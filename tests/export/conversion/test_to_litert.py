import keras
import numpy as np

from export.contract.images import Images
from export.contract.keras_source import keras_predictions
from export.contract.parity import measure, runtime_predictions
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM

POINT = OperatingPoint(thresholds=dict.fromkeys(PSMM.pathologic, 0.5), chosen="for this test")
TASK = labels_task(PSMM, "uwf_red_green", POINT)


def test_float_model_equals_keras(litert_models, small_model, pictures):
    expected = keras_predictions(small_model, pictures)
    assert np.ptp(expected["probabilities"], axis=0).max() > 0.02  # the images differ, or nothing would be tested
    received = runtime_predictions(LiteRTRuntime(litert_models["float32"], threads=1), pictures)
    found = measure(expected, received, TASK, Images(pictures, "noise"))
    assert found.violations("float32") == []


def test_all_of_the_model_runs_in_one_call_of_xnnpack(opened, litert_models):
    for path in litert_models.values():
        interpreter = opened(path)
        names = [operation["op_name"] for operation in interpreter._get_ops_details()]
        assert not {name for name in names if name.startswith(("Flex", "CUSTOM"))}
        assert names.count("DELEGATE") == 1
        once = ("DELEGATE", "DEQUANTIZE", "GATHER", "QUANTIZE")  # or, in static int8, between float and int8
        assert len([name for name in names if name not in once]) <= 258  # four blocks with attention
        assert names.count("GELU") == 14  # none is spelled out
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [1, 64, 64, 3]


def test_features_are_the_pooled_map(opened, litert_models, small_model, pictures):
    (picture,) = pictures[:1].astype("float32")
    runner = opened(litert_models["float32"]).get_signature_runner()
    features = keras.Model(small_model.input, small_model.feature_map)(picture[None]).numpy().mean((1, 2))
    np.testing.assert_allclose(runner(images=picture[None])["features"], features, atol=1e-5)


def test_attention_biases_are_small_tables_that_are_expanded_when_the_model_is_opened(
    opened, litert_models, small_model
):
    interpreter = opened(litert_models["float32"])  # not run yet
    gathers = [operation for operation in interpreter._get_ops_details() if operation["op_name"] == "GATHER"]
    expanded = {interpreter._get_tensor_details(g["outputs"][0], 0)["name"]: g["outputs"][0] for g in gathers}
    attention = [layer for layer in small_model.backbone.layers if isinstance(layer, WindowAttention)]
    assert len(expanded) == len(attention) == 4
    for layer in attention:
        (tensor,) = (number for name, number in expanded.items() if layer.name in name)
        biases = layer.attention_biases.numpy()[:, layer.bias_index]
        np.testing.assert_array_equal(interpreter.get_tensor(tensor).reshape(biases.shape), biases)
