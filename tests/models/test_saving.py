"""Networks saved and loaded: by `import keras_realmnet` alone, with precision and frozen layers; what is refused."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import (
    Baseline,
    LinearHead,
    RealMNet,
    ResidualAttentionHead,
    TinyViTBackbone,
    TinyViTImageClassifier,
    WarmupCosine,
    losses,
    measure_map_offset,
    transfer_weights,
)
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError, WeightsMismatch
from keras_realmnet.models.layers.heads import ClassMaps

ROOT = Path(__file__).parents[2]
TINY = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}


def realmnet(size=64, head=None, **arguments):
    return RealMNet.from_preset("realmnet_5m_224", 3, head=head, image_size=size, **TINY, **arguments)


def deit(**arguments):
    options = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
    return Baseline("deit", 32, 3, 0.1, options, **arguments)


NETWORKS = {
    "realmnet": realmnet,
    "linear": lambda **arguments: realmnet(head=LinearHead(3), **arguments),
    "classifier": lambda **arguments: TinyViTImageClassifier(TinyViTBackbone(64, **TINY, **arguments), 3, **arguments),
    "backbone": lambda **arguments: TinyViTBackbone(64, **TINY, **arguments),
    "deit": deit,
}


def saved_and_loaded(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def trained(model):
    """Where the variables that train stand among all."""
    return [any(variable is other for other in model.trainable_variables) for variable in model.variables]


def policies(model):
    return [layer.dtype_policy.name for layer in model._flatten_layers()]


def run(program):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = realmnet()
    model.compile(keras.optimizers.AdamW(WarmupCosine(1e-3, 10, 2, 0.1, 1e-6)), losses.FocalLoss(0.3))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(4)
    model.save(folder / "compiled.keras")
    model.inference_model().save(folder / "inference.keras")
    deit().save(folder / "baseline.keras")
    return folder


@pytest.mark.parametrize("imports", ["keras, keras_realmnet", "keras_realmnet, keras"])
def test_importing_the_package_is_enough_to_load_a_compiled_model(saved_models, imports):
    done = run(f"""
import {imports}
folder = {str(saved_models)!r}
model = keras.saving.load_model(folder + "/compiled.keras")
assert type(model.loss).__name__ == "FocalLoss" and model.loss.get_config()["alpha"] == 0.3
assert type(model.optimizer._learning_rate).__name__ == "WarmupCosine" and int(model.optimizer.iterations) == 4
assert set(keras.saving.load_model(folder + "/inference.keras").output) == {{"probabilities", "class_maps"}}
assert type(keras.saving.load_model(folder + "/baseline.keras")).__name__ == "Baseline"
""")
    assert done.returncode == 0, done.stderr[-3000:]


def test_importing_the_package_loads_no_keras_and_looking_for_keras_is_harmless():
    done = run("""
import sys, keras_realmnet, keras_realmnet.screening
from importlib.util import find_spec
assert find_spec("keras") is not None
assert "keras" not in sys.modules
import keras
assert keras.saving.get_registered_object("keras_realmnet>RealMNet") is keras_realmnet.RealMNet
assert keras.__spec__.loader is keras.__loader__ and keras.__loader__.get_source("keras")
""")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("network", [*NETWORKS, "inference", "deployed"])
def test_a_model_loads_that_was_saved_when_our_modules_had_other_places(tmp_path, network):
    """A saved model names classes of ours by module, too; their registered names are what counts."""
    others = {"inference": lambda: realmnet().inference_model(), "deployed": lambda: deploy_graph(realmnet())}
    model = (NETWORKS | others)[network]()
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                content, count = re.subn(rb'"keras_realmnet\.[a-z_.]+"', b'"keras_realmnet.before.the_moves"', content)
                assert count
            old.writestr(name, content)
    again = keras.saving.load_model(tmp_path / "old.keras")
    images = np.random.default_rng(0).integers(0, 256, (1, *model.input.shape[1:])).astype("float32")
    expected, received = (keras.tree.flatten(network(images, training=False)) for network in (model, again))
    for one, other in zip(expected, received, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@pytest.mark.parametrize("network", NETWORKS)
def test_precision_survives(tmp_path, network):
    """Built in bfloat16, by argument or by Keras' policy of then; loaded under float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        globally = NETWORKS[network]()
    finally:
        keras.config.set_dtype_policy("float32")
    model = NETWORKS[network](dtype="mixed_bfloat16")
    assert set(policies(model)) >= {"mixed_bfloat16"}
    assert set(policies(model)) == set(policies(globally))
    assert policies(saved_and_loaded(model, tmp_path)) == policies(model)
    assert policies(saved_and_loaded(globally, tmp_path)) == policies(globally)
    assert keras.config.dtype_policy().name == "float32"


def freeze_some(model):
    for layer in list(model._flatten_layers())[5:40:3]:
        layer.trainable = False


def freeze_all_then_thaw(model):
    model.trainable = False
    model.layers[-1].trainable = True


FREEZING = {
    "nothing": lambda model: None,
    "all": lambda model: setattr(model, "trainable", False),
    "some layers": freeze_some,
    "thawed inside": freeze_all_then_thaw,
}


@pytest.mark.parametrize("freezing", FREEZING)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_does_not_train_stays_so(tmp_path, network, freezing):
    model = NETWORKS[network]()
    FREEZING[freezing](model)
    again = saved_and_loaded(model, tmp_path)
    assert trained(again) == trained(model)
    assert [layer.trainable for layer in again._flatten_layers()] == [
        layer.trainable for layer in model._flatten_layers()
    ]


