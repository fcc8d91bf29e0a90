"""Fixtures every test may use."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from training.memory import keep_freed_memory

keep_freed_memory()  # training in tests takes less time, too

# How long an example takes says what else this machine does, not whether the example is right.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config):
    """JAX compiles each program once for all workers, modules and programs they start: compiling is most of its time.

    The files lie in pytest's cache folder; `--cache-clear` removes them.
    """
    if config.pluginmanager.has_plugin("cacheprovider"):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # Programs that run once need not be made fast; some tests on TensorFlow start JAX, too.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture(scope="module", autouse=True)
def _free_compiled_programs():
    """JAX keeps in memory every program it ever compiled: gigabytes by the end of the tests."""
    yield
    if "jax" in sys.modules and os.environ.get("KERAS_BACKEND") == "jax":
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="module")
def short_encoders():
    """EfficientNet-Lite0 and MobileNetV2 with their channels and strides, but one block a stage, two in the second.

    For tests of what looks at their maps: to make a whole encoder is most of such a test's time.
    """
    from dataclasses import replace

    from keras_realmnet.models.encoders.inverted_residuals import NETWORKS

    with pytest.MonkeyPatch.context() as patch:
        for name, network in NETWORKS.items():
            stages = (
                replace(stage, repeats=min(stage.repeats, 2 if k == 1 else 1)) for k, stage in enumerate(network.stages)
            )
            patch.setitem(NETWORKS, name, replace(network, stages=tuple(stages)))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and real fundus images that are not part of this repository."""
    folder = Path(os.environ.get("REALMNET_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found: {folder} (set REALMNET_SHARED)")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The shipped sample images."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Reference outputs of the public implementations; see tests/goldens/README.md."""
    return ROOT / "tests" / "goldens"


@pytest.fixture(scope="session")
def reference_inputs(goldens):
    """The module that makes the parameters and images the goldens were computed on."""
    spec = importlib.util.spec_from_file_location("reference_inputs", goldens / "reference_inputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def value_and_gradient():
    """`value_and_gradient(function, x)`: a scalar function's value and autodiff gradient, on the backend in use."""
    import keras
    import numpy as np

    def on_tensorflow(function, x):
        import tensorflow as tf

        x = tf.Variable(x)
        with tf.GradientTape() as tape:
            value = function(x)
        return np.array(value), np.array(tape.gradient(value, x))

    def on_jax(function, x):
        import jax

        value, gradient = jax.value_and_grad(function)(x)
        return np.array(value), np.array(gradient)

    def on_torch(function, x):
        import torch

        x = torch.tensor(x, requires_grad=True)
        value = function(x)
        return value.detach().numpy(), torch.autograd.grad(value, x)[0].numpy()

    return {"tensorflow": on_tensorflow, "jax": on_jax, "torch": on_torch}[keras.backend.backend()]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """A bundle with a small real LiteRT model, made once per session; never change it, copy it."""
    directory = tmp_path_factory.mktemp("bundle") / "tiny-bundle"
    script = ROOT / "tests" / "tiny_bundle.py"
    subprocess.run([sys.executable, script, directory], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return directory


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory) -> Path:
    """A folder with the bundles of tests/tiny_bundles.py, which answer in every kind; never change it, copy it."""
    directory = tmp_path_factory.mktemp("bundles")
    script = ROOT / "tests" / "tiny_bundles.py"
    subprocess.run([sys.executable, script, directory], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return directory
