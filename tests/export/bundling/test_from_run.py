"""A bundle of a network that learned from all pictures there are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from export.bundling.from_run import _Run, bundle_from_run
from keras_realmnet.screening.preprocessing import PreprocessSpec
from tests.made_networks import Some
from training.datasets import registry
from training.datasets.image_set import ImageSet
from training.fitting.fit import fit
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe


@dataclass(frozen=True)
class AllTrain(Some):
    kind: ClassVar[str] = "all_train"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        return super().load(split, spec, cache) if split == "train" else None


def test_training_images_measure_and_calibrate_where_none_is_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.DATA_SETS, AllTrain.kind, AllTrain)
    recipe = Recipe(
        name="tiny",
        data=AllTrain(("disc",)),
        preset="edge_lite0",
        phases=(Phase(1, 64),),
        batch_size=6,
        warmup_epochs=0,
        drop_path_rate=0.0,
        augmentation=Augmentation(mixup=0, cutmix=0),
    )
    run = tmp_path / "run"
    assert fit(recipe, run) == {}
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    bootstrap = {"interval": "95 %", "replicates": 9, "unit": "patient"}
    part = {"data": "cross-validation in 5 folds: discs", "images": 12, "scores": {"dice": interval}}
    folds = {"parts": [{**part, "bootstrap": bootstrap}], "operating_points": {}}
    (run / "cross_validation.json").write_text(json.dumps(folds))
    bundle, parity = bundle_from_run(run, tmp_path / "bundle", artifacts=("float32",), keep_source=False)
    assert bundle.scores["test data"] == "none: all pictures trained"
    assert "test" not in bundle.scores
    assert bundle.scores[part["data"]] == {
        "pictures": 12,
        "intervals": "95 %, 9 resamples by patient",
        "dice": "0.5000 (0.2500–0.7500)",
    }
    assert set(parity) == {"float32"}
    read, train = _Run.read(run), recipe.data.load("train", recipe.spec(), Path("data/cache"))
    np.testing.assert_array_equal(read.images.pixels, train.images[1::2])
    np.testing.assert_array_equal(read.calibration, train.images[::2])
