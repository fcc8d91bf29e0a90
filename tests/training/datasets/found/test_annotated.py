import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.guidance import guided_labels
from keras_realmnet.tasks.regions import REGIONS, region_map
from tests.training.datasets.drawn import write_image
from training.data.annotations.records import Annotations, Picture, write_annotations
from training.data.files.mask_codings import IGNORE
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.annotated import AnnotatedDataSet
from training.datasets.made.drawn_annotated import DrawnAnnotatedDataSet
from training.datasets.registry import in_folds, with_folder
from training.input.augment_workers import AugmentedImages
from training.input.augmentation import Augmentation

SPEC = PreprocessSpec(size=32)
DISC, FOVEA = (36.0, 24.0), (12.0, 25.0)


def marks(*regions):
    """Of three annotators, each of whom marks some regions of EX; nobody looks for another finding."""
    return {who: {"EX": each} for who, each in zip("ABC", regions, strict=False)}


@pytest.fixture
def folder(tmp_path):
    said = [
        marks(("macula",), ("macula", "temporal"), ()),  # present
        marks((), (), ()),  # absent
        marks(("temporal",), (), ()),  # unknown
        {"A": {"HE": ()}},  # nobody looked for EX
        *(marks((), ("macula",)[: k % 2], ("macula",)[: k % 2]) for k in range(8)),
    ]
    pictures = []
    for k, each in enumerate(said):
        write_image(tmp_path / "pictures" / f"{k}.png", k)
        pictures.append(Picture(f"pictures/{k}.png", each, DISC, FOVEA if k != 5 else None, f"P{k}" if k else None))
    write_annotations(tmp_path / "annotations.json", Annotations({"EX": "Exudate", "HE": "Blood"}, tuple(pictures)))
    return tmp_path


def test_labels_and_regions_come_with_the_pixels(folder, tmp_path, capsys):
    data = AnnotatedDataSet(str(folder), held_out=0)
    images = data.load("train", SPEC, tmp_path / "cache")
    assert images.names == tuple(f"pictures/{k}.png" for k in range(12) if k != 3)
    assert images.patients[:2] == ("pictures/0.png", "P1")
    np.testing.assert_array_equal(images.labels[:, 0], [1, 0, np.nan, *([0, 1] * 4)])
    assert guided_labels(data.task.outputs) == {"class_maps": "probabilities"}
    assert data.task.label_set.pathologic == ("EX",)
    told = capsys.readouterr()
    assert "pictures in which nobody looked for it, left out" in told.out + told.err
    first, absent, unsure, _, placeless, *_ = images.truth_of("class_maps")
    regions = region_map((48, 48), DISC, FOVEA)
    inside = np.isin(regions, [REGIONS.index("macula"), REGIONS.index("temporal")])
    at = ((np.arange(32) + 0.5) * 48 / 32).astype(int)
    np.testing.assert_array_equal(first[..., 0], inside[at][:, at])
    assert not absent.any()
    assert 0 < (unsure == 1).sum() < (first == 1).sum()
    assert (placeless == IGNORE).all()  # marked, and nobody knows where the fovea lies


def test_without_regions_it_is_labels_alone(folder, tmp_path):
    data = AnnotatedDataSet(str(folder), regions=False, held_out=0)
    images = data.load("train", SPEC, tmp_path / "cache")
    assert list(data.task.outputs) == ["probabilities"]
    assert not images.masks
    np.testing.assert_array_equal(images.labels[:3, 0], [1, 0, np.nan])


def test_patients_are_dealt_and_cut_into_folds(folder, tmp_path):
    data = AnnotatedDataSet(str(folder), held_out=0.4)
    sets = [data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test")]
    assert sum(map(len, sets)) == 11
    assert len(set().union(*(images.patients for images in sets))) == 11
    cut = in_folds(data, (2, 3))
    assert cut == CrossValidation(AnnotatedDataSet(str(folder), held_out=0), (2, 3))
    assert with_folder(cut, "/there").of.folder == "/there"
    tested = [in_folds(data, (k, 3)).load("test", SPEC, tmp_path / "cache").names for k in (1, 2, 3)]
    assert sorted(sum(tested, ())) == sorted(f"pictures/{k}.png" for k in range(12) if k != 3)


def test_the_regions_move_with_the_picture(folder, tmp_path):
    images = AnnotatedDataSet(str(folder), held_out=0).load("train", SPEC, tmp_path / "cache")
    settings = Augmentation(**{**vars(Augmentation.none()), "horizontal_flip": 1.0})
    pixels, moved = AugmentedImages.of(images, 32, settings, 0).batch(0, [0])
    np.testing.assert_array_equal(pixels[0], images.image(0)[:, ::-1])
    np.testing.assert_array_equal(moved["class_maps"][0], images.truth_of("class_maps")[0][:, ::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": None}, "pass it with --data PATH"),
        ({"records": "other.json"}, "other.json: cannot be read"),
        ({"finding": "MA"}, "annotators looked for EX, HE. Asked for: MA"),
    ],
)
def test_what_cannot_be_loaded_is_told(folder, tmp_path, options, message):
    with pytest.raises(DataSetError, match=message):
        AnnotatedDataSet(**{"folder": str(folder), **options}).load("train", SPEC, tmp_path / "cache")
    (folder / "pictures" / "7.png").unlink()
    with pytest.raises(DataSetError, match=r"7.png: no such picture \(1 of 11 are missing\)"):
        AnnotatedDataSet(str(folder)).load("train", SPEC, tmp_path / "cache")


def test_a_finding_has_a_name():
    with pytest.raises(ValueError, match=r"needs a name, called\. Received: 'DRU'"):
        AnnotatedDataSet(finding="DRU")
    assert AnnotatedDataSet(finding="DRU", called="Drusen").task.label_set["DRU"].name == "Drusen"
    assert "haemorrhage" in AnnotatedDataSet("here", finding="HE").describe()


def test_drawn_photographs_have_what_simulated_annotators_say(tmp_path):
    data = DrawnAnnotatedDataSet(train_eyes=10, test_eyes=0, width=128)
    spec = PreprocessSpec(size=64)
    images = data.load("train", spec, tmp_path)
    assert data.load("test", spec, tmp_path) is None
    labels, masks = images.labels[:, 0], images.truth_of("class_maps")
    assert {*labels[~np.isnan(labels)]} == {0.0, 1.0}
    marked = (masks == 1).any(axis=(1, 2, 3))
    assert marked[labels == 1].all()
    assert not marked[labels == 0].any()
    assert marked[np.isnan(labels)].all()
    again = DrawnAnnotatedDataSet(train_eyes=10, test_eyes=0, width=128).load("train", spec, tmp_path / "again")
    assert again.sha256 == images.sha256
    alone = DrawnAnnotatedDataSet(train_eyes=10, width=128, regions=False).load("train", spec, tmp_path)
    np.testing.assert_array_equal(alone.labels, images.labels)
    np.testing.assert_array_equal(alone.image(3), images.image(3))
    assert not alone.masks
    with pytest.raises(ValueError, match=r"finding must be MA, HE, EX, SE, PHE or NV\. Received: 'FIP'"):
        DrawnAnnotatedDataSet("FIP")
