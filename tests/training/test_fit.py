import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.labels import PALM
from training.augmentation import Augmentation
from training.datasets import ImageSet, PalmDataSet
from training.fit import (
    NonFiniteLoss,
    WarmupCosine,
    _moved,
    build_model,
    compile_model,
    decayed,
    load_run,
    predict,
    train,
)
from training.recipe import Phase, Recipe, load_recipe, with_data

TINY = Recipe(
    name="tiny",
    data=PalmDataSet(),
    preset="realmnet_5m_224",
    model_options={"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
    phases=(Phase(2, 64), Phase(1, 96)),
    batch_size=8,
    drop_path_rate=0.3,  # random: its generator's state must survive an interruption too
    learning_rate=1e-3,
    warmup_epochs=1,
    ema_momentum=0.9,
    augmentation=Augmentation(),
    validate_every=1,
)


def images(count=16, seed=0) -> ImageSet:
    rng = np.random.default_rng(seed)
    labels = np.eye(3, dtype=np.float32)[np.arange(count) % 3]
    pixels = rng.integers(0, 120, (count, 96, 96, 3)) + 120 * labels[:, None, None, :]  # the class is a colour
    names = tuple(map(str, range(count)))
    return ImageSet(pixels.astype(np.uint8), labels, names, names, PALM, "0" * 64)


def test_schedule_is_the_formula():
    schedule = WarmupCosine(peak=1e-4, total_steps=110, warmup_steps=10, warmup_start=0.01, final=1e-6)
    rates = [float(schedule(step)) for step in (0, 5, 10, 60, 110, 500)]
    np.testing.assert_allclose(rates, [1e-6, 5.05e-5, 1e-4, 5.05e-5, 1e-6, 1e-6], rtol=1e-5)
    for step in range(10, 110, 7):
        expected = 1e-6 + (1e-4 - 1e-6) * (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)
    assert WarmupCosine.from_config(schedule.get_config()).get_config() == schedule.get_config()
    without_warmup = WarmupCosine(peak=1e-4, total_steps=10, warmup_steps=0, warmup_start=0.01, final=0.0)
    assert float(without_warmup(0)) == pytest.approx(1e-4)


def test_what_decays_on_the_real_model():
    model = build_model(replace(load_recipe("palm_5m_224"), data=PalmDataSet()), 64)
    kept = {v.path for v in model.trainable_variables if not decayed(v)}
    names = {v.path.rsplit("/", 1)[1] for v in model.trainable_variables if v.path in kept}
    assert names == {"bias", "beta", "gamma"}
    rest = {v.path.rsplit("/", 1)[1] for v in model.trainable_variables if v.path not in kept}
    assert rest == {"kernel", "attention_biases"}
    optimizer = compile_model(model, load_recipe("palm_5m_224"), 10).optimizer
    assert {v.path for v in model.trainable_variables if not optimizer._use_weight_decay(v)} == kept


def test_the_optimizer_has_the_recipes_settings():
    model = compile_model(build_model(TINY, 64), replace(TINY, ema_momentum=None), steps_per_epoch=5)
    optimizer = model.optimizer
    assert (optimizer.weight_decay, optimizer.epsilon, optimizer.global_clipnorm) == (0.05, 1e-8, 1.0)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.use_ema) == (0.9, 0.999, False)
    schedule = optimizer._learning_rate
    assert (schedule.total_steps, schedule.warmup_steps) == (15, 5)
    with pytest.raises(ValueError, match=r"keras_realmnet\.losses.*NoLoss"):
        compile_model(build_model(TINY, 64), replace(TINY, loss="NoLoss"), 5)


def test_moving_to_another_size_takes_the_optimizer_along():
    model = compile_model(build_model(TINY, 64), TINY, 5)
    model.optimizer.iterations.assign(7)
    rng = np.random.default_rng(0)
    for slot in (*model.optimizer._momentums, *model.optimizer._velocities):
        slot.assign(rng.random(slot.shape) + 0.5)
    before = model.get_weights()
    moved = _moved(model, TINY, 96, 5)
    assert int(moved.optimizer.iterations) == 7
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    resized = 0
    for old, new in zip(model.optimizer._velocities, moved.optimizer._velocities, strict=True):
        old_value, new_value = keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)
        if old_value.shape == new_value.shape:
            np.testing.assert_array_equal(old_value, new_value)
        else:  # an attention-bias table
            resized += 1
            assert old_value.min() <= new_value.min()
            assert new_value.max() <= old_value.max()
    assert resized == 3
    for weight, average in zip(moved.trainable_variables, moved.optimizer._model_variables_moving_average, strict=True):
        assert weight.shape == average.shape


