"""A run's test pictures on the way of the box: against its steps, one by one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.quality import assess, margin
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.rules import AnyAbove, GradeFrom, OperatingPoint
from keras_realmnet.tasks.task import PROBABILITIES
from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.fitting.tiny_run import TINY
from tests.training.tasks.vocabularies import task as task_of
from tests.training.tasks.vocabularies import vocabulary
from training.datasets.found.palm import PalmDataSet
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.originals import originals_of_test
from training.recipe import Phase
from training.runs import TASK_FILE, build_model
from training.scoring.clinic.run_pictures import judge_test_pictures, referable


def write_run(folder, data, task):
    recipe = replace(TINY, data=data, phases=(Phase(1, 64),), batch_size=4)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    (folder / TASK_FILE).write_text(json.dumps(task.to_dict()))
    model = build_model(recipe, 64)
    model.save_weights(folder / "weights.weights.h5")
    return model, recipe


def test_a_run_s_test_pictures_are_judged_and_decided_as_on_the_box(tmp_path):
    data = PhantomDataSet(train_patients=1, validation_patients=0, test_patients=1, width=320)
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.6), "chosen by hand")
    model, recipe = write_run(tmp_path, data, replace(data.task, rule=AnyAbove(PROBABILITIES, point)))
    found = judge_test_pictures(tmp_path, cache=tmp_path)
    cases, owners = data.cases("test")
    assert [each.patient for each in found] == owners
    assert {each.eye for each in found} <= {"OD", "OS"}
    for each, case in zip(found, cases, strict=True):
        image = case.render(320).image
        quality = assess(image, None, "uwf_red_green")
        assert each.margin == margin(quality.measures, "uwf_red_green")
        square = preprocess(image, recipe.spec())[0]
        said = 1 / (1 + np.exp(-model.predict(square[None].astype(np.float32), verbose=0)[0]))
        outcome = "refer" if (said[PSMM.pathologic_columns] >= 0.6).any() else "negative"
        assert each.outcome == (outcome if quality.verdict == "gradable" else quality.verdict)
        assert each.referable == bool(np.array(case.labels)[PSMM.pathologic_columns].any())


def test_a_run_that_was_not_evaluated_has_no_rule_yet(tmp_path):
    data = PhantomDataSet(train_patients=1, validation_patients=0, test_patients=1, width=96)
    write_run(tmp_path, data, data.task)
    with pytest.raises(DataSetError, match="the run has no rule yet"):
        judge_test_pictures(tmp_path, cache=tmp_path)


def test_what_is_to_be_referred_follows_from_the_rule_and_the_truth():
    grades, labels = vocabulary("dr", "r0", "r1", "r2"), vocabulary("lesions", "he", "dr")
    task = replace(task_of(dr=Grades(grades), lesions=Labels(labels)), rule=GradeFrom("dr", "r1", "by hand"))
    nothing = np.nan
    truth = {
        "dr": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [nothing] * 3], np.float32),
        "lesions": np.array([[1, 1]] * 4, np.float32),  # the rule does not look at them
    }
    images = ImageSet(np.zeros((4, 8, 8, 3), np.uint8), truth, tuple("abcd"), tuple("abcd"), task, "0")
    np.testing.assert_array_equal(referable(task, images), [0, 1, 1, nothing])
    unknown = replace(PalmDataSet().task, rule=AnyAbove(PROBABILITIES, OperatingPoint({"P": 0.5}, "by hand")))
    rows = np.array([[nothing, nothing, 0], [0, 0, 1], [nothing] * 3], np.float32)
    images = ImageSet(np.zeros((3, 8, 8, 3), np.uint8), {PROBABILITIES: rows}, tuple("abc"), tuple("abc"), unknown, "0")
    np.testing.assert_array_equal(referable(unknown, images), [0, 1, nothing])


def test_data_without_originals_say_so(tmp_path):
    data = PhotographDataSet(train_eyes=1, validation_eyes=0, test_eyes=1, width=64)
    with pytest.raises(DataSetError, match="no originals that could be judged"):
        list(originals_of_test(data, TINY.spec(), tmp_path))
