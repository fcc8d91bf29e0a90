from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_realmnet import losses
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.network import Network
from tests.training.fitting.tiny_run import TINY, images
from training.fitting.best import best_epoch, best_path, drops, rate_after, stops
from training.fitting.callbacks import LowerLearningRate
from training.fitting.history import History, history_columns, read_history
from training.fitting.loop import train
from training.fitting.start import compile_model
from training.recipe import Phase

TASK = TINY.data.task
KEEPING = replace(TINY, phases=(Phase(4, 64),), keep="val_map", patience=2, validation_loss=True)


def rows(*values, column="val_map"):
    return [{"epoch": str(k + 1), column: value} for k, value in enumerate(values)]


def test_the_first_of_the_best_epochs_is_kept():
    assert best_epoch(rows(0.2, "0.5", 0.5, 0.1), KEEPING, TASK) == 2
    assert best_epoch(rows("", 0.5, "", 0.7), KEEPING, TASK) == 4
    assert best_epoch(rows("", ""), KEEPING, TASK) is None
    assert best_epoch(rows(0.2, 0.5), replace(KEEPING, keep=None, patience=None), TASK) is None
    lower = replace(KEEPING, keep="val_loss")
    assert best_epoch(rows(3.0, 1.0, 2.0, column="val_loss"), lower, TASK) == 2
    two_sizes = replace(KEEPING, phases=(Phase(2, 32), Phase(2, 64)))
    assert best_epoch(rows(0.9, 0.8, 0.1, 0.2), two_sizes, TASK) == 4  # figures at another size do not count
    assert best_epoch(rows(0.9, 0.8), two_sizes, TASK) is None


def test_training_stops_when_patience_is_over():
    assert not stops(rows(0.5, 0.4), KEEPING, TASK)
    assert stops(rows(0.5, 0.4, 0.5), KEEPING, TASK)
    assert not stops(rows(0.5, 0.4, "", 0.6), KEEPING, TASK)
    assert not stops(rows(0.5, "", ""), KEEPING, TASK)  # epochs that were not validated
    assert not stops(rows(0.5, 0.1, 0.1, 0.1), replace(KEEPING, patience=None), TASK)


FALLING = replace(
    KEEPING,
    phases=(Phase(8, 64),),
    patience=None,
    drop_after=2,
    loss_options_after_drop={"gamma_neg": 0.0},
    momentum=0.95,
    learning_rate=0.1,
    ema_momentum=None,
)
SERIES = (0.5, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6)  # a fall after the third, another after the sixth


def test_the_learning_rate_falls_when_there_is_no_gain():
    fallen = [drops(rows(*SERIES[:count]), FALLING, TASK) for count in range(8)]
    assert fallen == [0, 0, 0, 1, 1, 1, 2, 2]
    assert drops(rows(0.5, "", "", 0.4), FALLING, TASK) == 0  # epochs that were not validated
    assert drops(rows(*SERIES), replace(FALLING, drop_after=None, loss_options_after_drop={}), TASK) == 0


def test_the_learning_rate_begins_anew_where_it_would_fall_below_the_least():
    """REFUGE2's schedule with two validations instead of ten: of a series without gain it goes down and up again."""
    recipe = replace(FALLING, learning_rate=0.01, restart_below=1e-4)
    rates = [rate_after(drops(rows(*[0.5] * count), recipe, TASK), recipe) for count in range(1, 12)]
    steps = [0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4, 0.01, 0.01, 0.001, 0.001, 1e-4]
    np.testing.assert_allclose(rates, steps, rtol=1e-12)
    between = replace(recipe, restart_below=5e-4)
    np.testing.assert_allclose([rate_after(k, between) for k in range(4)], [0.01, 0.001] * 2, rtol=1e-12)
    without = replace(recipe, restart_below=None)
    assert rate_after(5, without) == pytest.approx(1e-7)


