import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import HEIGHT, WIDTH, picture, save, write_drishti_gs
from training.data.glaucoma.drishti_gs import read_drishti_gs

SIZE = (WIDTH, HEIGHT)


@pytest.mark.parametrize("below", ["", "Drishti-GS1_files"])
def test_soft_maps_of_four_experts(tmp_path, below):
    write_drishti_gs(tmp_path / below)
    table = read_drishti_gs(tmp_path)
    assert table.names == (
        "Training/Images/GLAUCOMA/drishtiGS_002.png",
        "Training/Images/NORMAL/drishtiGS_004.png",
        "Test/Images/drishtiGS_001.png",
    )
    assert table.sets == ("train", "train", "test")
    np.testing.assert_array_equal(table.glaucoma, [1, 0, np.nan])
    place = tmp_path / below / "Training" / "GT" / "drishtiGS_004" / "SoftMap"
    soft = [np.asarray(Image.open(place / f"drishtiGS_004_{each}.png")) for each in ("ODsegSoftmap", "cupsegSoftmap")]
    assert {64, 127, 191, 255} <= set(np.unique(soft[0]).tolist())
    masks = table.masks.read(1, SIZE)
    np.testing.assert_array_equal(masks, np.stack(soft, axis=-1) >= 127)  # two of four are half
    (tmp_path / below / "Test" / "Test_GT" / "drishtiGS_001" / "SoftMap" / "drishtiGS_001_cupsegSoftmap.png").unlink()
    table = read_drishti_gs(tmp_path)
    assert table.masks.known.tolist() == [[True, True], [True, True], [True, False]]
    assert [str(each) for each in table.notices] == [
        "pictures without a mask of cupsegSoftmap, not known: 1 (drishtiGS_001.png)"
    ]


def test_the_small_form(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
        for place, size in (("disc", 20), ("cup", 8)):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[5 : 5 + size, 5 : 5 + size] = 255
            save(tmp_path / place / f"{name}.png", mask)
    assert read_drishti_gs(tmp_path).sets == ("train", "train")
    lines = ["image,official_split", "b.jpg,Training", "a.jpg,Test"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    table = read_drishti_gs(tmp_path)
    assert (table.names, table.sets) == (("a.jpg", "b.jpg"), ("test", "train"))
    assert table.masks.read(0, SIZE).sum(axis=(0, 1)).tolist() == [400, 64]
    (tmp_path / "labels.csv").write_text("image,official_split\na.jpg,Tests\n")
    with pytest.raises(DataSetError, match=r"csv:2: official_split must be Training or Test\. Found: 'Tests'; .*b\.j"):
        read_drishti_gs(tmp_path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataSetError, match="expected Drishti-GS's folders Training/Images and Test/Images, or images"):
        read_drishti_gs(tmp_path)
    write_drishti_gs(tmp_path)
    picture(tmp_path / "Test" / "Images" / "drishtiGS_002.png")
    with pytest.raises(DataSetError, match=r"drishtiGS_002\.png: has the name of .*; expected each once"):
        read_drishti_gs(tmp_path)


def test_the_public_pictures(shared):
    table = read_drishti_gs(shared / "fundus" / "drishti_gs")
    assert len(table) == 71
    assert table.masks.known.all()
    assert {part: table.sets.count(part) for part in set(table.sets)} == {"train": 50, "test": 21}
    with Image.open(table.paths[0]) as image:
        size = image.size
    disc, cup = np.moveaxis(table.masks.read(0, size), -1, 0)
    rows = [np.flatnonzero(each.any(axis=1)) for each in (cup, disc)]
    heights = [each[-1] - each[0] + 1 for each in rows]
    assert heights[0] / heights[1] == pytest.approx(0.825, abs=0.001)  # as its list says
    assert not (cup & ~disc.astype(bool)).any()
