"""What networks start from and learn by; one with a part that is trained before looks at a run, never at random."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.losses import softmax_crossentropy
from keras_realmnet.tasks.outputs import Labels, Masks
from keras_realmnet.tasks.task import Task
from tests.training.tasks.vocabularies import SEVERITY, SPOTS, task, vocabulary
from training.datasets import registry
from training.fitting.start import compile_model, initial_model
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe, load_recipe
from training.runs import build_model

pytestmark = pytest.mark.usefixtures("short_encoders")

SPOT = Masks(vocabulary("spots", "ma"))


@dataclass(frozen=True)
class Asked:
    """Nothing but the question."""

    kind: ClassVar[str] = "asked"

    name: str

    @property
    def task(self) -> Task:
        outputs = {"spots": SPOTS, "spot": SPOT, "dr": SEVERITY, "he": Labels(vocabulary("findings", "he", "ex"))}
        return task(**{self.name: outputs[self.name]})


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


def write_run(recipe, folder, size=32):
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    model = build_model(recipe, size)
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


def test_the_vessels_that_disc_and_cup_look_at_are_those_of_a_run(tmp_path, monkeypatch):
    """Of a GAN those of the network that tells them, not of what it plays against."""
    monkeypatch.setitem(registry.DATA_SETS, Asked.kind, Asked)
    sees = {"preset": "vessel_unet", "image_size": 64, "options": {"filters": 2}}
    vessels = replace(LESIONS, data=Asked("spot"), preset="vessel_gan_pixel", model_options={"filters": 2})
    vessels = replace(vessels, phases=(Phase(1, 64),))
    encoders = dict.fromkeys(("fundus_encoder", "vessel_encoder"), "mobilenet_v2")
    recipe = replace(vessels, preset="refuge_disc_cup", model_options={**encoders, "vessels": sees})
    with pytest.raises(RealMNetError, match=r"refuge_disc_cup looks at .* of vessels tells: part_run .*part_run=None"):
        initial_model(recipe, 64)
    trained = write_run(vessels, tmp_path / "gan", 64)
    recipe = replace(recipe, part_run=str(tmp_path / "gan"))
    assert recipe.frozen_run == (str(tmp_path / "gan"), "network of vessels")
    model = initial_model(recipe, 64)
    told = keras.Model(trained.inputs, trained.outputs)
    assert same(model.get_layer("vessels"), told)
    assert not model.get_layer("vessels").trainable_variables
    with pytest.raises(
        ValueError, match=r"part_run is for a network with a frozen part: .* Received: 'r' for 'grading_lesion_m"
    ):
        replace(GRADES, part_run="r")


def test_the_findings_that_glaucoma_looks_at_are_those_of_a_run(tmp_path, monkeypatch):
    """With the same normalization, which has no weights by which another network would be known."""
    monkeypatch.setitem(registry.DATA_SETS, Asked.kind, Asked)
    small = {"filters": 2, "blocks": 0, "branch_filters": 2}
    findings = replace(LESIONS, data=Asked("he"), preset="refuge_findings", model_options=small, phases=(Phase(1, 64),))
    recipe = replace(findings, preset="refuge_glaucoma")
    with pytest.raises(RealMNetError, match=r"refuge_glaucoma looks at .* of findings tells: part_run .*part_run=None"):
        initial_model(recipe, 64)
    trained = write_run(findings, tmp_path / "findings", 64)
    recipe = replace(recipe, part_run=str(tmp_path / "findings"))
    assert recipe.frozen_run == (str(tmp_path / "findings"), "network of findings")
    model = initial_model(recipe, 128)
    assert same(model.get_layer("findings"), trained.get_layer("findings"))
    assert len(model.trainable_variables) == 2
    other = replace(recipe, model_options={**small, "normalization": "local_mean"})
    with pytest.raises(RealMNetError, match=r"findings: its network of findings is another one than model_options say"):
        initial_model(other, 64)


def test_points_have_the_loss_of_their_network():
    with pytest.raises(ValueError, match=r"edge_lite0 learns points by ConfidenceOffsets\. Received: 'EuclideanDi"):
        replace(load_recipe("fovea_offsets_lite"), loss=None)
    with pytest.raises(ValueError, match=r"edge_lite0 learns points by EuclideanDistance\. Received: 'ConfidenceOff"):
        replace(load_recipe("fundus_landmarks"), loss={"landmarks": "ConfidenceOffsets"})


def test_an_attention_branch_learns_the_same_truth():
    recipe = replace(LESIONS, data=Asked("dr"), preset="grading_abn", loss_weights={"dr": 0.5})
    model = compile_model(build_model(recipe, 32), recipe, 1)
    rng, truth = np.random.default_rng(0), np.eye(3, dtype="float32")[[0, 2]]
    said = {end: rng.normal(size=(2, 3)).astype("float32") for end in model.output}
    of_each = [float(softmax_crossentropy(truth, values)) for values in said.values()]
    assert len(of_each) == 2
    assert float(model.compute_loss(y={"dr": truth}, y_pred=said)) == pytest.approx(0.5 * sum(of_each), rel=1e-5)
