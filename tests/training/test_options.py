"""What the command line makes of a recipe and one's own data."""

import pytest
import typer

from keras_realmnet.errors import DataSetError, RealMNetError
from training.__main__ import main
from training.commands.options import recipe_from_options
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.own import OwnDataSet
from training.datasets.found.palm import PalmDataSet

TOML = """
name = "clinic"
modality = "colour_fundus"
[[outputs]]
name = "findings"
kind = "labels"
entries = [{ code = "HE", name = "Haemorrhage", meaning = "haemorrhage" }]
"""
PLAIN = {"name": "clinic", "modality": "colour_fundus"} | {
    "outputs": [
        {
            "name": "findings",
            "kind": "labels",
            "entries": [{"code": "HE", "name": "Haemorrhage", "meaning": "haemorrhage"}],
        }
    ]
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "vocabulary.toml").write_text(TOML)
    return {"data": "pictures", "table": tmp_path / "list.csv", "vocabulary": tmp_path / "vocabulary.toml"}


def test_own_data_take_the_place_of_the_recipes(files, tmp_path):
    recipe = recipe_from_options("own_lite_256", **files, columns="path=file", settings=["data.seed=7", "batch_size=4"])
    assert recipe.data == OwnDataSet("pictures", str(tmp_path / "list.csv"), "path=file", PLAIN, seed=7)
    assert recipe.batch_size == 4
    assert recipe_from_options("palm_lite", **files).data.task.outputs.keys() == {"findings"}


def test_folds(files):
    recipe = recipe_from_options("own_lite_256", **files, fold="2/5")
    assert isinstance(recipe.data, CrossValidation)
    assert (recipe.data.fold, recipe.data.of.held_out) == ((2, 5), 0.0)
    own_sets = recipe_from_options("own_lite_256", **files, columns="path=file,split=set", fold="2/5")
    assert own_sets.data.of.held_out == 0.3
    palm = recipe_from_options("palm_fovea_vgg19mixed", "/palm", fold="1/5", settings=["data.part=validation"])
    assert palm.data == CrossValidation(PalmDataSet("/palm", "fovea"), (1, 5), "validation")
    assert recipe_from_options("palm_lite", fold="all").data.fold is None
    landmarks = recipe_from_options("fundus_landmarks", "/fundus", fold="3/5").data
    folds = [part.fold if isinstance(part, CrossValidation) else None for part in landmarks.parts]
    assert folds == [None, (3, 5), (3, 5), (3, 5), None]


def test_options_that_do_not_fit(files):
    with pytest.raises(RealMNetError, match=r"--fold must be K/N, such as 1/5, or all\. Received: '3'"):
        recipe_from_options("palm_lite", fold="3")
    with pytest.raises(RealMNetError, match=r"fold must be \(k, n\).*Received: \(6, 5\)"):
        recipe_from_options("palm_lite", fold="6/5")
    with pytest.raises(typer.BadParameter, match="--table and --columns go with --labels"):
        recipe_from_options("palm_lite", table=files["table"])
    with pytest.raises(typer.BadParameter, match="needs --data, the folder of the pictures"):
        recipe_from_options("palm_lite", vocabulary=files["vocabulary"])
    with pytest.raises(RealMNetError, match="columns must be given as path"):
        recipe_from_options("palm_lite", **files, columns="file")
    files["vocabulary"].write_text(TOML.replace("kind", "kin"))
    with pytest.raises(DataSetError, match=r"vocabulary\.toml: outputs\[0\]"):
        recipe_from_options("palm_lite", **files)
    with pytest.raises(RealMNetError, match="phantom data is made, not found"):
        recipe_from_options("smoke", "/somewhere")


def test_what_a_recipe_would_learn_from(tmp_path, capsys):
    cache = ["--cache", str(tmp_path / "cache")]
    sizes = ["--set", "phases=[(1, 64)]", "--set", "data.width=96"]
    eyes = [f"data.{split}_patients={count}" for split, count in (("train", 4), ("validation", 2), ("test", 2))]
    settings = [word for each in eyes for word in ("--set", each)]
    assert main(["datasets", "--recipe", "smoke", *sizes, *settings, *cache]) == 0
    said = capsys.readouterr().out
    assert "psmm: uwf_red_green, probabilities (labels)" in said
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in said.splitlines() if line.count("│") == 5}
    assert [int(text) for text in rows["patients"]] == [4, 2, 2]
    known = [int(text.split(" of ")[1]) for text in rows["probabilities: S0 No staphyloma"]]
    assert known == [int(text) for text in rows["pictures"]]
