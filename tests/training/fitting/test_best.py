from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from tests.training.fitting.tiny_run import TINY, images
from training.fitting.best import best_epoch, best_path, stops
from training.fitting.history import read_history
from training.fitting.loop import train
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