def test_a_frozen_stage_that_was_thawed_stays_thawed(tmp_path):
    model = realmnet(frozen_stages=2)
    before = sum(trained(model))
    for layer in model.backbone.layers:
        layer.trainable = True
    assert sum(trained(model)) > before
    assert trained(saved_and_loaded(model, tmp_path)) == trained(model)


@pytest.mark.parametrize("network", ["realmnet", "deit"])
def test_weights_of_another_size_name_the_way(tmp_path, network):
    big, small = (realmnet(128), realmnet(64)) if network == "realmnet" else (deit(), deit())
    if network == "deit":
        big = Baseline("deit", 64, 3, 0.1, {"num_layers": 2, "num_heads": 2, "hidden_dim": 16})
    big.save_weights(tmp_path / "big.weights.h5")
    before = [np.array(ops.convert_to_numpy(weight)) for weight in small.weights]
    with pytest.raises(WeightsMismatch, match=r"big\.weights\.h5: does not fit .*transfer_weights\("):
        small.load_weights(tmp_path / "big.weights.h5")
    for weight, value in zip(small.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    transfer_weights(big, small)


def test_onnx_says_what_to_use(tmp_path):
    model = realmnet()
    for network in (model, model.inference_model(), model.backbone):
        with pytest.raises(RealMNetError, match=r"export\.conversion\.to_onnx\.to_onnx\(model, path\)"):
            network.export(tmp_path / "model.onnx", format="onnx")


# ---- unknown arguments, and values out of their range

SMALL = {"num_layers": 1, "num_heads": 1, "hidden_dim": 8}
CONVNEXT = {"depths": (1, 1, 1, 1), "projection_dims": (8, 8, 8, 8)}
SWIN = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("img_size", lambda: TinyViTBackbone(img_size=64)),
        ("img_size", lambda: TinyViTBackbone.from_preset("tiny_vit_5m_224", img_size=64)),
        ("img_size", lambda: TinyViTImageClassifier.from_preset("tiny_vit_5m_224", img_size=64)),
        ("img_size", lambda: RealMNet.from_preset("realmnet_5m_224", img_size=64)),
        ("pooling", lambda: RealMNet(TinyViTBackbone(32, **TINY), LinearHead(3), pooling="avg")),
        ("classes", lambda: TinyViTImageClassifier(TinyViTBackbone(32, **TINY), classes=3)),
        ("num_head", lambda: ResidualAttentionHead(3, num_head=2)),
        ("lam", lambda: LinearHead(3, lam=1.2)),
        ("ofset", lambda: ClassMaps(LinearHead(3), ofset=(1, 1))),
        ("batchsize", lambda: measure_map_offset(None, [], batchsize=3)),
        ("dropout", lambda: Baseline("deit", 32, 3, options=SMALL, dropout=0.1)),
        ("layers", lambda: Baseline("deit", 32, 3, options={**SMALL, "layers": 1})),
        ("dephts", lambda: Baseline("convnext", 32, 3, options={**CONVNEXT, "dephts": 1})),
        ("width", lambda: Baseline("efficientnet", 32, 3, options={"width": 1})),
        ("window", lambda: Baseline("swin", 32, 3, options={**SWIN, "window": 7})),
        ("window", lambda: Baseline.from_preset("swin_b_384", window=7)),
    ],
)
def test_unknown_arguments_are_refused(name, make):
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        make()


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_size": 64.5},
        {"image_size": 0},
        {"image_size": (64, 48)},
        {"embed_dims": (-16, 32, 64, 64)},
        {"embed_dims": (16, 32, 64)},
        {"depths": (0, 1, 1, 1)},
        {"num_heads": (1, 0, 2, 2)},
        {"window_sizes": (2, 0, 2, 2)},
        {"drop_path_rate": 1.0},
        {"drop_path_rate": -0.1},
        {"mlp_ratio": 0.0},
        {"mbconv_expand_ratio": -1.0},
        {"frozen_stages": 1.5},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name} must be .* Received: "):
        TinyViTBackbone(**{"image_size": 32, **TINY, **arguments})
    if name != "window_sizes":
        with pytest.raises(ValueError, match=f"^{name} must be .* Received: "):
            RealMNet.from_preset("realmnet_5m_224", **{"image_size": 32, **TINY, **arguments})


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("num_classes", lambda: LinearHead(2.5)),
        ("num_classes", lambda: ResidualAttentionHead(0)),
        ("num_classes", lambda: TinyViTImageClassifier(TinyViTBackbone(32, **TINY), 0)),
        ("num_classes", lambda: Baseline("deit", 32, 0, options=SMALL)),
        ("lam", lambda: ResidualAttentionHead(3, lam=float("nan"))),
        ("lam", lambda: ResidualAttentionHead(3, lam=-1.0)),
        ("num_heads", lambda: ResidualAttentionHead(3, num_heads=3)),
        ("offset", lambda: ClassMaps(LinearHead(2), offset=(1,))),
        ("map_offset", lambda: RealMNet(TinyViTBackbone(32, **TINY), LinearHead(3), map_offset=(1, 2, 3))),
        ("drop_path_rate", lambda: Baseline("deit", 32, 3, 2.0, SMALL)),
        ("image_size", lambda: Baseline("convnext", 32.5, 3, options=CONVNEXT)),
        ("num_layers", lambda: Baseline("deit", 32, 3, options={**SMALL, "num_layers": 0})),
        ("width_coefficient", lambda: Baseline.from_preset("efficientnet_b4_380", width_coefficient=-1.0)),
        ("embed_dim", lambda: Baseline("swin", 32, 3, options={**SWIN, "embed_dim": "8"})),
    ],
)
def test_values_of_heads_and_baselines_out_of_range_are_refused(name, make):
    with pytest.raises(ValueError, match=f"^{name} must be .* Received: "):
        make()
