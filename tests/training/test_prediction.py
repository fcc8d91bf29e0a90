"""A table of predictions of a RealMNet; of the other kinds of outputs see `fitting/test_tasks`."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.fitting.tiny_run import TINY
from tests.training.tasks.vocabularies import DISC, vocabulary
from tests.training.tasks.vocabularies import task as task_of
from training.datasets.made.phantom import PhantomDataSet
from training.prediction import predict_pictures, task_columns
from training.recipe import Phase
from training.runs import build_model


def test_each_kind_has_its_columns():
    marks = Points(vocabulary("marks", "fovea"), confidence=True)
    asked = task_of(
        lesions=Labels(vocabulary("lesions", "he", "dr")),
        dr=Grades(vocabulary("dr", "r0", "r1")),
        disc=DISC,
        marks=marks,
    )
    assert task_columns(asked) == [
        *("he", "dr", "dr_dr", "r0", "r1"),  # a name that was taken has the output's in front
        *("disc_parts", "disc_share", "disc_probability", "cup_parts", "cup_share", "cup_probability"),
        *("fovea_x", "fovea_y", "fovea_confidence"),
    ]
    assert task_columns(task_of(spots=Masks(vocabulary("spots", "ma")))) == ["ma_parts", "ma_share", "ma_probability"]


def test_features_stand_beside_the_probabilities_of_the_shipped_samples(tmp_path, samples):
    recipe = replace(TINY, data=PhantomDataSet(), phases=(Phase(1, 64),), batch_size=3)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    model = build_model(recipe, 64)
    model.save_weights(tmp_path / "weights.weights.h5")
    files = sorted(Path(samples).glob("PHANTOM-000[1-3]*"))
    out = tmp_path / "scores.csv"
    assert predict_pictures(tmp_path, files, out, features=True) == (len(files), 0)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(map(str, files))
    squares = np.stack([preprocess(read_image(file).pixels, recipe.spec())[0] for file in files])
    logits = model.predict(squares.astype(np.float32), verbose=0)
    written = np.array([[float(row[code]) for code in PSMM.codes] for row in rows])
    np.testing.assert_allclose(written, 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-6)
    features = np.array([[float(row[f"feature_{k}"]) for k in range(16)] for row in rows])
    assert features.std(axis=0).max() > 0
    assert "feature_16" not in rows[0]
    assert {row["quality"] for row in rows} <= {"gradable", "insufficient", "not_analysed"}
    with pytest.raises(RealMNetError, match="nowhere"):
        predict_pictures(tmp_path / "nowhere", files, out)
