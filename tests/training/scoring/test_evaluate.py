import csv
import json

import numpy as np
import pytest

from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.scoring.made_up import image_set
from training.datasets.phantom import PhantomDataSet
from training.recipe import Phase, Recipe
from training.scoring.bootstrap import Bootstrap
from training.scoring.evaluate import evaluate, score_predictions
from training.scoring.tables import score_table


@pytest.mark.slow
def test_a_run_is_scored_at_every_level(tmp_path, capsys):
    """A network that has not learned anything, on 20 drawn patients."""
    from training.runs import build_model, read_task

    recipe = Recipe(
        name="tiny",
        data=PhantomDataSet(train_patients=2, validation_patients=2, test_patients=20, width=96),
        preset="realmnet_5m_224",
        model_options={"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
        phases=(Phase(1, 64),),
        batch_size=32,
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    build_model(recipe, 64).save_weights(run / "weights.weights.h5")
    found = evaluate(run, cache=tmp_path, replicates=20)
    assert json.loads((run / "scores.json").read_text()) == json.loads(json.dumps(found))
    assert found["operating_point"] is None  # two validation patients do not have every pathologic label
    assert read_task(run) == PhantomDataSet.task
    assert "no operating point: " in capsys.readouterr().out
    assert found["patients"] == found["patient"]["cases"] == 20
    assert found["patient"]["cases"] < found["eye"]["cases"] < found["image"]["cases"] == found["images"]
    with (run / "test_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth, scores = (
        np.array([[float(row[f"{prefix}{code}"]) for code in PSMM.codes] for row in rows]) for prefix in ("true_", "")
    )
    error = np.mean((truth - scores) ** 2)
    assert found["image"]["scores"]["brier"]["value"] == pytest.approx(error, abs=1e-7)
    assert found["scores"]["brier"] == found["image"]["scores"]["brier"]


def test_scoring_a_table_gives_what_evaluate_gives(two_models, files):
    table = two_models.table
    images = image_set(table.labels, table)
    ours = score_predictions(images, two_models.better, replicates=30)
    assert json.loads(json.dumps(ours)) == ours
    assert set(ours["scores"]) <= set(ours["image"]["scores"])
    assert ours["operating_point"] is None
    for level in ("image", "eye", "patient"):
        found = score_table([files[0]], files[1], level, Bootstrap("patient", 30))
        assert found["cases"] == ours[level]["cases"]
        assert found["notes"] == ours[level]["notes"]
        for name, interval in ours[level]["scores"].items():
            assert found["scores"][name] == pytest.approx(interval, abs=1e-7)
        assert found["scores"]["sensitivity"]["value"] > 0.5  # with .5 for every pathologic label
