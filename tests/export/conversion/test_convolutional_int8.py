"""Static int8 of convolutional networks: integers between the pixels and what decides, and near the float network."""

import cv2
import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

from export.conversion.artifacts import CONVOLUTIONAL_ARTIFACTS, ArtifactMaker, is_convolutional, needs_calibration
from export.conversion.body import body_of
from export.conversion.quantize_litert import read
from export.conversion.quantize_litert_convolutions import with_corrected_biases
from export.conversion.quantize_onnx_convolutions import to_onnx_int8_convolutional
from export.conversion.to_onnx import to_onnx
from export.conversion.to_tensorrt import tensorrt_violations
from keras_realmnet import ResidualAttentionHead
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.encoders.inverted_residuals import InvertedResiduals, Stage, inverted_residuals
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.screening.engines.registry import ENGINES

PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # a delegate hides the tensors of what it takes over
DEPLOYMENT = {
    "activations": {"probabilities": "sigmoid"},
    "class_maps": {"class_maps": "probabilities"},
    "features": {"features": "probabilities"},
}
NAMES = [name for name in CONVOLUTIONAL_ARTIFACTS if name != "int8-masks"]  # see test_int8_masks.py
SMALL = InvertedResiduals((Stage(1, 8, 1, 2), Stage(4, 16, 2, 2), Stage(4, 24, 2, 2)), epsilon=1e-3, same=True, stem=16)


