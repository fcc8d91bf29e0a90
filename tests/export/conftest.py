import platform
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.conversion.quantize_litert import LITERT_ARTIFACTS
from export.conversion.to_litert import to_litert
from export.speed.board import cpu_features
from keras_realmnet import RealMNet, ResidualAttentionHead, TinyViTBackbone
from keras_realmnet.screening.bundle.writing import write_bundle
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM


@pytest.fixture(scope="session")
def onnx_runtime_adds_bytes_exactly():
    """Skips where ONNX Runtime's sums of products of bytes saturate: on x86 processors without VNNI."""
    cpuinfo = Path("/proc/cpuinfo")
    has, _ = cpu_features(cpuinfo.read_text() if cpuinfo.exists() else "") or ("VNNI", "")  # elsewhere it is tried
    if platform.machine() == "x86_64" and "VNNI" not in has:
        pytest.skip("without VNNI ONNX Runtime's sums of products of bytes saturate on x86")


@pytest.fixture(scope="session")
def small_model():
    """A RealMNet of 64 px with weights that respond to the image, as trained ones do."""
    keras.utils.set_random_seed(11)
    backbone = TinyViTBackbone(
        64, embed_dims=(16, 32, 64, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), name="backbone"
    )
    model = RealMNet(backbone, ResidualAttentionHead(7, name="head"), map_offset=(0.5, -0.5), name="small")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name == "attention_biases":
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture(scope="session")
def dying_model(small_model):
    """`small_model` with a unit of zeros and one next to nothing, both with a bias, and a GELU that gives always 0."""
    model = RealMNet.from_config(small_model.get_config())
    model.set_weights(small_model.get_weights())
    layer = model.backbone.get_layer("stages_1_blocks_0_mlp_fc1")
    kernel, bias = layer.get_weights()
    kernel[:, 3], bias[3], kernel[:, 4], bias[4] = 0, 0.2, 1e-13, -0.3
    layer.set_weights([kernel, bias])
    layer = model.backbone.get_layer("stages_2_blocks_0_mlp_fc1")
    layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    layer = model.backbone.get_layer("stages_3_blocks_0_attn").proj
    kernel, bias = layer.get_weights()
    kernel[:, 0], bias[0] = 0, 0.1
    layer.set_weights([kernel, bias])
    return model


@pytest.fixture(scope="session")
def pictures():
    """uint8 (12, 64, 64, 3): noise at several scales."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (12, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (0.7 * coarse + 0.3 * rng.integers(0, 256, (12, 64, 64, 3))).astype("uint8")


@pytest.fixture(scope="session")
def litert_models(tmp_path_factory, small_model, pictures):
    """`small_model` as every LiteRT artifact: paths by name."""
    folder = tmp_path_factory.mktemp("litert")
    float32 = to_litert(small_model, folder / "float32.tflite")
    smaller = {name: make(float32, folder / f"{name}.tflite", pictures) for name, make in LITERT_ARTIFACTS.items()}
    return {"float32": float32, **smaller}


@pytest.fixture(scope="session")
def opened():
    """`opened(path)`: a LiteRT interpreter with its tensors allocated."""

    def open_model(path):
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        return interpreter

    return open_model


@pytest.fixture(scope="session")
def write_small_bundle():
    """`write_small_bundle(directory, artifacts, source, reduction)`: a bundle of models shaped like `small_model`."""

    def write(directory, artifacts, source=None, reduction=1):
        return write_bundle(
            directory,
            name=directory.name,
            version="1",
            task=labels_task(
                PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen="by hand")
            ),
            spec=PreprocessSpec(size=64, reduction=reduction),
            artifacts=artifacts,
            default_artifact=next(iter(artifacts)),
            golden_image=np.full((1, 64, 64, 3), 90, np.uint8),
            training_data={"statement": "None: random weights."},
            scores={},
            versions={},
            intended_use="Tests only.",
            source=source,
        )

    return write
