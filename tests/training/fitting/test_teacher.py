"""A network that learns from another one: what it is told, what the cache keeps, which teachers are refused."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_realmnet import losses
from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.scoring.test_folds import untrained
from tests.training.studies import test_ensembles
from training.datasets.cross_validation import CrossValidation
from training.datasets.made.phantom import PhantomDataSet
from training.fitting.fit import fit
from training.fitting.run_folder import check_same_data, learned_from
from training.fitting.start import compile_model
from training.fitting.teacher import with_teacher
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches
from training.recipe import Phase, Recipe, load_recipe, override
from training.runs import build_model, load_run, patients_learned, predict
from training.studies.ensembles import write_ensemble

pytestmark = pytest.mark.usefixtures("eager")

DRAWN = PhantomDataSet(train_patients=6, validation_patients=2, test_patients=2, width=96)
TINY = replace(test_ensembles.TINY, data=DRAWN)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, cache):
    """The run folder of an ensemble of two networks, which expect every other label."""
    root = tmp_path_factory.mktemp("teacher")
    runs = [untrained(root / f"{seed}", replace(TINY, seed=seed), seed) for seed in (1, 2)]
    for run in runs:
        model = load_run(run)[0]
        for k, code in enumerate(PSMM.codes):
            model.get_layer(f"{code}_map").bias.assign([2.0 if k % 2 else -2.0])
        model.save_weights(run / "weights.weights.h5")
    write_ensemble(runs, root / "ensemble", cache=cache, replicates=2)
    return root / "ensemble"


def loaded(recipe, cache):
    return recipe.data.load("train", recipe.spec(), cache)


def test_it_is_told_the_teachers_probabilities_at_the_temperature(teacher, cache, capsys):
    recipe = replace(TINY, teacher=str(teacher), teacher_temperature=3.0)
    data = with_teacher(recipe, loaded(recipe, cache), cache)
    p = predict(load_run(teacher)[0], data, 4)["probabilities"].astype("float64")
    expected = 1 / (1 + ((1 - p) / p) ** (1 / 3))  # of the logit log(p / (1 − p)), divided by 3
    np.testing.assert_allclose(data.taught["probabilities"], expected, atol=1e-5)
    assert np.ptp(data.taught["probabilities"]) > 1e-3
    np.testing.assert_array_equal(
        data.select(np.array([2, 0, 0])).taught["probabilities"], data.taught["probabilities"][[2, 0, 0]]
    )
    assert "tells of" in capsys.readouterr().out
    with_teacher(replace(recipe, teacher_temperature=1.0), loaded(recipe, cache), cache)  # another student
    assert "tells of" not in capsys.readouterr().out
    assert len(list(cache.glob("teacher-*/logits.npz"))) == 1


def test_at_another_size_the_teacher_sees_its_own(teacher, cache):
    recipe = replace(TINY, teacher=str(teacher))
    larger = replace(recipe, phases=(Phase(1, 96),))
    told = [with_teacher(each, loaded(each, cache), cache).taught["probabilities"] for each in (recipe, larger)]
    np.testing.assert_array_equal(*told)


def test_the_loss_of_a_batch_is_that_of_both(teacher, cache):
    recipe = replace(TINY, teacher=str(teacher), teacher_weight=0.25)
    data = with_teacher(recipe, loaded(recipe, cache), cache)
    batches = TrainingBatches(data, 64, 4, recipe.augmentation, seed=0, named=True)
    _, truth = batches[0]
    batches.close()
    labels, soft = (truth["probabilities"][:, k] for k in range(2))
    assert labels.shape == soft.shape == (4, 7)
    model = compile_model(build_model(recipe, 64), recipe, 1)
    said = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    told = np.mean(keras.ops.convert_to_numpy(losses.distillation(soft, said, 2.0)))
    expected = 0.75 * float(losses.AsymmetricLoss()(labels, said)) + 0.25 * told
    found = model.compute_loss(y=truth, y_pred={"probabilities": keras.ops.convert_to_tensor(said)})
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_what_is_mixed_is_told_as_it_is_mixed(cache):
    data = loaded(TINY, cache)
    data = replace(data, taught=dict(data.truth))  # a teacher who knows the truth
    batches = TrainingBatches(data, 64, 4, replace(Augmentation.none(), mixup=1.0), seed=0)
    truth = np.concatenate([batches[k][1] for k in range(len(batches))])
    batches.close()
    np.testing.assert_array_equal(truth[:, 0], truth[:, 1])
    assert ((truth > 0) & (truth < 1)).any()


@pytest.mark.slow
def test_a_student_comes_to_say_what_its_teacher_says(teacher, cache, tmp_path):
    """From the teacher alone, in a few steps, in a run that is scored as another one's is."""
    recipe = replace(
        TINY,
        teacher=str(teacher),
        teacher_weight=1.0,
        phases=(Phase(3, 64),),
        learning_rate=0.1,
        warmup_epochs=0,
        final_learning_rate=0.05,
    )
    assert fit(recipe, tmp_path / "student", cache)["images"] > 0
    images = loaded(recipe, cache)
    keras.utils.set_random_seed(recipe.seed)
    models = load_run(teacher)[0], build_model(recipe, 64), load_run(tmp_path / "student")[0]
    told, before, after = (predict(model, images, 4)["probabilities"] for model in models)
    assert np.abs(after - told).mean() < 0.5 * np.abs(before - told).mean()
    facts = json.loads((tmp_path / "student" / "run.json").read_text())
    assert "; its teacher: 6 synthetic patients" in facts["training_data"] == learned_from(recipe)
    with pytest.raises(RealMNetError, match=r"the run began with other weights of its teacher than there are now"):
        check_same_data(
            tmp_path / "student" / "run.json", {"data_sha256": {**facts["data_sha256"], "teacher": "another"}}
        )


