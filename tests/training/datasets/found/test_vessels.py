from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import Task
from training.data.files.mask_codings import IGNORE
from training.data.vessels.vocabulary import VESSELS
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.vessels import VesselDataSet
from training.datasets.registry import in_folds, with_folder

SPEC = PreprocessSpec(size=64)
SIDE = 64


Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
OCTAGON, DISC = np.abs(X) + np.abs(Y) < 44, np.hypot(X, Y) < 20


def write_eye(folder, name, masks="vessel", field=None):
    """A picture without corners with a dark vessel across it; in the mask another one goes through dark corners."""
    vessel = np.zeros((SIDE, SIDE), bool)
    vessel[30:33] = vessel[:2] = True
    image = np.where(OCTAGON[..., None], (150, 90, 30), 0)
    image[vessel & OCTAGON] = (90, 40, 20)
    for place, pixels in (("images", image), (masks, 255 * vessel), ("fov", field)):
        if pixels is not None:
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / place / f"{name}.png")
    return vessel


@pytest.fixture
def chase(tmp_path):
    for child in range(1, 7):
        for eye in "LR":
            write_eye(tmp_path / "chase", f"chase_{child:02}{eye}")
            write_eye(tmp_path / "chase", f"chase_{child:02}{eye}", "vessel_observer2")
    return VesselDataSet(str(tmp_path / "chase"), "chase_db1_folders")


def test_outside_of_the_field_of_view_nothing_is_known(tmp_path):
    """With a mask of the field that is what it says; else it is the illuminated part."""
    vessel = write_eye(tmp_path / "with", "hrf_01_h", field=255 * DISC)
    write_eye(tmp_path / "without", "hrf_01_h")
    for name, inside in (("with", DISC), ("without", OCTAGON)):
        data = VesselDataSet(str(tmp_path / name), "hrf_av")
        assert data.task.trained == {"vessels": VESSELS}
        images = data.load("train", SPEC, tmp_path / "cache")
        mask = images.truth_of("vessels")
        assert mask.shape == (1, SIDE, SIDE, 1)
        np.testing.assert_array_equal(mask[0, ..., 0], np.where(inside, vessel, IGNORE))
        assert data.load("test", SPEC, tmp_path / "cache") is None
        learned = replace(data, outside="background").load("train", SPEC, tmp_path / "cache")
        np.testing.assert_array_equal(learned.truth_of("vessels")[0, ..., 0], inside & vessel)
    assert (VesselDataSet("x", "av_wide").task.modality, VesselDataSet("x", "av_wide").task.measures) == (
        "uwf_red_green",
        (),
    )
    task = VesselDataSet().task
    assert [measure.code for measure in task.measures] == ["VES_pct"]
    assert Task.from_dict(task.to_dict()) == task


def test_both_eyes_of_a_child_are_in_one_set(chase, tmp_path):
    dealt = VesselDataSet(chase.folder, chase.layout, held_out=0.4)
    sets = [dealt.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test")]
    assert [len(images) for images in sets] == [8, 2, 2]
    cut = in_folds(dealt, (2, 3))
    assert cut == CrossValidation(chase, (2, 3))
    train, test = (cut.load(split, SPEC, tmp_path / "cache") for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 4)
    for parts in (sets, (train, test)):
        patients = [set(images.patients) for images in parts]
        assert sum(map(len, patients)) == len(set().union(*patients)) == 6


def test_only_what_trains_knows_that_there_is_nothing_outside(chase, tmp_path):
    data = replace(chase, held_out=0.4, outside="background")
    known = {}
    for split in ("train", "validation", "test"):
        masks = data.load(split, SPEC, tmp_path / "cache").truth_of("vessels")
        known[split] = bool((masks != IGNORE).all())
    assert known == {"train": True, "validation": False, "test": False}


def test_a_picture_that_two_data_sets_have_is_not_on_both_sides(tmp_path):
    for folder, masks, names in (("hrf", "manual1", ("01_h", "02_h")), ("hrf_av", "vessel", ("hrf_01_h", "hrf_03_h"))):
        for name in names:
            write_eye(tmp_path / folder, name, masks)
    held_out = CrossValidation(VesselDataSet("hrf_av", "hrf_av"), (1, 2))
    data = with_folder(CombinedDataSet("vessels", (VesselDataSet("hrf", "hrf"), held_out)), str(tmp_path))
    train, test = (data.load(split, SPEC, tmp_path / "cache") for split in ("train", "test"))
    assert len(test) == 1
    assert not set(train.patients) & set(test.patients)


def test_the_second_observer_is_another_truth(chase, tmp_path):
    pictures = chase.load("train", SPEC, tmp_path / "cache")
    nothing = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
    nothing.save(tmp_path / "chase" / "vessel_observer2" / "chase_01L.png")
    second = VesselDataSet(chase.folder, chase.layout, observer=2).load("train", SPEC, tmp_path / "cache")
    assert second.names == pictures.names
    same = [np.array_equal(*(each.truth_of("vessels")[k] for each in (pictures, second))) for k in range(12)]
    assert same == [False] + 11 * [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "stare"}, r"layout must be drive, .* or folders\. Received: 'stare'"),
        ({"layout": "hrf", "observer": 2}, r"the layout hrf has masks of 1 observer\. Received: observer=2"),
        ({"outside": "black"}, r"outside must be unknown or background\. Received: 'black'"),
        ({"observer": 0}, r"observer must be a whole number, at least 1\. Received: 0"),
        ({"layout": "drive", "held_out": 0.3}, r"the layout drive has sets of its own\. Received: held_out=0.3"),
    ],
)
def test_what_is_not_there_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VesselDataSet(**arguments)


def test_a_folder_must_be_given():
    with pytest.raises(DataSetError, match="pass it with --data PATH"):
        VesselDataSet().load("train", SPEC, None)


def test_thin_vessels_are_not_lost_where_a_picture_is_reduced(shared, tmp_path):
    """The share of vessels in the field, of pictures of 3504 px in squares of 512."""
    folder = shared / "fundus" / "hrf"
    images = VesselDataSet(str(folder), "hrf").load("train", PreprocessSpec(512), tmp_path)
    mask = images.truth_of("vessels")
    inside = vessels = 0
    for name in images.names:
        with Image.open(folder / "images" / name) as picture, Image.open(folder / "masks" / f"{name[:-4]}.png") as true:
            inside += (np.asarray(picture).max(axis=-1) > 16).sum()
            vessels += (np.asarray(true) > 0).sum()
    assert (mask == 1).sum() / (mask != IGNORE).sum() == pytest.approx(vessels / inside, rel=0.01)
