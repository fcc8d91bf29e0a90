"""ONNX models compute what Keras computes, whole and in standard operations."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.conversion.to_onnx import OPSET, PORTABLE_OPSET, graph_to_onnx, to_onnx, to_onnx_by_tf2onnx
from keras_realmnet import LinearHead, RealMNet, TinyViTBackbone
from keras_realmnet.deploy.layers import erf_gelu
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.layers.heads import ClassMaps, ResidualAttentionHead
from keras_realmnet.screening.bundle.writing import ArtifactSource

OUTPUTS = ["probabilities", "class_maps", "features"]


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(OUTPUTS, {"images": images.astype("float32")}), strict=True))


def expected(model, images):
    images = images.astype("float32")
    outputs = {name: value.numpy() for name, value in model.inference_model()(images).items()}
    features = keras.Model(model.input, model.feature_map)(images).numpy().mean((1, 2))
    return {**outputs, "features": features}


def assert_equal(received, wanted, tolerance=1e-4):
    for name, value in wanted.items():
        scale = max(1.0, np.abs(value).max())
        assert np.abs(received[name] - value).max() <= tolerance * scale, name


def operations(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def padded_model():
    """Windows that do not divide the maps, and the other head."""
    keras.utils.set_random_seed(3)
    backbone = TinyViTBackbone(
        64, (16, 32, 32, 32), (1, 1, 1, 1), (1, 1, 2, 2), window_sizes=(2, 3, 3, 2), name="backbone"
    )
    model = RealMNet(backbone, LinearHead(5, name="head"), name="padded")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "attention_biases", "kernel"):
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    return model


@pytest.mark.parametrize("opset", [OPSET, PORTABLE_OPSET["float32"]])
@pytest.mark.parametrize("network", ["small_model", "padded_model"])
def test_outputs_equal_keras(request, pictures, tmp_path, network, opset):
    model = request.getfixturevalue(network)
    wanted = expected(model, pictures[:1])
    assert np.ptp(wanted["class_maps"]) > 0
    assert_equal(run(to_onnx(model, tmp_path / "model.onnx", opset=opset), pictures[:1]), wanted)


def test_an_open_batch_takes_any_number_of_images(small_model, pictures, tmp_path):
    path = to_onnx(small_model, tmp_path / "model.onnx", batch_size=None)
    for count in (1, 3):
        assert_equal(run(path, pictures[:count]), expected(small_model, pictures[:count]))


def test_operations_are_those_of_the_standard_and_of_the_opset(small_model, tmp_path):
    newest = to_onnx(small_model, tmp_path / "newest.onnx")
    portable = to_onnx(small_model, tmp_path / "portable.onnx", opset=PORTABLE_OPSET["float32"])
    assert not any(node.domain for node in onnx.load(newest).graph.node)
    assert operations(newest).count("Attention") == 4
    assert "Attention" not in operations(portable)
    assert operations(portable).count("Softmax") == 4 + 1  # attention blocks and one of the two attention heads


def test_engine_keeps_layer_norm_whole_and_expands_the_attention_biases_when_it_opens_the_model(small_model, tmp_path):
    path = to_onnx(small_model, tmp_path / "model.onnx")
    tables = [c.dims for c in onnx.load(path).graph.initializer if c.name.endswith("attn_biases")]
    assert sorted(map(list, tables)) == [[1, 4], [2, 4], [2, 16], [2, 16]]  # (heads, offsets), not (heads, 16, 16)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimized = operations(tmp_path / "optimized.onnx")
    assert optimized.count("LayerNormalization") == operations(path).count("LayerNormalization") == 9
    assert "Gather" not in optimized


def test_float16_halves_the_file_and_spares_the_head(small_model, pictures, tmp_path):
    whole = to_onnx(small_model, tmp_path / "float32.onnx")
    path = to_onnx(small_model, tmp_path / "float16.onnx", opset=20, precision="float16")
    assert path.stat().st_size < 0.6 * whole.stat().st_size
    difference = np.abs(run(path, pictures[:1])["probabilities"] - expected(small_model, pictures[:1])["probabilities"])
    assert 0 < difference.max() < 5e-3
    kinds = {c.name: c.data_type for c in onnx.load(path).graph.initializer}
    assert {kinds[name] for name in kinds if name.startswith("head_") and name.endswith("kernel")} == {1}
    assert kinds["patch_embed_conv1_conv.kernel"] == onnx.TensorProto.FLOAT
    assert kinds["stages_2_blocks_0_mlp_fc1.kernel"] == onnx.TensorProto.FLOAT16


def test_bfloat16_is_valid_and_needs_a_newer_opset(small_model, tmp_path):
    path = to_onnx(small_model, tmp_path / "bfloat16.onnx", opset=PORTABLE_OPSET["bfloat16"], precision="bfloat16")
    kinds = {c.name: c.data_type for c in onnx.load(path).graph.initializer}
    assert kinds["stages_2_blocks_0_mlp_fc1.kernel"] == onnx.TensorProto.BFLOAT16
    with pytest.raises(ValueError, match=r"opset must be 22 to 23 in bfloat16\. Received: 20"):
        to_onnx(small_model, tmp_path / "no.onnx", opset=20, precision="bfloat16")
    with pytest.raises(ValueError, match="'int8'"):
        to_onnx(small_model, tmp_path / "no.onnx", precision="int8")


def test_the_command_writes_a_bundles_model(small_model, litert_models, write_small_bundle, pictures, tmp_path, capsys):
    small_model.save(tmp_path / "small.keras")
    artifacts = {"float32": ArtifactSource(litert_models["float32"], "float32", 1e-3)}
    write_small_bundle(tmp_path / "bundle", artifacts, tmp_path / "small.keras")
    arguments = ["onnx", str(tmp_path / "bundle"), "--out", str(tmp_path / "model.onnx")]
    assert main([*arguments, "--batch", "0"]) == 0
    assert "model.onnx: ONNX Runtime 1.23 or newer (opset 23)" in capsys.readouterr().out
    assert_equal(run(tmp_path / "model.onnx", pictures), expected(small_model, pictures))
    for refused, message in (
        (["--route", "keras"], "--route must be own or tf2onnx. Received: keras"),
        (["--route", "tf2onnx", "--precision", "float16"], "--opset and --precision are for the own route"),
        (["--opset", "17"], "opset must be 20 to 23 in float32. Received: 17"),
        (["--opset", "0"], "opset must be 20 to 23 in float32. Received: 0"),
        (["--opset", "99"], "opset must be 20 to 23 in float32. Received: 99"),
    ):
        assert main([*arguments, *refused]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "bundle" / "source.keras").unlink()
    assert main(arguments) == 2
    assert "source.keras: no such file; the Keras model is needed" in capsys.readouterr().err


def test_an_opset_that_is_none_is_refused_with_those_there_are(small_model, tmp_path):
    for opset in (OPSET + 1, 99, -1, "20", 20.5, None):
        with pytest.raises(ValueError, match=rf"opset must be 20 to {OPSET} in float32\. Received: {opset!r}"):
            to_onnx(small_model, tmp_path / "no.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tf2onnx_gives_the_same(small_model, pictures, tmp_path):
    path = to_onnx_by_tf2onnx(small_model, tmp_path / "model.onnx")
    assert_equal(run(path, pictures[:1]), expected(small_model, pictures[:1]))
    assert [entry.version for entry in onnx.load(path).opset_import if not entry.domain] == [18]


def a_graph(*stack):
    """A model of 8 x 8 pixels with these layers on top of each other, its output called as those of a network."""
    x = images = keras.Input((8, 8, 3), batch_size=1, name="images")
    for layer in stack:
        x = layer(x)
    return keras.Model(images, {"probabilities": x})


CONVOLUTIONS = {
    "valid": [keras.layers.Conv2D(4, 3, name="it")],
    "same": [keras.layers.Conv2D(4, (3, 5), padding="same", name="it")],
    "unlike paddings": [
        keras.layers.ZeroPadding2D(((1, 2), (0, 3)), name="pad"),
        keras.layers.DepthwiseConv2D(3, 2, name="it"),
    ],
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_paddings_that_are_known_are_computed(case, tmp_path):
    graph = a_graph(*CONVOLUTIONS[case], keras.layers.Activation(erf_gelu, name="act"))
    images = np.random.default_rng(0).normal(0, 1, (1, 8, 8, 3)).astype("float32")
    session = onnxruntime.InferenceSession(graph_to_onnx(graph).SerializeToString())
    (received,) = session.run(None, {"images": images})
    np.testing.assert_allclose(received, graph(images)["probabilities"].numpy(), atol=1e-5)


UNKNOWN = {
    "it: .*activation elu is not one of": [keras.layers.Activation("elu", name="it")],
    "it: .*activation <lambda>": [keras.layers.Activation(lambda x: keras.activations.gelu(x, True), name="it")],
    "it: .*Conv2D with activation relu": [keras.layers.Conv2D(4, 3, activation="relu", name="it")],
    "it: .*Dense with activation relu": [keras.layers.Dense(4, activation="relu", name="it")],
    "it: .*ReLU.*negative_slope, 0.1, together with a max_value, 6.0": [
        keras.layers.ReLU(max_value=6.0, negative_slope=0.1, name="it")
    ],
    "it: .*ReLU with threshold": [keras.layers.ReLU(threshold=0.1, name="it")],
    "it: .*Softmax.*one axis": [keras.layers.Softmax((1, 2), name="it")],
    "it: .*LayerNormalization with axis": [keras.layers.LayerNormalization((1, 2), name="it")],
    "it: .*UpSampling2D.*interpolation must be nearest or bilinear. Received: bicubic": [
        keras.layers.UpSampling2D(interpolation="bicubic", name="it")
    ],
    "it: .*Resizing with antialias": [keras.layers.Resizing(4, 4, antialias=True, name="it")],
    "it: .*Resizing with crop_to_aspect_ratio": [keras.layers.Resizing(4, 4, crop_to_aspect_ratio=True, name="it")],
    "it: .*UnitNormalization.*are known": [keras.layers.UnitNormalization(name="it")],
    "it: .*explanation": [ClassMaps(ResidualAttentionHead(7, name="head"), "grad_cam_plus_plus", name="it")],
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_is_not_known_stops_it_by_name(message):
    with pytest.raises(RealMNetError, match=message):
        graph_to_onnx(a_graph(*UNKNOWN[message]))


def test_a_convolution_with_its_own_call_is_another_layer():
    class Twice(keras.layers.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    with pytest.raises(RealMNetError, match=r"it: .*Twice"):
        graph_to_onnx(a_graph(Twice(4, 3, name="it")))


def test_two_operations_of_one_name_are_refused():
    images = keras.Input((8, 8, 3), batch_size=1, name="images")
    first = keras.layers.Conv2D(2, 1, name="conv")(images)  # transposes the images to "images_nchw"
    second = keras.layers.ReLU(name="images_nchw")(images)
    with pytest.raises(RealMNetError, match="images_nchw: two operations of the ONNX model would have this name"):
        graph_to_onnx(keras.Model(images, {"first": first, "second": second}))
