from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.fitting.tiny_run import TINY, images
from training.fitting.loop import train
from training.recipe import Phase, Recipe
from training.runs import build_model, predict


def test_a_fit_with_fake_quantization_gives_plain_float_weights(tmp_path):
    data = images(16)
    plain = replace(TINY, phases=(Phase(1, 64),), warmup_epochs=0)
    recipe = replace(plain, fake_quantization="int8_pointwise")
    trained = train(recipe, data, None, tmp_path / "int8", verbose=0)
    plainly = train(plain, data, None, tmp_path / "float", verbose=0)
    moved = [
        float(np.abs(a - b).max()) for a, b in zip(trained.get_weights(), plainly.get_weights(), strict=True) if a.size
    ]
    assert 0 < max(moved) < 0.1  # rounding changed the training, a little
    rebuilt = build_model(recipe, recipe.image_size)
    rebuilt.set_weights(trained.get_weights())
    np.testing.assert_array_equal(
        predict(trained, data, 8)[PROBABILITIES], predict(rebuilt, data, 8)[PROBABILITIES]
    )  # nothing is rounded any more


def test_a_baseline_has_no_int8_artifact():
    with pytest.raises(ValueError, match="fake_quantization is for a RealMNet"):
        Recipe("baseline", preset="deit_b_384", fake_quantization="int8")
