import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import ellipse, picture, write_riga
from training.data.files.mask_codings import IGNORE
from training.data.glaucoma.riga import read_riga

SIZE = (120, 100)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture
def riga(tmp_path):
    write_riga(tmp_path / "RIGA")
    return tmp_path / "RIGA"


def test_the_outlines_of_several_are_one_mask(riga):
    table = read_riga(riga)
    assert table.names == ("MESSIDOR/image1prime.tif", "MESSIDOR/image2prime.tif")
    assert table.sets is None
    assert np.isnan(table.glaucoma).all()
    assert table.masks.known.all()
    assert len(table.masks) == 2
    masks = table.masks.read(1, SIZE)
    discs = [ellipse((60, 50), (28 + 2 * who, 30), 0, (100, 120)) for who in (1, 2, 3)]
    cup = ellipse((60, 50), (14, 12), 0, (100, 120))
    assert dice(masks[..., 0] == 1, discs[1]) > 0.98  # two of three
    assert dice(masks[..., 1] == 1, cup) > 0.96
    for who in (1, 2, 3):
        own = read_riga(riga, who).masks.read(0, SIZE)
        assert dice(own[..., 0] == 1, discs[who - 1]) > 0.98
    assert not read_riga(riga, 4).masks.known.any()


def test_what_one_did_not_draw_is_not_known_of_the_one(riga):
    (riga / "MESSIDOR" / "image1-2.tif").unlink()
    assert read_riga(riga, 2).masks.known.tolist() == [[False, False], [True, True]]
    assert (read_riga(riga, 2).masks.read(0, SIZE) == IGNORE).all()
    table = read_riga(riga)
    assert table.masks.known.all()
    union = ellipse((60, 50), (34, 30), 0, (100, 120))
    assert dice(table.masks.read(0, SIZE)[..., 0] == 1, union) > 0.98  # one of two is half


def test_drawings_without_a_picture_are_told(riga):
    (riga / "MESSIDOR" / "image1prime.tif").unlink()
    picture(riga / "Magrabia" / "MagrabiFemale" / "image48-1.tif")
    picture(riga / "Magrabia" / "MagrabiFemale" / "Image48-1.tif")
    picture(riga / "Magrabia" / "MagrabiFemale" / "image1prime.tif")
    table = read_riga(riga)
    assert table.names == ("MESSIDOR/image2prime.tif", "Magrabia/MagrabiFemale/image1prime.tif")
    first, second = map(str, table.notices)
    assert first == "pictures on which nobody drew: 1 (Magrabia/MagrabiFemale/image1prime.tif)"
    assert second.startswith("drawings without their picture, left out: 5 (MESSIDOR/Image1-1.tif, ")


def test_two_files_of_one_drawing_are_refused(riga, tmp_path):
    picture(riga / "MESSIDOR" / "image2-3.jpg")
    with pytest.raises(DataSetError, match=r"image2-3\.tif: has the name of .*image2-3\.jpg; expected each once"):
        read_riga(riga)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataSetError, match=r"empty: no pictures .*expected RIGA's pictures, such as image1prime\.tif"):
        read_riga(tmp_path / "empty")
