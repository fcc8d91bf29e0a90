"""The recipe for the boundary of ultra-widefield pictures learns, at a tiny size, as it is run."""

from dataclasses import replace

import numpy as np
import pytest

from training.fitting.fit import fit
from training.recipe import Phase, load_recipe
from training.runs import read_task

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.usefixtures("eager")]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Pictures are drawn here: another process takes longer to start than they take."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def test_the_small_network_learns(tmp_path):
    recipe = load_recipe("boundary_lite")
    data = replace(recipe.data, train_patients=1, validation_patients=1, test_patients=1, width=96)
    recipe = replace(recipe, data=data, phases=(Phase(1, 32),), batch_size=4, ema_momentum=None, warmup_epochs=0)
    scores = fit(recipe, tmp_path / "run", cache=tmp_path / "cache")["scores"]
    assert list(read_task(tmp_path / "run").trained) == ["boundary"]
    assert np.isfinite([scores[each]["value"] for each in ("pixel_accuracy", "pixel_iou", "pixel_iou_two")]).all()
