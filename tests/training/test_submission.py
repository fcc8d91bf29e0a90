"""What is handed in, from networks that are arithmetic: brightness is the probability, so the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from tests.training.data.glaucoma.made_up import ellipse, save
from tests.training.fitting.tiny_run import TINY
from training.data.glaucoma.submission import read_classification, read_fovea_locations, read_segmentations
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.recipe import Phase
from training.runs import build_model
from training.submission import Network, hand_in, network_of_run

WIDTH, HEIGHT = 150, 120
DISC, CUP, FOVEA = ((50, 60), (24, 28)), ((52, 62), (12, 14)), (110, 70)


def said(square):
    """Red: the disc, green: the cup, blue: the fovea."""
    red, green, blue = np.moveaxis(square.astype(np.float32) / 255, -1, 0)
    y, x = np.nonzero(blue > 0.8)
    side = len(square)
    return {
        "glaucoma": np.array([green.mean()]),
        "disc_cup": np.stack([red, green], axis=-1)[::2, ::2],
        "landmarks": np.array([[(x.mean() + 0.5) / side, (y.mean() + 0.5) / side]]),
    }


def network(size, *outputs, answer=said):
    return Network(GlaucomaDataSet(outputs=outputs).task, PreprocessSpec(size=size), answer)


@pytest.fixture
def pictures(tmp_path):
    for k, name in enumerate(("T0001", "T0002")):
        pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        for channel, (centre, axes) in enumerate((DISC, CUP)):
            pixels[ellipse((centre[0] + k, centre[1]), axes, 0, (HEIGHT, WIDTH)), channel] = 250
        pixels[FOVEA[1] - 3 : FOVEA[1] + 4, FOVEA[0] - 3 : FOVEA[0] + 4, 2] = 250
        save(tmp_path / "pictures" / f"{name}.png", pixels)
    return tmp_path / "pictures"


def test_all_three_answers_in_the_pictures_own_pixels(pictures, tmp_path):
    networks = [network(200, "disc_cup"), network(256, "disc_cup", "landmarks"), network(96, "glaucoma")]
    assert hand_in(networks, pictures, tmp_path / "out") == {"glaucoma": 1, "disc and cup": 2, "fovea": 1}
    names = ("T0001.png", "T0002.png")
    risks = read_classification(tmp_path / "out" / "classification_results.csv", names)
    assert (risks > 0).all()
    points = read_fovea_locations(tmp_path / "out" / "fovea_location_results.csv", names, [(WIDTH, HEIGHT)] * 2)
    np.testing.assert_allclose(points, [FOVEA, FOVEA], atol=0.5)
    for k, mask in enumerate(read_segmentations(tmp_path / "out", names, [(WIDTH, HEIGHT)] * 2)):
        for j, (centre, axes) in enumerate((DISC, CUP)):
            true = ellipse((centre[0] + k, centre[1]), axes, 0, (HEIGHT, WIDTH))
            assert 2 * (mask[..., j] & true).sum() / (mask[..., j].sum() + true.sum()) > 0.96


def test_answers_to_the_same_question_are_averaged(pictures, tmp_path):
    def sure(risk, x):
        return lambda square: {"glaucoma": np.array([risk]), "landmarks": np.array([[x, 0.5]])}

    asked = ("glaucoma", "landmarks")
    networks = [network(64, *asked, answer=sure(0.2, 0.2)), network(64, *asked, answer=sure(0.6, 0.6))]
    hand_in(networks, pictures, tmp_path / "both")
    names = ("T0001.png", "T0002.png")
    np.testing.assert_allclose(read_classification(tmp_path / "both" / "classification_results.csv", names), 0.4)
    points = read_fovea_locations(tmp_path / "both" / "fovea_location_results.csv", names)
    np.testing.assert_allclose(points[:, 0], 0.4 * WIDTH - 0.5)
    beyond = [network(64, "landmarks", answer=sure(0, 1.4))]
    hand_in(beyond, pictures, tmp_path / "beyond")
    points = read_fovea_locations(tmp_path / "beyond" / "fovea_location_results.csv", names, [(WIDTH, HEIGHT)] * 2)
    np.testing.assert_allclose(points[:, 0], WIDTH - 1)


def test_a_network_that_answers_nothing_is_refused(pictures, tmp_path):
    none = network(64, "disc_cup")
    other = replace(none.task.trained["disc_cup"], exclusive=True, within=())
    none = replace(none, task=replace(none.task, outputs={"rim": other}, measures=()))
    with pytest.raises(RealMNetError, match=r"networks that answer glaucoma, disc and cup, fovea\. Received: rim"):
        hand_in([none], pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_network_of_a_run(pictures, tmp_path):
    data = GlaucomaDataSet(outputs=("glaucoma",))
    recipe = replace(TINY, data=data, phases=(Phase(1, 64),))
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    model = build_model(recipe, 64)
    model.save_weights(tmp_path / "weights.weights.h5")
    network = network_of_run(tmp_path)
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    (logit,) = model.predict(square[None].astype(np.float32), verbose=0)[0]
    np.testing.assert_allclose(network.answer(square)["glaucoma"], [1 / (1 + np.exp(-logit))], rtol=1e-5)
    assert hand_in([network], pictures, tmp_path / "out") == {"glaucoma": 1}
