"""Several devices: virtual ones of the CPU, in processes of their own."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from training.fitting.devices import on_devices

HERE = Path(__file__).parent


def first_losses(steps: int, *, backend: str, devices: int = 1, accumulate: int = 1, **environment: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, HERE / "first_losses.py", str(steps), str(devices), str(accumulate)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2]), "KERAS_BACKEND": backend, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def one_jax_device():
    """The first 20 losses on one device."""
    return first_losses(20, backend="jax")


@pytest.mark.slow
def test_the_backends_start_alike(one_jax_device):
    """The same weights, data and order: the first 20 losses of all backends, within 1e-3."""
    assert len(one_jax_device) == 20
    assert max(one_jax_device) > 1.5 * one_jax_device[-1]  # it learns meanwhile: there is something to disagree about
    on_tensorflow = first_losses(20, backend="tensorflow")
    for losses in (one_jax_device, first_losses(20, backend="torch")):
        np.testing.assert_allclose(losses, on_tensorflow, atol=1e-3)


@pytest.mark.long
def test_four_jax_devices_are_one(one_jax_device):
    """The global batch is one, BatchNorm's statistics too: the losses are those of one device."""
    four = first_losses(8, backend="jax", devices=4, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    np.testing.assert_allclose(four, one_jax_device[:8], atol=1e-3)


@pytest.mark.long
def test_two_jax_processes_are_one(one_jax_device):
    """As on two machines: each feeds its half of every batch, and both see the losses of one device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    }
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(
                first_losses, 4, backend="jax", devices=2, KERAS_DISTRIBUTION_PROCESS_ID=str(process), **together
            )
            for process in range(2)
        ]
        losses = [each.result() for each in both]
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(losses[0], one_jax_device[:4], atol=1e-3)


MIRRORED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import first_losses
print(json.dumps([first_losses.main(2, 2, 1), first_losses.halves()]))
"""


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own strategy")
def test_tensorflow_devices_normalize_their_own_part():
    """Two devices, half a batch each: the first loss is the mean of the halves', each normalized by itself."""
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(HERE)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    losses, halves = json.loads(done.stdout.splitlines()[-1])
    assert losses[0] == pytest.approx(np.mean(halves), abs=1e-4)
    assert halves[0] != pytest.approx(halves[1], abs=1e-2)


def test_what_is_not_there_is_said():
    with pytest.raises(RealMNetError, match="batch_size 10 cannot be shared evenly among 4"), on_devices(4, 10):
        pass
    with pytest.raises(RealMNetError, match=r"64 devices were asked for|need the backend jax"), on_devices(64, 64):
        pass
    with on_devices(None, 10) as count:
        assert count == 1
