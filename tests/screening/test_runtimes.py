"""Engines behind `predict`: values against a NumPy computation of the same network, refusals, the self-check."""

import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.document import signed
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts
from keras_realmnet.screening.engines.base import EngineRuntime, available_threads
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.screening.engines.registry import ENGINES
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.vocabulary import PSMM


def tiny_network(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network of tiny_bundle.py in NumPy: mean colour of 8 x 8 cells, two linear labels, maximum, sigmoid."""
    cells = images.reshape(len(images), 8, 8, 8, 8, 3).mean(axis=(2, 4), dtype=np.float64) / 255
    maps = np.full((len(images), 8, 8, 7), -3.0)
    maps[..., PSMM.codes.index("A3")] = 20 * cells[..., 1] - 14
    maps[..., PSMM.codes.index("S1")] = 20 * cells[..., 0] - 18
    return 1 / (1 + np.exp(-maps.max(axis=(1, 2)))), maps


def tiny_onnx(path: Path, batch: int | str = 1, element_type: int = TensorProto.FLOAT, scale: float = 1) -> Path:
    """The network of tiny_bundle.py as ONNX; the class maps are `scale` times as large."""
    kernel, bias = np.zeros((7, 3, 1, 1), np.float32), np.full(7, -3, np.float32)
    for code, channel, slope, offset in (("A3", 1, 20, -14), ("S1", 0, 20, -18)):
        kernel[PSMM.codes.index(code), channel] = slope / 255
        bias[PSMM.codes.index(code)] = offset
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["nchw"], perm=(0, 3, 1, 2)),
        helper.make_node("AveragePool", ["nchw"], ["cells"], kernel_shape=(8, 8), strides=(8, 8)),
        helper.make_node("Conv", ["cells", "kernel", "bias"], ["maps"]),
        helper.make_node("Transpose", ["maps"], ["class_maps"], perm=(0, 2, 3, 1)),
        helper.make_node("ReduceMax", ["class_maps", "axes"], ["logits"], keepdims=0),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    with np.errstate(invalid="ignore"):  # 0 times infinity is no number, which is what some tests want
        constants = {"kernel": kernel * scale, "bias": bias * scale, "axes": np.array([1, 2])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", element_type, [batch, 64, 64, 3])],
        [
            helper.make_tensor_value_info("class_maps", TensorProto.FLOAT, [batch, 8, 8, 7]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 7]),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.mark.parametrize("batch", [1, 2, "any"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_onnx_predictions_match_numpy(tmp_path, engine, batch):
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    path = tiny_onnx(tmp_path / "tiny.onnx", batch)
    for model in (path, path.read_bytes()):
        runtime = ENGINES[engine](model, threads=1)
        assert runtime.input_shape == (None if batch == "any" else batch, 64, 64, 3)
        prediction = runtime.predict(images)
        probabilities, class_maps = tiny_network(images)
        assert prediction["probabilities"].dtype == prediction["class_maps"].dtype == np.float32
        np.testing.assert_allclose(prediction["probabilities"], probabilities, atol=1e-5)
        np.testing.assert_allclose(prediction["class_maps"], class_maps, atol=1e-4)
        again = runtime.predict(images[:1])
        assert len(again["probabilities"]) == 1
        np.testing.assert_allclose(prediction["probabilities"], probabilities, atol=1e-5)  # not overwritten


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_bad_onnx_models_are_refused(tmp_path, engine):
    (tmp_path / "bad.onnx").write_bytes(b"no model" * 9)
    with pytest.raises(BundleMismatch, match=r"bad\.onnx: .* cannot open"):
        ENGINES[engine](tmp_path / "bad.onnx")
    with pytest.raises(BundleMismatch, match=r"absent\.onnx: no such file"):
        ENGINES[engine](tmp_path / "absent.onnx")
    with pytest.raises(BundleMismatch, match="expected one float32 input"):
        ENGINES[engine](tiny_onnx(tmp_path / "double.onnx", element_type=TensorProto.DOUBLE))


def test_an_onnx_artifact_joins_a_bundle_and_opens_in_either_engine(tiny_bundle, tmp_path):
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    model = tiny_onnx(tmp_path / "tiny.onnx")
    bundle = add_artifacts(Bundle.load(directory), {"onnx": ArtifactSource(model, "float32", 1e-3, "onnxruntime")})
    assert list(bundle.artifacts) == ["float32", "second", "onnx"]
    assert bundle.artifact("onnx").file == "onnx.onnx"
    for engine in (None, "openvino"):
        self_check(bundle, open_runtime(bundle, "onnx", engine=engine), "onnx")
    self_check(bundle, open_runtime(bundle))
    with pytest.raises(RealMNetError, match=r"'litert' opens \.tflite files; this one is for 'onnxruntime'"):
        open_runtime(bundle, "onnx", engine="litert")
    with pytest.raises(RealMNetError, match=r"one of litert, onnxruntime.*'tvm'"):
        open_runtime(bundle, "onnx", engine="tvm")
    with pytest.raises(RealMNetError, match=r"needs an ONNX Runtime with CUDAExecutionProvider; .* has .*CPU"):
        open_runtime(bundle, "onnx", engine="onnxruntime-cuda")


@pytest.mark.parametrize(("scale", "message"), [(np.float32(np.nan), "not finite"), (np.float32(np.inf), "not finite")])
def test_a_model_that_gives_no_numbers_is_not_added(tiny_bundle, tmp_path, scale, message):
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    before = Bundle.load(directory)
    model = tiny_onnx(tmp_path / "bad.onnx", scale=scale)
    with pytest.raises(BundleMismatch, match=rf"bad\.onnx: .*{message}"):
        add_artifacts(before, {"bad": ArtifactSource(model, "float32", 1e-3, "onnxruntime")})
    assert Bundle.load(directory) == before


def test_what_is_bound_to_a_device_is_refused_elsewhere(tiny_bundle, tmp_path):
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    document = json.loads((directory / "bundle.json").read_bytes())
    assert "device" not in document["artifacts"]["float32"]
    document["artifacts"]["float32"]["device"] = {"GPU": "Orin"}
    (directory / "bundle.json").write_bytes(signed(document))
    with pytest.raises(BundleMismatch, match=r"float32\.tflite: made on GPU Orin; this is no such device"):
        open_runtime(Bundle.load(directory))


def test_the_shipped_bundle_opens_unchanged():
    bundle = Bundle.load(SHIPPED)
    assert {artifact.engine for artifact in bundle.artifacts.values()} == {"litert"}
    self_check(bundle, open_runtime(bundle))


@pytest.mark.parametrize(("engine", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_engine_is_named(tmp_path, monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RealMNetError, match=f"needs the package {package}"):
        ENGINES[engine](tiny_onnx(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_match_numpy(tiny_bundle, count):
    images = np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), np.uint8)
    images[:, 8:16, 16:24] = 250
    prediction = open_runtime(Bundle.load(tiny_bundle)).predict(images)
    probabilities, class_maps = tiny_network(images)
    assert prediction["probabilities"].dtype == prediction["class_maps"].dtype == np.float32
    np.testing.assert_allclose(prediction["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(prediction["class_maps"], class_maps, atol=1e-4)


def test_a_model_opens_from_memory_and_on_any_number_of_threads(tiny_bundle):
    image, golden = Bundle.load(tiny_bundle).golden()
    content = (tiny_bundle / "float32.tflite").read_bytes()
    for threads in (None, 1, 2):
        np.testing.assert_allclose(
            LiteRTRuntime(content, threads).predict(image)["probabilities"], golden["probabilities"]
        )
    assert available_threads() >= 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 32, 64, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
    ],
)
def test_other_images_are_refused(tiny_bundle, images):
    with pytest.raises(ValueError, match="images"):
        open_runtime(Bundle.load(tiny_bundle)).predict(images)


def test_bad_models_and_options_are_refused(tiny_bundle, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"TFL3" * 100)
    with pytest.raises(BundleMismatch, match=r"bad\.tflite"):
        LiteRTRuntime(tmp_path / "bad.tflite")
    with pytest.raises(BundleMismatch):
        LiteRTRuntime(tmp_path / "absent.tflite")
    bundle = Bundle.load(tiny_bundle)
    with pytest.raises(RealMNetError, match="threads"):
        open_runtime(bundle, threads=0)
    with pytest.raises(RealMNetError, match="'int8'"):
        open_runtime(bundle, "int8")


def test_without_the_package_the_message_says_what_to_install(tiny_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(RealMNetError, match=r"requirements-edge\.txt"):
        open_runtime(Bundle.load(tiny_bundle))


def test_the_self_check_passes_on_every_artifact(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    for name in bundle.artifacts:
        self_check(bundle, open_runtime(bundle, name), name)


@pytest.mark.parametrize("output", ["probabilities", "class_maps"])
def test_the_self_check_refuses_another_output(tiny_bundle, tmp_path, output):
    """The golden output drifts here instead of the machine."""
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with np.load(directory / "golden.npz") as arrays:
        golden = dict(arrays)
    golden[f"{output}_float32"] += 0.1
    np.savez_compressed(directory / "golden.npz", **golden)
    document = json.loads((directory / "bundle.json").read_bytes())
    document["golden"]["sha256"] = sha256_of(directory / "golden.npz")
    (directory / "bundle.json").write_bytes(signed(document))

    bundle = Bundle.load(directory)
    with pytest.raises(BundleMismatch, match=rf"float32\.tflite: .*{output}"):
        self_check(bundle, open_runtime(bundle))


@pytest.mark.parametrize("output", ["probabilities", "class_maps"])
@pytest.mark.parametrize("drift", ["nan", "shape"])
def test_the_self_check_refuses_what_is_no_output(tiny_bundle, output, drift):
    bundle = Bundle.load(tiny_bundle)

    class Drifting:
        def predict(self, images):
            prediction = open_runtime(bundle).predict(images)
            values = prediction[output]
            return prediction | {output: values * np.nan if drift == "nan" else values[..., :3]}

    with pytest.raises(BundleMismatch, match=rf"float32\.tflite: .*{output}"):
        self_check(bundle, Drifting())


SHIPPED = Path(__file__).parents[2] / "bundles" / "realmnet-demo"


class OneBufferRuntime(EngineRuntime):
    """An engine at its worst: one buffer for input and outputs, handed out as it is, and time for others in between."""

    SUFFIX = ".none"

    def _open(self, model, threads):
        self.input_name, self.input_shape = "images", (1, 64, 64, 3)
        self.outputs = ("probabilities", "class_maps")
        self._buffer = np.zeros((1, 64, 64, 3), np.float32)

    def _run(self, images):
        self._buffer[...] = images
        time.sleep(1e-4)
        return self._buffer[:, 0, :7, 0], self._buffer[:, :8, :8]


@pytest.fixture(params=["litert", "onnxruntime", "openvino", "one buffer"])
def opened(request, tmp_path):
    """A model in each engine that runs here, and the worst that one might be."""
    if request.param == "one buffer":
        return OneBufferRuntime(b"", threads=1)
    if request.param == "litert":  # takes long enough to be interrupted
        return open_runtime(Bundle.load(SHIPPED), threads=1)
    return ENGINES[request.param](tiny_onnx(tmp_path / "tiny.onnx"), threads=1)


def test_threads_that_share_a_runtime_get_their_own_results(opened):
    size = opened.input_shape[1]
    images = np.random.default_rng(1).integers(0, 256, (4, 1, size, size, 3), np.uint8)
    images[1, :, :8, :8, 1] = 250
    images[2, :, 8:16, :8, 0] = 255
    images[3] = 0
    expected = [opened.predict(image) for image in images]

    def answers(k):
        return [opened.predict(images[k]) for _ in range(15)]

    with ThreadPoolExecutor(len(images)) as threads:
        received = list(threads.map(answers, range(len(images))))
    for k, predictions in enumerate(received):
        for prediction in predictions:
            np.testing.assert_array_equal(prediction["probabilities"], expected[k]["probabilities"])
            np.testing.assert_array_equal(prediction["class_maps"], expected[k]["class_maps"])


@pytest.mark.parametrize("count", [1, 2])
def test_a_prediction_stays_what_it_was(opened, count):
    shape = (count, *opened.input_shape[1:])
    dark, bright = np.zeros(shape, np.uint8), np.full(shape, 250, np.uint8)
    first = opened.predict(dark)
    kept = first["probabilities"].copy(), first["class_maps"].copy()
    first["probabilities"].flags.writeable = first["class_maps"].flags.writeable = True  # the caller's own
    second = opened.predict(bright)
    assert not np.array_equal(second["class_maps"], first["class_maps"])
    np.testing.assert_array_equal(first["probabilities"], kept[0])
    np.testing.assert_array_equal(first["class_maps"], kept[1])
