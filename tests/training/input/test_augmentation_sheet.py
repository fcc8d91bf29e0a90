import numpy as np

from training.data.contact_sheet import contact_sheet
from training.datasets.image_set import resize_square
from training.input.augmentation import ADDED, OPERATIONS, Augmentation
from training.input.augmentation_sheet import TOGETHER, augmentation_sheet
from training.phantoms.phantom import render


def test_every_operation_shows_by_itself():
    images = [resize_square(render(k, width=96, height=96, staphyloma=False, grade=k).image, 64) for k in range(2)]
    every = Augmentation(**dict.fromkeys(ADDED, 0.1))
    sheet = augmentation_sheet(images, every, seed=1, side=64)
    columns = 1 + len(OPERATIONS) + TOGETHER + 2
    blank = contact_sheet([images[0]] * columns * 2, ["as it is"] * columns * 2, columns=columns, side=64)
    assert sheet.shape == blank.shape
    cells = [sheet[8:72, 8 + 72 * k : 72 + 72 * k].astype(int) for k in range(columns)]
    np.testing.assert_array_equal(cells[0], images[0])
    for name, cell in zip(OPERATIONS, cells[1:], strict=False):
        assert np.abs(cell - images[0]).mean() > 0.05, name
    np.testing.assert_array_equal(cells[1 + OPERATIONS.index("horizontal_flip")], images[0][:, ::-1])
    np.testing.assert_array_equal(cells[1 + OPERATIONS.index("vertical_flip")], images[0][::-1])
    np.testing.assert_array_equal(sheet, augmentation_sheet(images, every, seed=1, side=64))


def test_what_is_off_is_not_shown():
    images = [np.full((32, 32, 3), 100, np.uint8)] * 2
    one = augmentation_sheet(images, Augmentation(**{**vars(Augmentation.none()), "blur": 0.5}), side=32)
    assert one.shape[1] == 8 + (2 + TOGETHER) * 40
