"""Training steps in turns, on the processor: each backend in a process of its own, which has no more than it needs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from training.benchmarks import gpu
from training.benchmarks.gpu import Row, compare, settings_of, status_of, table
from training.benchmarks.train_steps import KERAS_JAX, KERAS_TORCH, TIMM, Ready, Setting, batches

ROOT = Path(__file__).resolve().parents[3]
TINY = Setting(
    "realmnet_5m_224",
    size=32,
    batch=4,
    device="cpu",
    compiled=False,
    options={"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
)
READY = Ready(3.0, "CPU", {"Keras": "3"})

# Of what the project uses elsewhere, a machine that only trains may have nothing.
BLOCKED = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_others(name, path=None, target=None):
    if name.partition(".")[0] not in ("tensorflow", "tensorboard", "cv2", "pydicom", "sklearn", "timm"):
        return find(name, path, target)

PathFinder.find_spec = find_others
"""

RECORD = """
from dataclasses import replace

import numpy as np
import torch

import training.benchmarks.train_steps as steps
from keras_realmnet.errors import RealMNetError
from tests.training.benchmarks.test_gpu import TINY

steps.PRECISION = "float32"
torch.compile = lambda record: record  # compiling it takes minutes, and is PyTorch's own matter
eager, recorded = (steps.KerasOnTorch(replace(TINY, compiled=each)) for each in (False, True))
assert isinstance(recorded.forward, torch.fx.GraphModule)
found = [(each.train(3), [v.numpy() for v in each.model.variables]) for each in (eager, recorded)]
np.testing.assert_allclose(*[losses for losses, _ in found], rtol=1e-4)
for one, other in zip(*[values for _, values in found]):
    np.testing.assert_allclose(one, other, atol=1e-3)
if not torch.cuda.is_available():
    try:
        steps.KerasOnTorch(replace(TINY, device="gpu"))
    except RealMNetError as error:
        print(error)
"""


@pytest.mark.slow
def test_each_backend_takes_its_turns_and_learns(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, ROOT))))
    on_torch, on_jax, peer = rows = compare(
        TINY, [KERAS_TORCH, KERAS_JAX, TIMM], steps=2, fit_steps=24, rounds=2, seconds=600
    )
    assert peer.problem == "not installed: timm"
    for row in (on_torch, on_jax):
        assert row.problem is None, row
        assert len(row.rates) == 2
        assert row.fit[1] < 0.9 * row.fit[0]
        assert not row.failed
        assert row.peak > 1e7
        assert "Keras" in row.ready.versions
    assert len(table(rows).splitlines()) == 4 + 3


@pytest.mark.slow
def test_what_is_compiled_computes_the_same():
    """Some steps of the network as it is, and of its record: losses, weights and running statistics."""
    done = subprocess.run(
        [sys.executable, "-c", RECORD],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout in ("", "PyTorch finds no GPU; --device cpu shows that the program works, not how fast\n")


def test_what_is_not_ready_in_time_is_left_out():
    (row,) = compare(TINY, [KERAS_JAX], steps=1, fit_steps=8, rounds=1, seconds=0.2)
    assert (row.problem, row.ready, row.failed) == ("out of time", None, True)
    assert "| Keras, JAX | – | out of time | – | – | – |" in table([row])


def test_ratios_are_taken_turn_by_turn():
    ours = Row(KERAS_TORCH, TINY, READY, (3.0, 1.5), (2.0, 3.0, 8.0), 2_500_000)
    theirs = replace(ours, name=TIMM, rates=(4.0, 4.0, 4.0))
    elsewhere = replace(ours, setting=replace(TINY, size=64))
    lines = table([ours, theirs, elsewhere]).splitlines()
    assert lines[0] == "CPU; Keras 3; bfloat16"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert cells[0][3:] == ["Keras, PyTorch, not compiled", "3", "3 (2–8)", "0.75 (0.5–2)", "2", "3.00 → 1.50"]
    assert cells[1][6] == "1 (1–1)"
    assert cells[2][6] == "–"
    assert replace(ours, fit=(1.5, 1.5)).failed  # it has not learned
    assert not replace(theirs, fit=None).failed


def test_a_backend_that_is_not_there_counts_only_where_it_is_asked_for():
    sound = Row(KERAS_TORCH, TINY, READY, (3.0, 1.5), (2.0,), 1)
    absent = Row(KERAS_JAX, TINY, problem="not installed: jax")
    peer = replace(sound, name=TIMM)
    assert status_of([sound, absent, peer], strict=False) == 0
    assert status_of([sound, absent, peer], strict=True) == 1
    assert status_of([absent, peer], strict=False) == 1
    assert status_of([sound, replace(absent, problem="out of time")], strict=False) == 1


def test_the_colour_of_a_picture_is_its_class():
    images, truth = batches(TINY)
    assert (images.shape, truth.shape) == ((4, 4, 32, 32, 3), (4, 4, 7))
    bright = images.mean(axis=(2, 3)) > 127
    np.testing.assert_array_equal(bright @ (1, 2, 4) - 1, truth.argmax(axis=-1))
    assert 0 <= images.min() < images.max() <= 255


def test_what_cannot_be_trained_is_refused():
    (found,) = settings_of(["realmnet_21m_384_w12"], None, 16, "gpu", True).values()
    assert (found.size, found.tiny_vit["stage_2_windows"], found.tiny_vit["drop_path_rate"]) == (384, 2, 0.0)
    for presets, size, device, match in (
        (
            ["realmnet_lite0_224"],
            None,
            "gpu",
            r"preset must be realmnet_5m_224, .*'realmnet_lite0",
        ),
        (["realmnet_5m_224"], 80, "gpu", r"size must be divisible by 32 for realmnet_5m_224\. Received: 80"),
        (["realmnet_5m_224"], None, "tpu", r"device must be gpu or cpu\. Received: 'tpu'"),
    ):
        with pytest.raises(RealMNetError, match=match):
            settings_of(presets, size, 16, device, True)
    assert set(gpu.PRESETS) <= set(gpu.REALMNET_PRESETS)