def randomized(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "kernel" in weight.name and not weight.path.startswith("head"):
            fan_in = np.prod(weight.shape[:2]) if "depthwise" in weight.name else np.prod(weight.shape[:-1])
            weight.assign(rng.normal(0, (2 / fan_in) ** 0.5, weight.shape))
        else:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


@pytest.fixture(scope="module")
def classifier(pictures):
    """EfficientNet-Lite0's layers with a head, small, and with a convolution of which a channel is dead."""
    keras.utils.set_random_seed(1)
    images = keras.Input((64, 64, 3), name="images")
    scaled = layers.Normalization(mean=(127.0,) * 3, variance=(128.0**2,) * 3, name="scaling")(images)
    x = inverted_residuals(scaled, SMALL)[-1]
    model = keras.Model(images, {"probabilities": ResidualAttentionHead(5, name="head")(x)}, name="small")
    model = randomized(model)
    norm = model.get_layer("block2_expand_norm")
    gamma, beta, *moments = norm.get_weights()
    gamma[3], beta[3] = 1e-12, 0.3
    norm.set_weights([gamma, beta, *moments])
    last = model.get_layer("block4_project_conv").output  # its real moments: so the probabilities differ by picture
    values = keras.Model(images, last)(pictures.astype("float32")).numpy()
    moments = [values.mean((0, 1, 2)), values.var((0, 1, 2))]
    model.get_layer("block4_project_norm").set_weights([np.full(24, 3.0), np.zeros(24), *moments])
    return model


@pytest.fixture(scope="module")
def pictures():
    """uint8 (12, 64, 64, 3): squares of their own brightness in each."""
    rng = np.random.default_rng(1)
    squares = rng.integers(0, 256, (12, 4, 4, 3)) * rng.uniform(0.2, 1, (12, 1, 1, 1))
    return squares.repeat(16, axis=1).repeat(16, axis=2).astype("uint8")


@pytest.fixture(scope="module")
def made(classifier, pictures, tmp_path_factory):
    """The classifier as every artifact: sources by name."""
    maker = ArtifactMaker(classifier, tmp_path_factory.mktemp("artifacts"), pictures, **DEPLOYMENT)
    return {name: maker.make(name) for name in NAMES}


def test_a_convolutional_network_has_artifacts_of_its_own(made, classifier, small_model, tmp_path):
    assert is_convolutional(classifier)
    assert not is_convolutional(small_model)
    assert {name: needs_calibration(name, convolutional=True) for name in CONVOLUTIONAL_ARTIFACTS} == {
        **dict.fromkeys(("float32", "float16", "float16-arm"), False),
        **dict.fromkeys(("onnx-float32", "onnx-float32-gpu", "onnx-float16-gpu"), False),
        **dict.fromkeys(("int8", "int8-masks", "onnx-int8", "onnx-int8-gpu"), True),
    }
    maker = ArtifactMaker(classifier, tmp_path, None, **DEPLOYMENT)
    with pytest.raises(RealMNetError, match="an artifact of a convolutional network must be one of float32, float16, "):
        maker.make("int8_mixed")
    for name in ("int8", "onnx-int8"):
        with pytest.raises(ValueError, match="static int8 needs calibration images"):
            maker.make(name)


# Untrained weights on noise, which is harder on int8 than what a bundle's limits are for; |Δ probability|, its mean.
LIMITS = {"float32": 1e-5, "float16": 2e-3, "int8": 0.03}


@pytest.mark.parametrize("name", NAMES)
def test_each_artifact_opens_as_the_box_opens_it_and_stays_near(made, classifier, pictures, name, request):
    feature_map = keras.Model(classifier.input, classifier.get_layer("head").input)(pictures.astype("float32"))
    expected = {
        "probabilities": keras.ops.sigmoid(classifier.get_layer("head")(feature_map)).numpy(),
        "class_maps": classifier.get_layer("head").class_maps(feature_map).numpy(),
    }
    assert np.ptp(expected["probabilities"], axis=0).max() > 0.1
    if name == "onnx-int8-gpu":
        request.getfixturevalue("onnx_runtime_adds_bytes_exactly")
    received = ENGINES[made[name].engine](made[name].path).predict(pictures)
    difference = np.abs(received["probabilities"] - expected["probabilities"])
    kind = made[name].precision.split("_")[0]
    assert difference.mean() < LIMITS[kind]
    assert (difference.max() > 1e-5) == (kind != "float32")  # it is another model
    correlation = np.corrcoef(received["class_maps"].ravel(), expected["class_maps"].ravel())[0, 1]
    assert correlation > (0.98 if kind == "int8" else 0.9999)


def test_smaller_weights_make_the_file_smaller(made):
    size = {name: source.path.stat().st_size for name, source in made.items()}
    assert max(size["int8"], size["float16"]) < 0.75 * size["float32"]


def test_litert_computes_in_integers_between_the_pixels_and_the_head(made):
    interpreter = Interpreter(str(made["int8"].path), experimental_op_resolver_type=PLAIN)
    interpreter.allocate_tensors()
    kinds = {}
    for operation in interpreter._get_ops_details():
        output = interpreter._get_tensor_details(operation["outputs"][0], 0)
        place = "head" if "head" in output["name"] else "scaling" if "scaling" in output["name"] else "body"
        kinds.setdefault((operation["op_name"], place), set()).add(output["dtype"])
    assert {kinds[operation, "body"].pop() for operation in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD")} == {np.int8}
    assert all(found == {np.float32} for (_, place), found in kinds.items() if place == "head")
    assert kinds["MUL", "scaling"] == {np.float32}
    floats = [detail["dtype"] for detail in (*interpreter.get_input_details(), *interpreter.get_output_details())]
    assert set(floats) == {np.float32}
    for tensor in interpreter.get_tensor_details():
        scales = tensor["quantization_parameters"]["scales"]
        assert (scales >= np.finfo("float32").tiny).all()


def test_xnnpack_runs_it_as_a_whole(opened, made):
    names = [operation["op_name"] for operation in opened(made["int8"].path)._get_ops_details()]
    assert names.count("DELEGATE") == 1


def test_onnx_quantizes_every_convolution_and_nothing_of_the_head(made):
    for name, kind in (("onnx-int8", onnx.TensorProto.UINT8), ("onnx-int8-gpu", onnx.TensorProto.INT8)):
        graph = onnx.load(made[name].path).graph
        makers = {output: node.op_type for node in graph.node for output in node.output}
        for node in graph.node:
            quantized = [makers.get(tensor) == "DequantizeLinear" for tensor in node.input[:2]]
            if node.op_type == "Conv":
                assert quantized == [True, True]
            if node.op_type == "MatMul":
                assert not quantized[1]
        kinds = {c.name: c.data_type for c in graph.initializer}
        zero_points = {kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
        assert zero_points == {kind}
    assert tensorrt_violations(onnx.load(made["onnx-int8-gpu"].path)) == []


def test_a_decoder_in_int8(tmp_path):
    """Transposed and dilated convolutions, pools, skips, squeeze-and-excitation, resizing; the last layer is float."""
    images = keras.Input((32, 32, 3), name="images")
    x = first = layers.Conv2D(8, 3, padding="same", activation="relu6")(layers.Rescaling(1 / 255)(images))
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(layers.MaxPooling2D()(x))
    squeezed = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.AveragePooling2D(2, 1, "same")(layers.Multiply()([x, squeezed]))
    x = layers.Conv2DTranspose(8, 4, 2, "same")(layers.LeakyReLU()(x))
    wide = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(4, 3, 2, "same")(first))
    x = layers.Concatenate()([layers.ZeroPadding2D(1)(x), layers.ZeroPadding2D(1)(wide)])
    model = randomized(keras.Model(images, {"disc": layers.Conv2D(3, 3, name="disc")(x)}, name="decoder"))
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (8, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2).astype("uint8")
    maker = ArtifactMaker(model, tmp_path, pictures, activations={"disc": "softmax"})
    expected = keras.ops.softmax(model(pictures[:1].astype("float32"))["disc"]).numpy()
    assert np.ptp(expected) > 0.3
    runner = Interpreter(str(maker.make("int8").path)).get_signature_runner()
    received = {"litert": runner(images=pictures[:1].astype("float32"))["disc"]}
    session = onnxruntime.InferenceSession(str(maker.make("onnx-int8").path))
    (received["onnx"],) = session.run(None, {"images": pictures[:1].astype("float32")})
    for engine, disc in received.items():
        difference = np.abs(disc - expected)
        assert 1e-5 < difference.mean() < 0.02, engine
    assert maker.make("float16").path.stat().st_size < maker.make("float32").path.stat().st_size


def test_the_body_by_hand():
    #          0 scale, 1 conv, 2 relu, 3 conv, 4 add(2, 3), 5 dense, 6 softmax; 7 pool of 4
    sources = [[], [0], [1], [2], [2, 3], [4], [5], [4]]
    weighted = [False, True, False, True, False, True, False, False]
    assert body_of(sources, weighted) == [1, 2, 3, 4]
    assert body_of([[], [0], [1]], [False, True, False]) == []  # one convolution, which decides


def test_what_cannot_be_quantized_is_refused(pictures, tmp_path, classifier):
    images = keras.Input((64, 64, 3), name="images")
    one = keras.Model(images, {"y": layers.Conv2D(2, 3)(images)}, name="one")
    maker = ArtifactMaker(one, tmp_path, pictures, activations={"y": None})
    for name in ("int8", "onnx-int8"):
        with pytest.raises(RealMNetError, match="nothing to quantize: no convolution before the layer that decides"):
            maker.make(name)
    newest = to_onnx(classifier, tmp_path / "newest.onnx", **DEPLOYMENT)
    with pytest.raises(RealMNetError, match=r"newest\.onnx: opset 21 or older expected\. Received: 23"):
        to_onnx_int8_convolutional(newest, tmp_path / "no.onnx", pictures)
    with pytest.raises(ValueError, match=r"target must be one of onnxruntime, tensorrt\. Received: 'openvino'"):
        to_onnx_int8_convolutional(newest, tmp_path / "no.onnx", pictures, target="openvino")


@pytest.mark.long
def test_imagenet_features_of_fundus_photographs_stay_near(shared, tmp_path):
    """Of EfficientNet-Lite0 with its ImageNet weights, calibrated on 32 of PALM's photographs, measured on 32 others.

    Measured with 64 and 64: cosine of the features to the float network's .987 in the mean, .972 at least, in LiteRT
    and ONNX Runtime alike, .986 and .972 with symmetric activations.
    """

    def files(part):
        return sorted((shared / "fundus/palm224" / part).glob("*.jpg"))

    photographs = {
        part: np.stack([cv2.imread(str(file))[..., ::-1] for file in files(part)[:32]]) for part in ("train", "val")
    }
    encoder = Encoder("efficientnet_lite0", 224, {"top": True}, load_weights="imagenet")
    logits = ResidualAttentionHead(7, name="head")(encoder.outputs[-1])
    model = keras.Model(encoder.input, {"probabilities": logits}, name="edge")
    maker = ArtifactMaker(model, tmp_path, photographs["train"], **DEPLOYMENT)
    expected = encoder(photographs["val"].astype("float32"))[-1].numpy().mean((1, 2))
    runner = Interpreter(str(maker.make("int8").path)).get_signature_runner()
    session = onnxruntime.InferenceSession(str(maker.make("onnx-int8").path))
    pixels = [{"images": picture[None].astype("float32")} for picture in photographs["val"]]
    for received in (
        np.concatenate([runner(**images)["features"] for images in pixels]),
        np.concatenate([session.run(["features"], images)[0] for images in pixels]),
    ):
        cosine = (received * expected).sum(1) / np.linalg.norm(received, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.mean() > 0.98
        assert cosine.min() > 0.95


def test_corrected_biases_make_up_for_the_rounding_of_weights(tmp_path):
    """Of two 1 × 1 convolutions each gives in the mean, with weights as int8 has them, what it gave before."""
    images = keras.Input((16, 16, 3), name="images")
    x = layers.Conv2D(8, 1, name="one")(images)
    x = layers.Conv2D(6, 1, name="two")(x)
    model = randomized(keras.Model(images, {"masks": layers.Conv2D(2, 1, name="last")(x)}, name="tiny"))
    float_model = ArtifactMaker(model, tmp_path, None, activations={"masks": None}).make("float32").path
    pictures = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)

    def convolutions(flatbuffer):
        """Of each its operation, weights (channels, inputs) and biases (channels,)."""
        (subgraph,) = flatbuffer.subgraphs
        for operation in (each for each in subgraph.operators if len(each.inputs) == 3):
            tensors = [subgraph.tensors[number] for number in operation.inputs[1:]]
            w, b = (np.frombuffer(bytes(flatbuffer.buffers[tensor.buffer].data), "<f4") for tensor in tensors)
            yield operation, w.reshape(len(b), -1), b

    operations = [operation for operation, _, _ in convolutions(read(float_model))]
    assert len(operations) == 3
    corrected = with_corrected_biases(float_model, tmp_path / "corrected.tflite", operations, pictures)
    mean = pictures.astype(np.float64).mean(axis=(0, 1, 2))
    both = zip(convolutions(read(float_model)), convolutions(read(corrected)), strict=True)
    for (_, weights, bias), (_, same, changed) in both:
        np.testing.assert_array_equal(weights, same)
        scale = np.abs(weights).max(axis=1, keepdims=True) / 127
        rounded = np.round(weights / scale) * scale
        before = weights @ mean + bias
        assert np.abs(rounded @ mean + bias - before).max() > 0.05
        np.testing.assert_allclose(rounded @ mean + changed, before, atol=2e-3)
        mean = before


def test_the_engine_of_the_box_opens_it(made, pictures):
    assert LiteRTRuntime(made["int8"].path).predict(pictures[:2])["class_maps"].shape == (2, 4, 4, 5)
