import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_realmnet import WarmupCosine
from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.fitting.tiny_run import TINY, images
from training.data.resampling import Resampling
from training.datasets.found.palm import PalmDataSet
from training.datasets.found.psmm import PsmmDataSet
from training.datasets.image_set import ImageSet
from training.fitting.callbacks import NonFiniteLoss
from training.fitting.checkpoints import move_to_size
from training.fitting.fit import fit, training_images
from training.fitting.loop import Resources, train
from training.fitting.start import compile_model, decayed, initial_model
from training.recipe import Phase, Recipe, load_recipe, with_data
from training.runs import build_model, load_run, predict


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


def test_moving_to_another_size_takes_the_optimizer_along():
    model = compile_model(build_model(TINY, 64), TINY, 5)
    model.optimizer.iterations.assign(7)
    rng = np.random.default_rng(0)
    for slot in (*model.optimizer._momentums, *model.optimizer._velocities):
        slot.assign(rng.random(slot.shape) + 0.5)
    before = model.get_weights()
    moved = move_to_size(model, TINY, 96, 5)
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

    def truth_of(self, *arguments):
        self.validations += 1
        if self.validations == self.epoch:
            raise KeyboardInterrupt
        return self.data.truth_of(*arguments)

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


def tiny_run(out: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("tiny_run.py"), out, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_done(out: Path) -> int:
    log = out / "steps.log"
    return len(log.read_text().splitlines()) if log.is_file() else 0


@pytest.mark.long
def test_killed_or_out_of_disk_a_run_ends_with_the_same_weights(tmp_path):
    """18 steps in three epochs; SIGKILL at a random one, then no room for a checkpoint, then to the end."""
    whole = tiny_run(tmp_path / "whole")
    _, complaint = whole.communicate(timeout=600)
    assert whole.returncode == 0, complaint[-2000:]
    assert steps_done(tmp_path / "whole") == 18

    broken = tmp_path / "broken"
    at = int(np.random.default_rng().integers(1, 18))  # another one in every run of the tests
    print("killed at step", at)
    killed = tiny_run(broken)
    while steps_done(broken) < at:
        assert killed.poll() is None, killed.stderr.read()[-2000:]
        time.sleep(0.005)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert steps_done(broken) < 18
    before = {path.name: path.read_bytes() for path in broken.glob("checkpoint*")}

    starved = tiny_run(broken, "100000")  # a checkpoint is larger
    _, complaint = starved.communicate(timeout=600)
    assert starved.returncode == 1
    assert "could not be written" in complaint
    assert "goes on from the last checkpoint" in complaint
    assert {path.name: path.read_bytes() for path in broken.glob("checkpoint*")} == before
    assert not (broken / "unfinished.weights.h5").exists()

    resumed = tiny_run(broken)
    _, complaint = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, complaint[-2000:]
    ends = [np.load(folder / "weights.npz") for folder in (tmp_path / "whole", broken)]
    assert ends[0].files == ends[1].files
    for name in ends[0].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


def test_gradients_accumulate_over_whole_steps(tmp_path):
    """Five batches an epoch, two per step of the optimizer: four are used, and the weights move twice."""
    moves = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = weights_of(self.model.head)

        def on_train_batch_end(self, batch, logs=None):
            pairs = zip(self.before, weights_of(self.model.head), strict=True)
            moves.append(any((a != b).any() for a, b in pairs))

    recipe = replace(TINY, phases=(Phase(1, 64),), accumulate=2, warmup_epochs=0)
    train(recipe, images(40), None, tmp_path, verbose=0, callbacks=[Watch()])
    assert moves == [False, True, False, True]
    with pytest.raises(RealMNetError, match="a step of 'tiny' takes 80 images; there are 40"):
        train(replace(recipe, accumulate=10), images(40), None, tmp_path / "x", verbose=0)


def test_training_starts_from_the_weights_named(tmp_path):
    """A finished run of the same labels gives all of its weights, one of other labels its features."""
    source = replace(TINY, phases=(Phase(1, 96),))
    (tmp_path / "recipe.json").write_text(json.dumps(source.to_dict()))
    model = build_model(source, 96)
    model.save_weights(tmp_path / "weights.weights.h5")
    same = initial_model(replace(source, weights=str(tmp_path)), 96)
    for a, b in zip(weights_of(model), weights_of(same), strict=True):
        np.testing.assert_array_equal(a, b)

    peripheral = replace(source, weights=str(tmp_path), data=PsmmDataSet(labels="peripheral"))
    moved = initial_model(peripheral, 64)
    assert moved.output.shape == (None, 5)
    resized = 0
    for a, b in zip(model.backbone.weights, moved.backbone.weights, strict=True):
        if a.shape == b.shape:
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
        else:
            resized += 1
    assert resized == 3  # attention biases of another window
    with pytest.raises(RealMNetError, match="nowhere: no such file or run"):
        initial_model(replace(source, weights=str(tmp_path / "nowhere")), 96)


def test_a_reference_checkpoint_starts_the_published_network(tmp_path, goldens, reference_inputs):
    shapes = json.loads((goldens / "tiny_vit_5m_224.shapes.json").read_text())
    arrays = {name: np.asarray(reference_inputs.parameter(name, tuple(shape))) for name, shape in shapes.items()}
    save_file(arrays, tmp_path / "tiny_vit_5m_224.safetensors")
    recipe = Recipe(
        name="x",
        preset="realmnet_5m_224",
        phases=(Phase(1, 64),),
        weights=str(tmp_path / "tiny_vit_5m_224.safetensors"),
    )
    model = initial_model(recipe, 64)
    kernel = keras.ops.convert_to_numpy(model.backbone.get_layer("patch_embed_conv1_conv").kernel)
    np.testing.assert_array_equal(kernel, arrays["patch_embed.conv1.conv.weight"].transpose(2, 3, 1, 0))


def test_what_a_recipe_trains_on():
    """A share of the patients first, then the resampling."""
    data = images(120).select(np.array([k for k in range(120) if k % 3 == 0 or k < 40]))  # one class prevails
    share = training_images(replace(TINY, train_share=0.5), data)
    assert 0.4 * len(data) < len(share) < 0.6 * len(data)
    resampled = training_images(replace(TINY, train_share=0.5, resampling=Resampling("lp-rus", 20)), data)
    assert len(resampled) < len(share)
    assert set(resampled.names) < set(share.names)
    assert training_images(TINY, data) is data


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_weights_and_biases_gets_the_numbers(tmp_path, monkeypatch):
    """Without a network their library writes what it would send into the run folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe = replace(TINY, phases=(Phase(2, 64),))
    train(recipe, images(), images(6, seed=1), tmp_path, verbose=0, resources=Resources(track="wandb"))
    logs = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(logs) == 1
    content = logs[0].read_bytes()
    for name in (b"val_macro_auroc", b"learning_rate", b"embed_dims"):  # scores and the recipe
        assert name in content


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    """Steps so long that the weights leave float32."""
    recipe = replace(TINY, phases=(Phase(1, 64),), learning_rate=1e38, warmup_epochs=0)
    with pytest.raises(NonFiniteLoss, match="step"):
        train(recipe, images(), None, tmp_path, verbose=0)
    assert not list(tmp_path.glob("checkpoint*"))


def test_only_a_finished_run_can_be_loaded(tmp_path):
    with pytest.raises(RealMNetError, match=r"recipe\.json: no such file; expected the folder of a finished run"):
        load_run(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps(TINY.to_dict()))
    model = build_model(TINY, 96)
    model.save_weights(tmp_path / "weights.weights.h5")
    loaded, recipe = load_run(tmp_path)
    assert recipe.phases == TINY.phases
    probabilities = predict(loaded, images(5), 2)[PROBABILITIES]
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(
        probabilities, keras.ops.sigmoid(model(images(5).images.astype(np.float32))), rtol=1e-4, atol=1e-6
    )


def test_data_that_is_made_has_no_place():
    with pytest.raises(DataSetError, match="phantom data is made, not found"):
        with_data(load_recipe("smoke"), "/somewhere")
    assert with_data(TINY, "/somewhere").data == PalmDataSet("/somewhere")


def command(*args, cwd):
    root = Path(__file__).parents[3]
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
        (["fit", "--recipe", "smoke", "--out", "/dev/null"], "/dev/null: cannot be made a folder to write into"),
        (["phantom", "--out", "/dev/null/x"], "/dev/null/x: cannot be made a folder to write into"),
        (["report", "run", "--out", "/dev/null"], "/dev/null: cannot be made a folder to write into"),
        (
            ["evaluate", "run", "--bootstrap", "-5"],
            "Invalid value for '--bootstrap': Input should be greater than or equal to 0",
        ),
        (
            ["protocol", "cip", "--data", "x", "--bootstrap", "-5"],
            "Invalid value for '--bootstrap': Input should be greater than or equal to 0",
        ),
        (
            ["phantom", "--out", "x", "--seed", "-1"],
            "Invalid value for '--seed': Input should be greater than or equal to 0",
        ),
        (["phantom", "--out", "x", "--imbalance", "even"], "imbalance is one of psmm, balanced"),
    ],
)
def test_a_wrong_command_is_one_line(args, message, tmp_path):
    done = command(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("python -m training: error: ")
    assert done.stderr.count("\n") == 1


# ---- what fit does to a folder ----

QUICK = replace(TINY, phases=(Phase(1, 64),), batch_size=4, warmup_epochs=0)


@pytest.fixture
def palm(tmp_path):
    """PALM's layout with six training and four validation photographs."""
    rng = np.random.default_rng(0)
    for folder, names in (("train", ("N1", "N2", "H1", "H2", "P1", "P2")), ("val", ("N3", "H3", "P3", "P4"))):
        (tmp_path / "palm" / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(tmp_path / "palm" / folder / f"{name}.png"), rng.integers(60, 200, (64, 64, 3), np.uint8))
    return tmp_path / "palm"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("eager")
def test_starting_over_deletes_the_runs_own_files_and_no_other(tmp_path, palm):
    recipe, out = with_data(QUICK, str(palm)), tmp_path / "run"
    fit(recipe, out, cache=tmp_path / "cache")
    mine = {"my_labels.csv": "a,b\n", "notes.json": "{}", "my.weights.h5": "x", "other_scores.csv": "filename\n"}
    for name, text in mine.items():
        (out / name).write_text(text)
    first = contents(out)
    fit(replace(recipe, seed=7), out, cache=tmp_path / "cache", resume=False)
    second = contents(out)
    assert {name: second[name].decode() for name in mine} == mine
    assert second["weights.weights.h5"] != first["weights.weights.h5"]
    assert json.loads(second["recipe.json"])["seed"] == 7
    assert second["history.csv"].count(b"\n") == 2
    events = [name for name in second if "tfevents" in name and "train" in name]
    assert len(events) <= 1
    assert not set(events) & set(first)


@pytest.mark.parametrize("place", ["a_file", "a_file/run", "/proc/run", "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path, place):
    (tmp_path / "a_file").write_text("mine")
    recipe = with_data(QUICK, str(tmp_path / "no_data"))
    with pytest.raises(RealMNetError, match=rf"{place}: cannot be made a folder to write into \("):
        fit(recipe, tmp_path / place, cache=tmp_path / "cache")
    assert contents(tmp_path) == {"a_file": b"mine"}


def test_looking_whether_a_folder_can_be_made_leaves_none(tmp_path):
    with pytest.raises(RealMNetError, match="no_data"):
        fit(with_data(QUICK, str(tmp_path / "no_data")), tmp_path / "runs" / "one", cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_loses_nothing(tmp_path, palm):
    recipe, out = with_data(QUICK, str(palm)), tmp_path / "study"
    out.mkdir()
    for name in ("scores.json", "history.csv", "labels.csv"):
        (out / name).write_text("mine")
    before = contents(out)
    for resume in (False, True):
        with pytest.raises(RealMNetError, match=r"history\.csv: .*no recipe\.json"):
            fit(recipe, out, cache=tmp_path / "cache", resume=resume)
        assert contents(out) == before
    (out / "recipe.json").write_text('{"cake": ["flour", "eggs"]}')
    before = contents(out)
    for resume in (False, True):
        with pytest.raises(RealMNetError, match=r"recipe\.json: not a recipe"):
            fit(recipe, out, cache=tmp_path / "cache", resume=resume)
        assert contents(out) == before


@pytest.mark.parametrize("wrong", ["data", "weights", "batch", "devices"])
@pytest.mark.parametrize("before", ["no folder", "a finished run"])
def test_a_failed_start_changes_nothing(tmp_path, palm, wrong, before):
    good, out, resources = with_data(QUICK, str(palm)), tmp_path / "run", Resources()
    bad = {
        "data": with_data(good, str(tmp_path / "nowhere")),
        "weights": replace(good, weights=str(tmp_path / "nowhere.safetensors")),
        "batch": replace(good, batch_size=64),
        "devices": good,
    }[wrong]
    if before == "a finished run":
        out.mkdir()
        build_model(good, 64).save_weights(out / "weights.weights.h5")
        for name, text in {"recipe.json": json.dumps(good.to_dict()), "run.json": "{}", "scores.json": "{}"}.items():
            (out / name).write_text(text)
    kept = contents(out)
    if wrong == "devices":
        resources = Resources(devices=3)
    with pytest.raises(RealMNetError):
        fit(bad, out, cache=tmp_path / "cache", resume=False, resources=resources)
    assert contents(out) == kept
    if before == "no folder":  # a start that failed is no run: another recipe may follow
        with pytest.raises(RealMNetError, match=r"no such folder"):
            fit(replace(bad, seed=5, data=PalmDataSet(str(tmp_path / "nowhere"))), out, cache=tmp_path / "cache")


@pytest.mark.usefixtures("eager")
def test_an_unfinished_run_does_not_go_on_with_other_data(tmp_path, palm):
    recipe, out = replace(with_data(QUICK, str(palm)), phases=(Phase(2, 64),)), tmp_path / "run"
    fit(recipe, out, cache=tmp_path / "cache")
    for name in ("weights.weights.h5", "scores.json"):  # as if it had been interrupted after an epoch
        (out / name).unlink()
    model = compile_model(build_model(recipe, 64), recipe, 1)
    model.save_weights(out / "checkpoint-0001.weights.h5")
    before = contents(out)
    image = palm / "train" / "N1.png"
    original = image.read_bytes()
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8) + 90)
    with pytest.raises(RealMNetError, match=r"run\.json: .*other train images or labels"):
        fit(recipe, out, cache=tmp_path / "cache")
    image.write_bytes(original)
    (palm / "val" / "P3.png").unlink()
    with pytest.raises(RealMNetError, match=r"run\.json: .*other validation images or labels"):
        fit(recipe, out, cache=tmp_path / "cache")
    assert contents(out) == before
