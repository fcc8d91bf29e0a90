"""A network that grades beside a Lesion-Net starts from a run of that, never from random lesions."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.task import Task
from tests.training.tasks.vocabularies import SEVERITY, SPOTS, task
from training.datasets import registry
from training.fitting.start import initial_model
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.runs import build_model


@dataclass(frozen=True)
class Asked:
    """Nothing but the question."""

    kind: ClassVar[str] = "asked"

    name: str

    @property
    def task(self) -> Task:
        return task(spots=SPOTS) if self.name == "spots" else task(dr=SEVERITY)


LESIONS = Recipe(
    name="lesions",
    data=Asked("spots"),
    preset="lesion_net_32s",
    model_options={"encoder": "mobilenet_v2"},
    phases=(Phase(1, 32),),
    augmentation=Augmentation(mixup=0, cutmix=0),
)
GRADES = replace(
    LESIONS,
    name="grades",
    data=Asked("dr"),
    preset="grading_lesion_max",
    model_options={"encoder": "mobilenet_v2", "lesions": 3, "lesion_stride": 32},
)


def write_run(recipe, folder):
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    model = build_model(recipe, 32)
    model.save_weights(folder / "weights.weights.h5")
    return model


def test_it_starts_from_a_trained_lesion_net(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.DATA_SETS, Asked.kind, Asked)
    keras.utils.set_random_seed(0)
    lesion_net = write_run(LESIONS, tmp_path / "lesions")
    model = initial_model(replace(GRADES, weights=str(tmp_path / "lesions")), 32)
    parts = {"lesion_net": lesion_net, "encoder": lesion_net.get_layer("encoder")}
    for name, theirs in parts.items():
        for a, b in zip(model.get_layer(name).get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for weights in (None, "imagenet", str(tmp_path / "nowhere")):
        with pytest.raises(
            RealMNetError, match=r"grading_lesion_max looks at .*: weights must be .* Received: weights="
        ):
            initial_model(replace(GRADES, weights=weights), 32)
    write_run(replace(LESIONS, data=Asked("dr"), preset="grading_plain"), tmp_path / "plain")
    with pytest.raises(RealMNetError, match=r"Received: .*plain, a run of grading_plain"):
        initial_model(replace(GRADES, weights=str(tmp_path / "plain")), 32)
