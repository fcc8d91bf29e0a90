"""The ratio of a run as a predictor: a network that finds what is bright, on pictures with drawn discs and cups."""

import csv
import json

import cv2
import keras
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.models.network import Network
from tests.training.data.glaucoma.made_up import save, write_riga
from tests.training.scoring.test_folds import untrained
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.runs import load_run
from training.scoring.vertical_ratio import ratios_of, score_ratio

RECIPE = Recipe(
    name="tiny",
    data=GlaucomaDataSet(layout="riga"),
    preset="vessel_lite",
    phases=(Phase(1, 64),),
    augmentation=Augmentation.none(),
)
HEIGHTS = {"01_h": (20, 6), "02_h": (20, 12), "03_h": (20, 0), "01_g": (20, 16), "02_g": (20, 10), "03_g": (0, 0)}


def by_brightness():
    """Disc from a level of 150 of green, cup from 220."""
    images = keras.Input((64, 64, 3), name="images")
    convolution = keras.layers.Conv2D(2, 1, name="disc_cup")
    model = Network(images, {"disc_cup": convolution(images)})
    kernel = np.zeros((1, 1, 3, 2), "float32")
    kernel[0, 0, 1] = 1
    convolution.set_weights([kernel, np.array([-150, -220], "float32")])
    return model


@pytest.fixture
def run(tmp_path):
    """Of a random network to which a half of the pixels are disc."""
    folder = untrained(tmp_path / "run", RECIPE, 0)
    model, _ = load_run(folder)
    for weight in model.trainable_variables:
        if weight.path.endswith("bias") and tuple(weight.shape) == (2,):
            weight.assign([0.0, 0.0])
    model.save_weights(folder / "weights.weights.h5")
    return folder


@pytest.fixture
def hrf(tmp_path):
    for name, (disc, cup) in HEIGHTS.items():
        pixels = np.full((64, 64, 3), 100, np.uint8)
        for tone, height in ((190, disc), (250, cup)):
            cv2.rectangle(pixels, (20, 20), (40, 19 + height), (tone,) * 3, cv2.FILLED) if height else None
        save(tmp_path / "HRF" / f"{name}.jpg", pixels)
    return GlaucomaDataSet(str(tmp_path / "HRF"), "hrf", outputs=("glaucoma",))


def test_the_ratio_of_what_is_found(hrf, tmp_path):
    images = hrf.load("train", RECIPE.spec(), tmp_path / "cache")
    found = ratios_of(by_brightness(), RECIPE.data.task, images, 4)
    said = {name.removesuffix(".jpg"): ratio for name, ratio in zip(images.names, found.tolist(), strict=True)}
    expected = {name: cup / disc if disc else np.nan for name, (disc, cup) in HEIGHTS.items()}
    assert said == pytest.approx(expected, abs=0.08, nan_ok=True)  # JPEG moves a rim


def test_the_auroc_of_the_ratio(run, hrf, tmp_path):
    found = score_ratio(run, hrf, "hrf", cache=tmp_path / "cache", replicates=50)
    with (run / "ratio_on_hrf.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth, said = ([float(row[name]) for row in rows] for name in ("true_G", "vCDR"))
    assert sum(truth) == 3
    assert found["scores"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, said))
    assert found["scores"]["ap"]["value"] == pytest.approx(average_precision_score(truth, said))
    assert found["scores"]["auroc"]["replicates"] > 40
    assert found["counts"]["auroc"] == 6
    assert found == json.loads((run / "ratio_on_hrf.json").read_text())


def test_what_does_not_fit_is_refused(run, hrf, tmp_path):
    write_riga(tmp_path / "RIGA", pictures=2)
    riga = GlaucomaDataSet(str(tmp_path / "RIGA"), "riga")
    with pytest.raises(DataSetError, match=r"riga: expected data that knows one label\. Received: disc_cup"):
        score_ratio(run, riga, "riga", cache=tmp_path / "cache")
    task = json.loads((run / "task.json").read_text())
    (run / "task.json").write_text(json.dumps({**task, "measures": []}))
    with pytest.raises(RealMNetError, match=r"expected a run that measures a vertical ratio of masks\. Received: noth"):
        score_ratio(run, hrf, "hrf", cache=tmp_path / "cache")
