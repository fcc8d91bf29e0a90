import numpy as np
import pytest
from PIL import Image

from export.speed.images import image_files
from keras_realmnet.errors import RealMNetError


def test_images_of_scanner_size_go_before_smaller_ones(tmp_path):
    small, large = np.zeros((40, 50, 3), np.uint8), np.zeros((3000, 4000, 3), np.uint8)
    Image.fromarray(small).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "README").write_text("no image")
    assert image_files([tmp_path]) == [tmp_path / "small.png"]
    Image.fromarray(large).save(tmp_path / "large.jpg")
    assert image_files([tmp_path]) == [tmp_path / "large.jpg"]
    with pytest.raises(RealMNetError, match="no readable image"):
        image_files([tmp_path / "broken.jpg"])


def test_a_damaged_image_is_left_out_and_told(tmp_path, samples):
    """Its header is sound: it is seen only when it is decoded."""
    whole = samples / "PHANTOM-0003_OS_2026-03-02_1.jpg"
    (tmp_path / "damaged.jpg").write_bytes(whole.read_bytes()[:60_000])
    told = []
    with pytest.raises(RealMNetError, match="no readable image"):
        image_files([tmp_path], told.append)
    assert len(told) == 1
    assert "damaged.jpg" in told[0]
    assert image_files([tmp_path, whole], told.append) == [whole]
    with pytest.raises(RealMNetError, match=r"nowhere: no such file or folder"):
        image_files([tmp_path / "nowhere"])
