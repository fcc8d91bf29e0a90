"""The shipped bundle, and a run of its network, calibrated on a few drawn patients: what is written decides."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from export.bundling.calibrating import calibrate_bundle, measure_bundle, write_calibration
from export.contract.keras_source import load_source
from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import refit
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.rules import AnyAbove, GradeByCost, OperatingPoint
from training.calibrating.fitting import Settings
from training.calibrating.runs import calibrate_run
from training.datasets.made.phantom import PhantomDataSet
from training.recipes.phantom import phantom_5m_224
from training.runs import fitted_task, read_task, recipe_json

SHIPPED = Path(__file__).parents[3] / "bundles" / "realmnet-demo"
DATA = PhantomDataSet(train_patients=1, validation_patients=24, test_patients=6, width=128)
# What so few patients allow.
SETTINGS = Settings(sensitivity=0.5, confidence=0.7, coverage=0.7, risk=0.5, methods=("temperature", "platt"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    pytest.importorskip("mapie", reason="mapie is not installed")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, cache):
    """A copy without the Keras model and without measured bounds: bundle.json, golden.npz, int8.tflite."""
    folder = tmp_path_factory.mktemp("bundle") / "demo"
    folder.mkdir()
    for name in ("bundle.json", "golden.npz", "int8.tflite"):
        shutil.copy(SHIPPED / name, folder)
    return Bundle.load(folder)


def test_a_bundle_is_calibrated_by_its_own_engine(bundle, cache):
    fitting, measured = calibrate_bundle(bundle, DATA, SETTINGS, cache, 0, splits=2)
    assert isinstance(fitting.task.rule, GradeByCost)
    assert set(measured["test"]) == {"int8"}  # the files of the others are not there
    found = measured["test"]["int8"]
    assert found["patients"] == 6
    assert found["outputs"]["probabilities"]["before"]["ece"]["value"] < 0.2
    assert ("after" in found["outputs"]["probabilities"]) == bool(fitting.task.fitted.calibration)
    assert measured["splits"]["splits"] == 2
    assert (
        measure_bundle(bundle, DATA, cache, 0)["int8"]["outputs"]["probabilities"]["before"]
        == (found["outputs"]["probabilities"]["before"])
    )

    made = write_calibration(bundle, fitting, measured, "calibrated")
    assert made.version == "calibrated"
    assert bundle.task.reference.outcomes
    assert made.task.reference.outcomes == {}  # they were counted by the rule before
    assert made.task == replace(fitting.task, reference=made.task.reference)
    assert made.digest != bundle.digest
    assert {a.sha256 for a in made.artifacts.values()} == {a.sha256 for a in bundle.artifacts.values()}
    assert made.scores["calibration and decisions"]["test"]["int8"]["patients"] == 6
    assert "pathologic_auroc" in made.scores["test"]
    assert not {"sensitivity", "specificity"} & set(made.scores["test"])  # of the rule before
    self_check(made, open_runtime(made))
    with pytest.raises(RealMNetError, match="was changed since it was read"):
        refit(bundle, fitting.task, {}, "again")
    with pytest.raises(ValueError, match="with another rule or other needs alone"):
        refit(made, replace(made.task, modality="colour_fundus"), {}, "again")


def test_nothing_is_chosen_on_what_is_reported(bundle, cache):
    class Same(PhantomDataSet):
        def load(self, split, spec, cache):
            return super().load("test", spec, cache)

    with pytest.raises(DataSetError, match="6 patients are in validation and test"):
        calibrate_bundle(bundle, Same(**vars(DATA)), SETTINGS, cache, 0)


@pytest.mark.slow
def test_a_run_is_calibrated_and_its_bundle_takes_it_in(tmp_path, cache):
    """The shipped network as a run: what is fitted is of its weights, and is read again with the run."""
    run = tmp_path / "run"
    run.mkdir()
    recipe = replace(phantom_5m_224.RECIPE, data=DATA, weights=None, mixed_precision=False)
    shipped = Bundle.load(SHIPPED)
    load_source(shipped).save_weights(run / "weights.weights.h5")
    (run / "recipe.json").write_text(json.dumps(recipe_json(recipe)))
    thresholds = OperatingPoint(dict.fromkeys(DATA.task.trained["probabilities"].labels.pathologic, 0.5), "by hand")
    task = replace(DATA.task, rule=AnyAbove("probabilities", thresholds))
    (run / "task.json").write_text(json.dumps(task.to_dict()))
    assert fitted_task(run) == read_task(run) == task

    result = calibrate_run(run, SETTINGS, cache=cache, replicates=0)
    fitted = fitted_task(run)
    assert fitted.rule.to_dict() == result["rule"]
    assert fitted.fitted == Fitted.from_dict(result["fitted"])
    assert read_task(run) == task  # what the network answers by itself
    assert json.loads((run / "calibration.json").read_text())["test"]["patients"] == 6

    model = keras.saving.load_model(SHIPPED / "source.keras")
    model.set_weights([np.asarray(each) + 0.01 for each in model.get_weights()])
    model.save_weights(run / "weights.weights.h5")
    with pytest.raises(RealMNetError, match="fitted for other weights"):
        fitted_task(run)
