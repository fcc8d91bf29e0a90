import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import picture
from training.data.glaucoma.hrf import read_hrf


def test_names_say_which_eyes_have_glaucoma(tmp_path):
    for name in ("images/01_h.jpg", "images/01_dr.JPG", "images/hrf_02_g.jpg", "images/13_G.jpg", "01_other.jpg"):
        picture(tmp_path / name)
    (tmp_path / "manual1").mkdir()
    (tmp_path / "manual1" / "01_h.tif").write_bytes(b"a mask of vessels")
    table = read_hrf(tmp_path)
    told = dict(zip(table.names, table.glaucoma.tolist(), strict=True))
    assert np.isnan(told.pop("images/01_dr.JPG"))
    assert told == {"images/01_h.jpg": 0, "images/hrf_02_g.jpg": 1, "images/13_G.jpg": 1}
    assert table.sets is None
    assert not table.masks.known.any()
    assert table.masks.known.shape == (4, 2)
    assert np.isnan(table.fovea).all()


def test_another_folder_is_refused(tmp_path):
    picture(tmp_path / "g0001.jpg")
    with pytest.raises(DataSetError, match=r"no pictures of these names; expected HRF's pictures, such as 01_h\.jpg"):
        read_hrf(tmp_path)
