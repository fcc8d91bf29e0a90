import csv
import json

import numpy as np
import pytest

from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.data.glaucoma.made_up import ellipse
from tests.training.scoring.made_up import image_set
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet
from training.recipe import Phase, Recipe
from training.scoring.evaluate import evaluate, score_outputs, score_predictions
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.tables import score_table
from training.tasks.kinds import kind_of


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
    assert read_task(run) == PhantomDataSet().task
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


def test_the_vertical_ratio_and_pixels_of_the_picture_are_scored():
    """Disc, cup and fovea of four pictures of different sizes; in the last nothing is found, of the first no mask."""
    task = GlaucomaDataSet(outputs=("disc_cup", "landmarks")).task
    side, sizes = 40, np.array([100.0, 200.0, 400.0, 50.0])
    truth, said = np.zeros((4, side, side, 2), np.uint8), np.zeros((4, side, side, 2), np.float32)
    heights = [(14, 5), (13, 6), (12, 7), (11, 8)]
    for k, (disc, cup) in enumerate(heights):
        for j, half in enumerate((disc, cup)):
            truth[k, ..., j] = ellipse((20, 20), (12, half), 0, (side, side))
            said[k, ..., j] = ellipse((20, 20), (12, half + (-1 if j else 1)), 0, (side, side)) if k < 3 else 0
    truth[0] = 255
    fovea = np.array([[[0.5, 0.5, 1]]] * 4, np.float32)
    predicted = fovea[..., :2] + np.array([0.03, 0.04], np.float32)
    images = ImageSet(
        pixels=np.zeros((4, side, side, 3), np.uint8),
        truth={"landmarks": fovea},
        names=("a", "b", "c", "d"),
        patients=("a", "b", "c", "d"),
        task=task,
        sha256="",
        masks={"disc_cup": truth},
        sides=np.full(4, 0.5),
        longer_sides=sizes,
    )
    cases = {
        name: kind_of(task.trained[name]).cases(task.trained[name], images.truth_of(name), values)
        for name, values in (("disc_cup", said), ("landmarks", predicted))
    }
    found = score_outputs(images, cases, replicates=30)["scores"]
    ratios = [(2 * cup + 1) / (2 * disc + 1) for disc, cup in heights[1:]]
    wrong = [(2 * cup - 1) / (2 * disc + 3) for disc, cup in heights[1:3]]
    expected = np.abs(np.array([*wrong, 0]) - ratios).mean()  # without a disc the ratio counts as 0
    ratio = found["disc_cup_mean_error_vCDR"]
    assert ratio["value"] == pytest.approx(expected)
    assert ratio["low"] < expected < ratio["high"]
    assert found["landmarks_mean_pixels"]["value"] == pytest.approx(0.05 * 0.5 * sizes.mean(), rel=1e-5)
    assert found["landmarks_median_pixels_FOVEA"]["value"] == pytest.approx(0.05 * 0.5 * 150, rel=1e-5)