class Scripted(keras.callbacks.Callback):
    """Says `SERIES`, and keeps the weights that each epoch began with."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_begin(self, epoch, logs=None):
        self.weights.append([np.array(weight) for weight in weights_of(self.model)])

    def on_epoch_end(self, epoch, logs=None):
        logs["val_map"] = SERIES[epoch]


def linear():
    images = keras.Input((2, 2, 3))
    return Network(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))


def test_a_fall_lowers_the_learning_rate_and_changes_the_loss_of_a_compiled_step(tmp_path):
    keras.utils.set_random_seed(0)
    model = compile_model(linear(), FALLING, steps_per_epoch=1)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.momentum == 0.95
    rng = np.random.default_rng(0)
    x, y_true = rng.normal(size=(4, 2, 2, 3)).astype("float32"), rng.integers(0, 2, (4, 3)).astype("float32")
    history = History(tmp_path, 0, history_columns(FALLING, TASK))
    scripted = Scripted()
    callbacks = [scripted, history, LowerLearningRate(FALLING, TASK, history)]
    model.fit(x, y_true, batch_size=4, epochs=7, shuffle=False, callbacks=callbacks, verbose=0)
    rates = [row["learning_rate"] for row in history.rows]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001], rtol=1e-5)
    model = linear()
    for epoch, (weights, row) in enumerate(zip(scripted.weights, history.rows, strict=True)):
        model.set_weights(weights)
        loss = losses.AsymmetricLoss(gamma_neg=4.0 if epoch < 3 else 0.0)
        assert row["loss"] == pytest.approx(float(loss(y_true, model(x))), rel=1e-4)

    again = replace(FALLING, restart_below=0.01)  # the second fall, to 0.001, begins anew
    restarted = LowerLearningRate(again, TASK, History(tmp_path, 7, history_columns(again, TASK)))
    restarted.set_model(compile_model(linear(), again, steps_per_epoch=1))
    restarted.on_epoch_begin(7)
    assert float(restarted.model.optimizer.learning_rate) == pytest.approx(0.1)

    resumed = LowerLearningRate(FALLING, TASK, History(tmp_path, 7, history_columns(FALLING, TASK)))
    resumed.set_model(compile_model(linear(), FALLING, steps_per_epoch=1))
    resumed.on_epoch_begin(7)
    assert float(resumed.model.optimizer.learning_rate) == pytest.approx(0.001)
    assert resumed.model.loss.get_config()["gamma_neg"] == 0


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C after the steps of an epoch, before its checkpoint."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            raise KeyboardInterrupt


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.get_weights()]


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_run_that_keeps_its_best_epoch_survives_an_interruption(tmp_path):
    """Whatever the figures are: the weights are those of the best epoch, and a killed run ends with the same."""
    data, validation = images(), images(6, seed=1)
    seen = {}

    class Averages(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen[epoch + 1] = [np.array(v) for v in self.model.optimizer._model_variables_moving_average]

    whole = train(KEEPING, data, validation, tmp_path / "whole", verbose=0, callbacks=[Averages()])
    history = read_history(tmp_path / "whole", 4)
    best = best_epoch(history, KEEPING, TASK)
    assert best_path(tmp_path / "whole", best).is_file()
    if best < 4 and len(history) < 4:
        assert stops(history, KEEPING, TASK)
    assert all(float(row["val_loss"]) > 0 for row in history)
    for average, variable in zip(seen[best], whole.trainable_variables, strict=True):
        np.testing.assert_array_equal(average, keras.ops.convert_to_numpy(variable))

    with pytest.raises(KeyboardInterrupt):
        train(KEEPING, data, validation, tmp_path / "broken", verbose=0, callbacks=[Interrupt(len(history))])
    stale = best_path(tmp_path / "broken", len(history) + 1)
    stale.write_bytes(b"of an epoch that was best and is to be repeated")
    resumed = train(KEEPING, data, validation, tmp_path / "broken", verbose=0)
    assert not stale.exists()
    for a, b in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    again = read_history(tmp_path / "broken", 4)
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in history]


def test_without_validation_images_no_epoch_is_the_best(tmp_path):
    with pytest.raises(RealMNetError, match="keep='val_map' needs validation images"):
        train(KEEPING, images(), None, tmp_path, verbose=0)
