"""What networks that grade start from and learn by; one beside a Lesion-Net looks at a run, never at random lesions."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.losses import softmax_crossentropy
from keras_realmnet.tasks.task import Task
from tests.training.tasks.vocabularies import SEVERITY, SPOTS, task
from training.datasets import registry
from training.fitting.start import compile_model, initial_model
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


def same(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_lesion_net_is_that_of_a_run_and_the_encoder_starts_as_without_it(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.DATA_SETS, Asked.kind, Asked)
    keras.utils.set_random_seed(0)
    lesion_net = write_run(LESIONS, tmp_path / "lesions")
    other = write_run(replace(LESIONS, preset="lesion_net_16s"), tmp_path / "other")

    recipe = replace(GRADES, lesion_run=str(tmp_path / "lesions"), weights=str(tmp_path / "other"))
    model = initial_model(recipe, 32)
    assert same(model.get_layer("lesion_net"), lesion_net)
    assert same(model.get_layer("encoder"), other.get_layer("encoder"))

    guided = write_run(recipe, tmp_path / "guided")  # whose Lesion-Net may serve others
    model = initial_model(replace(recipe, lesion_run=str(tmp_path / "guided")), 32)
    assert same(model.get_layer("lesion_net"), guided.get_layer("lesion_net"))


def test_without_a_trained_lesion_net_it_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.DATA_SETS, Asked.kind, Asked)
    with pytest.raises(RealMNetError, match=r"grading_lesion_max looks at .* Received: lesion_run=None"):
        initial_model(replace(GRADES, weights="imagenet"), 32)
    with pytest.raises(RealMNetError, match=r"nowhere/recipe.json: no such file"):
        initial_model(replace(GRADES, lesion_run=str(tmp_path / "nowhere")), 32)
    plain = replace(LESIONS, data=Asked("dr"), preset="grading_plain")
    write_run(plain, tmp_path / "plain")
    with pytest.raises(RealMNetError, match=r"Received: .*plain, a run of grading_plain"):
        initial_model(replace(GRADES, lesion_run=str(tmp_path / "plain")), 32)
    with pytest.raises(ValueError, match=r"lesion_run is for grading_lesion_concat, .* Received: 'r' for 'grading_pl"):
        replace(plain, lesion_run="r")


def test_an_attention_branch_learns_the_same_truth():
    recipe = replace(LESIONS, data=Asked("dr"), preset="grading_abn", loss_weights={"dr": 0.5})
    model = compile_model(build_model(recipe, 32), recipe, 1)
    rng, truth = np.random.default_rng(0), np.eye(3, dtype="float32")[[0, 2]]
    said = {end: rng.normal(size=(2, 3)).astype("float32") for end in model.output}
    of_each = [float(softmax_crossentropy(truth, values)) for values in said.values()]
    assert len(of_each) == 2
    assert float(model.compute_loss(y={"dr": truth}, y_pred=said)) == pytest.approx(0.5 * sum(of_each), rel=1e-5)