def test_teachers_that_cannot_teach_are_refused(teacher, cache, tmp_path):
    def refused(recipe, match):
        with pytest.raises(RealMNetError, match=match):
            fit(recipe, tmp_path / "out", cache)
        assert not list((tmp_path / "out").glob("*"))

    nowhere = replace(TINY, teacher=str(tmp_path / "nowhere"))
    refused(nowhere, r"nowhere/recipe\.json: no such file; expected the folder of a finished run")
    other = shutil.copytree(teacher, tmp_path / "other")
    task = json.loads((other / "task.json").read_text())
    (other / "task.json").write_text(json.dumps({**task, "modality": "colour_fundus"}))
    refused(
        replace(TINY, teacher=str(other)),
        r"other: the teacher answers probabilities \(labels S0, .*\) of colour_fundus; expected .* of uwf_red_green",
    )


def test_a_teacher_has_not_learned_from_what_is_held_out(cache, tmp_path):
    """Nor has a member of an ensemble."""
    folds = [CrossValidation(DRAWN, (k, 2)) for k in (1, 2)]
    runs = [untrained(tmp_path / f"{k}", replace(TINY, data=each), k) for k, each in enumerate(folds)]
    write_ensemble(runs, tmp_path / "both", cache=cache)
    for run in (runs[1], tmp_path / "both"):
        student = replace(TINY, data=folds[0], teacher=str(run))
        with pytest.raises(RealMNetError, match=r": the teacher learned from pictures of patients who are held out h"):
            fit(student, tmp_path / "out", cache)


def test_what_a_teacher_was_taught_counts_as_learned(cache, tmp_path, capfd):
    """From teacher to student to student, and from the members of an ensemble that one of them taught."""
    folds = [CrossValidation(DRAWN, (k, 2)) for k in (1, 2)]
    first = untrained(tmp_path / "first", replace(TINY, data=folds[0]), 0)
    student = untrained(tmp_path / "student", replace(TINY, data=folds[1], teacher=str(first)), 1)
    other = untrained(tmp_path / "other", replace(TINY, data=folds[1]), 2)
    theirs, own = (patients_learned(run, cache) for run in (first, other))
    assert not theirs & own
    assert patients_learned(student, cache) == theirs | own
    write_ensemble([student, other], tmp_path / "both", cache=cache)
    assert load_run(tmp_path / "both")[1].teacher is None
    assert patients_learned(tmp_path / "both", cache) == theirs | own
    told = learned_from(replace(TINY, teacher=str(tmp_path / "both")))
    assert told.count("its teacher: ") == 2
    shutil.rmtree(first)
    write_ensemble([student, other], tmp_path / "again", cache=cache)
    facts = json.loads((tmp_path / "again" / "run.json").read_text())
    assert "its teacher: a run that is not there any more, first" in facts["training_data"]
    assert patients_learned(student, cache) == own
    assert "first: what the teacher of " in capfd.readouterr().err


def test_a_teacher_is_for_labels_and_grades(teacher):
    with pytest.raises(ValueError, match=r"a teacher is for labels and grades\. Received: masks \(vessels\)"):
        replace(load_recipe("vessels_lite"), teacher="runs/x")
    with pytest.raises(ValueError, match=r"teacher_temperature must be a number above 0\. Received: 0"):
        replace(TINY, teacher=str(teacher), teacher_temperature=0)
    with pytest.raises(ValueError, match=r"teacher_weight must be a number above 0 and at most 1\. Received: 2"):
        replace(TINY, teacher=str(teacher), teacher_weight=2)
    recipe = override(TINY, "teacher=runs/x", "teacher_temperature=4")
    assert (recipe.teacher, recipe.teacher_temperature) == ("runs/x", 4.0)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    distilled = load_recipe("phantom_5m_224_distilled")
    plain = replace(distilled, name="phantom_5m_224", teacher=None)
    assert plain == load_recipe("phantom_5m_224")  # what it is held against
