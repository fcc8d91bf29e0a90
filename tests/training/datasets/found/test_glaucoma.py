import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from tests.training.data.glaucoma.made_up import picture, write_drishti_gs, write_refuge, write_riga
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.datasets.registry import in_folds, with_folder
from training.recipe import load_recipe

SPEC = PreprocessSpec(size=64)
EVERYTHING = ("glaucoma", "disc_cup", "landmarks")


@pytest.fixture
def refuge(tmp_path):
    write_refuge(tmp_path / "REFUGE")
    return str(tmp_path / "REFUGE")


def loaded(data, cache):
    return {split: data.load(split, SPEC, cache) for split in ("train", "validation", "test")}


def test_refuge_answers_all_three_questions(refuge, tmp_path, capsys):
    data = GlaucomaDataSet(refuge, outputs=EVERYTHING)
    sets = loaded(data, tmp_path / "cache")
    assert {split: len(images) for split, images in sets.items()} == {"train": 2, "validation": 1, "test": 2}
    train = sets["train"]
    assert train.names == ("Training400/Glaucoma/g0001.jpg", "Training400/Non-Glaucoma/n0001.jpg")
    np.testing.assert_array_equal(train.labels, [[1], [0]])
    masks = train.truth_of("disc_cup")
    assert masks.shape == (2, 64, 64, 2)
    inside = masks == 1
    scale = (64 / 60) ** 2
    np.testing.assert_allclose(inside.sum(axis=(1, 2)) / scale, [[144, 81], [144, 9]], rtol=0.15)
    assert (inside[..., 0] >= inside[..., 1]).all()
    fovea = train.truth["landmarks"][:, 0]
    np.testing.assert_array_equal(fovea[:, 2], [1, 0])
    np.testing.assert_allclose(train.longer_sides, 60)
    assert "pictures without a mask of disc and cup, not known: 1 (T0002.jpg)" in capsys.readouterr().err
    assert data.task.measures[0].needs().keys() == {"CUP", "DISC"}
    assert data.describe() == "the training pictures of REFUGE (Orlando et al., Medical Image Analysis 2020)"


def test_pictures_of_which_nothing_is_known_are_left_out(refuge, tmp_path, capsys):
    test = GlaucomaDataSet(refuge).load("test", SPEC, tmp_path / "cache")
    assert test.names == ("Test400/T0001.jpg",)
    assert "nothing is known that is asked, left out: 1 (Test400/T0002.jpg)" in capsys.readouterr().err


def test_all_of_refuge_trains_beside_folds_of_its_validation(refuge, tmp_path):
    """As REFUGE2's networks were trained: another set's validation pictures in folds, all of REFUGE in each."""
    whole = GlaucomaDataSet(refuge, train_on=("train", "validation", "test"))
    sets = loaded(whole, tmp_path / "cache")
    assert (len(sets["train"]), sets["validation"], sets["test"]) == (4, None, None)
    assert whole.describe().startswith("the train, validation, test pictures of REFUGE")
    write_riga(tmp_path / "RIGA", pictures=4)
    other = CrossValidation(GlaucomaDataSet(str(tmp_path / "RIGA"), "riga"), (1, 2))
    both = CombinedDataSet("refuge2", (whole, other))
    assert len(both.load("train", SPEC, tmp_path / "cache")) == 6
    assert [measure.code for measure in both.task.measures] == ["vCDR"]


def test_folds_of_refuge2_are_held_out_of_no_picture_of_refuge(tmp_path):
    """Pictures of both have the same names. Each fold has its share of glaucoma, and is what the schedule looks at."""
    for folder, glaucoma in (("REFUGE", 2), ("REFUGE2", 4)):
        for k in range(8):
            picture(tmp_path / folder / f"V{k + 1:04}.jpg")
        told = "".join(f"V{k + 1:04}.jpg,{int(k < glaucoma)}\n" for k in range(8))
        (tmp_path / folder / "glaucoma.csv").write_text(f"FileName,Glaucoma Risk\n{told}")
    recipe = load_recipe("glaucoma")
    held_out = []
    for k in range(1, 5):
        data = with_folder(in_folds(recipe.data, (k, 4)), str(tmp_path))
        train, validation, test = loaded(data, tmp_path / "cache").values()
        assert sum(not name.startswith("REFUGE2/") for name in train.names) == 8
        assert (len(train), len(test), validation.sha256 == test.sha256) == (8 + 6, 2, True)
        assert test.labels.sum() == 1
        held_out += test.names
    assert sorted(held_out) == [f"REFUGE2/V{k + 1:04}.jpg" for k in range(8)]


def test_riga_is_dealt_or_cut_into_folds(tmp_path):
    write_riga(tmp_path / "RIGA", pictures=8)
    data = GlaucomaDataSet(str(tmp_path / "RIGA"), "riga", held_out=0.5)
    sets = loaded(data, tmp_path / "cache")
    assert [len(images) for images in sets.values()] == [4, 2, 2]
    assert not set(sets["train"].patients) & set(sets["test"].patients)
    fold = in_folds(data, (1, 4))
    assert fold.of.held_out == 0
    assert len(fold.load("test", SPEC, tmp_path / "cache")) == 2
    one = GlaucomaDataSet(str(tmp_path / "RIGA"), "riga", annotator=1).load("train", SPEC, tmp_path / "cache")
    agreed = fold.of.load("train", SPEC, tmp_path / "cache")
    assert one.sha256 != agreed.sha256
    assert (one.truth_of("disc_cup") == 1).any(axis=(1, 2)).all()


def test_drishti_gs(tmp_path):
    write_drishti_gs(tmp_path)
    sets = loaded(GlaucomaDataSet(str(tmp_path), "drishti_gs", ("disc_cup", "glaucoma")), tmp_path / "cache")
    assert len(sets["train"]) == 2
    np.testing.assert_array_equal(sets["train"].labels, [[1], [0]])
    assert np.isnan(sets["test"].labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "origa"}, "layout must be refuge, riga, drishti_gs or hrf. Received: 'origa'"),
        ({"layout": "riga", "outputs": ("landmarks",)}, "outputs must be some of disc_cup, each once. Received"),
        ({"outputs": ()}, "outputs must be some of glaucoma, disc_cup, landmarks, each once. Received"),
        ({"train_on": ("dev",)}, "train_on must be some of train, validation, test, each once. Received"),
        ({"held_out": 0.2}, "the layout refuge has sets of its own. Received: held_out=0.2"),
        ({"layout": "riga", "train_on": ("test",)}, "the layout riga has no sets. Received: train_on="),
        ({"annotator": 2}, "annotator is for the layout riga. Received: 2 for refuge"),
        ({"layout": "riga", "annotator": 7}, "annotator must be a whole number, 1 … 6, or None. Received: 7"),
    ],
)
def test_what_fits_no_layout_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GlaucomaDataSet(**options)


def test_without_a_folder(tmp_path):
    with pytest.raises(DataSetError, match="folder of the pictures is not given: pass it with --data PATH"):
        GlaucomaDataSet().load("train", SPEC, tmp_path)
