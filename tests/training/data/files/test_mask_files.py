import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from tests.training.data.files.test_mask_codings import DISC_AND_CUP, INSIDE, SIZE, save
from training.data.files.mask_codings import IGNORE, BinaryCoding, SharesCoding
from training.data.files.mask_files import MaskFiles, MaskTruth, MaskVotes, find_masks

# ---- of n pictures


def known(*values):
    return np.array(values, bool)


def test_known_to_be_empty_is_not_unknown(tmp_path):
    path = save(tmp_path / "m.png", np.where(INSIDE, 255, 0).astype(np.uint8))
    first = MaskFiles((path, None, None), known(True, True, False))
    second = MaskFiles((None, None, None), known(True, False, False))
    truth = MaskTruth((first, second), BinaryCoding(), exclusive=False)
    assert (len(truth), truth.labels) == (3, 2)
    np.testing.assert_array_equal(truth.known, [[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(truth.read(0, SIZE), np.stack([INSIDE, INSIDE & False], axis=-1))
    np.testing.assert_array_equal(truth.read(1, SIZE)[0, 0], [0, IGNORE])
    assert (truth.read(2, SIZE) == IGNORE).all()

    exclusive = MaskTruth((first, second), BinaryCoding(), exclusive=True)
    np.testing.assert_array_equal(exclusive.read(0, SIZE), np.where(INSIDE, 1, 0))
    assert (exclusive.read(1, SIZE) == IGNORE).all()  # the second may be anywhere
    assert exclusive.read(2, SIZE).dtype == np.uint8


def test_an_unknown_label_leaves_the_known_one(tmp_path):
    path = save(tmp_path / "m.png", np.where(INSIDE, 255, 0).astype(np.uint8))
    files = (MaskFiles((None,), known(False)), MaskFiles((path,), known(True)))
    np.testing.assert_array_equal(MaskTruth(files, BinaryCoding(), True).read(0, SIZE), np.where(INSIDE, 2, IGNORE))


def test_labels_that_exclude_each_other_must_not_overlap(tmp_path):
    path = save(tmp_path / "m.png", np.where(INSIDE, 255, 0).astype(np.uint8))
    files = (MaskFiles((path,), known(True)),) * 2
    with pytest.raises(DataSetError, match=r"m\.png.*: 6 pixels have two labels that exclude each other"):
        MaskTruth(files, BinaryCoding(), exclusive=True).read(0, SIZE)
    assert MaskTruth(files, BinaryCoding(), exclusive=False).read(0, SIZE).sum() == 12


def test_a_coded_file_that_is_missing(tmp_path):
    truth = MaskTruth((MaskFiles((None, None), known(True, False)),), DISC_AND_CUP, exclusive=False)
    assert truth.known.tolist() == [[True, True], [False, False]]
    assert (truth.read(0, SIZE) == np.zeros((4, 5, 2))).all()
    assert (truth.read(1, SIZE) == IGNORE).all()


def test_masks_are_found_by_the_pictures_names(tmp_path):
    for name in ("a.png", "one/b.bmp", "stranger.png"):
        save(tmp_path / name, INSIDE)
    (tmp_path / "a.txt").touch()
    files, without, strangers = find_masks(tmp_path, ("a.jpg", "one/b.jpg", "c.jpg"), absent="unknown")
    assert files.paths == (tmp_path / "a.png", tmp_path / "one/b.bmp", None)
    assert files.known.tolist() == [True, True, False]
    assert (without, strangers) == (("c.jpg",), ("stranger.png",))
    assert find_masks(tmp_path, ("a.jpg", "c.jpg"), absent="empty")[0].known.all()


def test_a_mask_is_of_one_picture_and_a_picture_has_one_mask(tmp_path):
    save(tmp_path / "a.png", INSIDE)
    with pytest.raises(DataSetError, match=r"a\.png: is the mask of one/a\.jpg and of two/a\.jpg; expected one"):
        find_masks(tmp_path, ("one/a.jpg", "two/a.jpg"), absent="empty")
    save(tmp_path / "a.bmp", INSIDE)
    with pytest.raises(DataSetError, match=r"may be any of a\.bmp, a\.png"):
        find_masks(tmp_path, ("a.jpg",), absent="empty")


# ---- of several annotators


def test_at_least_half_of_those_who_know_decide(tmp_path):
    width, height = SIZE
    drawn = np.random.default_rng(0).integers(0, 3, (4, 2, height, width)).astype(np.uint8)  # 2: not known
    annotators = []
    for who, masks in enumerate(drawn):
        files = []
        for k, mask in enumerate(masks):
            path = save(tmp_path / f"{who}-{k}.png", np.array([0, 255, 127], np.uint8)[mask])
            files.append(MaskFiles((None, path), known(False, True)))
        annotators.append(MaskTruth(tuple(files), BinaryCoding(ignore=(127,)), exclusive=False))
    votes = MaskVotes(tuple(annotators))
    assert (len(votes), votes.labels) == (2, 2)
    np.testing.assert_array_equal(votes.known, [[False, False], [True, True]])
    yes, no = (drawn == 1).sum(axis=0), (drawn == 0).sum(axis=0)
    expected = np.where(yes + no == 0, IGNORE, yes >= no)
    np.testing.assert_array_equal(votes.read(1, SIZE), np.moveaxis(expected, 0, -1))
    assert (votes.read(0, SIZE) == IGNORE).all()


def test_shares_of_annotators(tmp_path):
    width, height = SIZE
    levels = np.random.default_rng(1).choice(np.array([0, 64, 127, 128, 191, 255], np.uint8), (height, width))
    path = save(tmp_path / "soft.png", levels)
    np.testing.assert_array_equal(SharesCoding().read(path, SIZE)[..., 0], levels > 100)