class StoppingAt:
    """Validation images that bring Ctrl-C in the given epoch: after its steps, before its checkpoint."""

    def __init__(self, epoch: int, data: ImageSet):
        self.epoch, self.data, self.validations = epoch, data, 0

    @property
    def labels(self):
        self.validations += 1
        if self.validations == self.epoch:
            raise KeyboardInterrupt
        return self.data.labels

    def __getattr__(self, name):
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.data)


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.get_weights()]


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    data, validation = images(), images(6, seed=1)
    whole = train(TINY, data, validation, tmp_path / "whole", verbose=0)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, data, StoppingAt(2, validation), tmp_path / "broken", verbose=0)
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint*")] == ["checkpoint-0001.weights.h5"]
    resumed = train(TINY, data, validation, tmp_path / "broken", verbose=0)
    for a, b in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    histories = []
    for name in ("whole", "broken"):
        with (tmp_path / name / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(float(row.pop("seconds")) >= 0 for row in rows)
        histories.append(rows)
    assert histories[0] == histories[1]
    assert [row["epoch"] for row in histories[0]] == ["1", "2", "3"]
    assert [row["size"] for row in histories[0]] == ["64", "64", "96"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    data = images()
    data.labels[3] = np.nan
    with pytest.raises(NonFiniteLoss, match="step"):
        train(replace(TINY, phases=(Phase(1, 64),)), data, None, tmp_path, verbose=0)
    assert not list(tmp_path.glob("checkpoint*"))


def test_only_a_finished_run_can_be_loaded(tmp_path):
    with pytest.raises(RealMNetError, match=r"recipe\.json: no such file; expected the folder of a finished run"):
        load_run(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps(TINY.to_dict()))
    model = build_model(TINY, 96)
    model.save_weights(tmp_path / "weights.weights.h5")
    loaded, recipe = load_run(tmp_path)
    assert recipe.phases == TINY.phases
    probabilities = predict(loaded, images(5), 2)
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(
        probabilities, keras.ops.sigmoid(model(images(5).images.astype(np.float32))), rtol=1e-4, atol=1e-6
    )


def test_data_that_is_made_has_no_place():
    with pytest.raises(DataSetError, match="phantom data is made, not found"):
        with_data(load_recipe("smoke"), "/somewhere")
    assert with_data(TINY, "/somewhere").data == PalmDataSet("/somewhere")


def command(*args, cwd):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", "training", *args], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "--recipe", "nothing"], "Received: 'nothing'"),
        (["fit", "--recipe", "smoke", "--set", "x=1"], "'x' is not one of"),
        (["fit", "--recipe", "smoke", "--backend", "theano"], "backend must be one of tensorflow, jax, torch"),
        (["fit", "--recipe", "smoke", "--no-such-option"], "No such option"),
        (["phantom", "--out", "x", "--imbalance", "even"], "imbalance is one of psmm, balanced"),
    ],
)
def test_a_wrong_command_is_one_line(args, message, tmp_path):
    done = command(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("python -m training: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_smoke_recipe_learns(tmp_path):
    done = command("fit", "--recipe", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "smoke"
    with (run / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.7 * losses[0]
    scores = json.loads((run / "scores.json").read_text())
    assert scores["images"] > 50
    assert 0 < scores["scores"]["macro_auroc"]["value"] <= 1
    facts = json.loads((run / "run.json").read_text())
    assert {"command", "versions", "git_commit", "data_sha256", "seed", "preprocess_hash"} <= set(facts)
    assert not list(run.glob("checkpoint*"))
    again = command("fit", "--recipe", "smoke", cwd=tmp_path)
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    assert load_run(run)[1] == load_recipe("smoke")
