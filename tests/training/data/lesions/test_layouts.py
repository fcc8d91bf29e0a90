"""What each layout says, held against IDRiD's pictures where they are."""

import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from training.data.lesions.layouts import LAYOUTS
from training.data.lesions.vocabulary import LESIONS


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_marks_lesions_that_there_are(layout):
    assert layout.marks
    assert set(layout.marks) <= set(LESIONS.codes)
    for part in layout.parts:
        assert not set(part.masks) & set(part.free_of)


def test_a_mixture_of_colours_belongs_to_both_lesions():
    colours = LAYOUTS["idrid_colours"].colours
    whose = Counter(colour for each in colours.values() for colour in each)
    assert whose[255, 255, 254] == whose[254, 255, 255] == whose[255, 0, 255] == 2
    assert (255, 255, 254) in set(colours["MA"]) & set(colours["EX"])
    assert (254, 255, 255) in set(colours["MA"]) & set(colours["HE"])
    assert (255, 0, 255) in set(colours["HE"]) & set(colours["EX"])
    assert whose[255, 255, 0] == 0  # the disc's own
    assert (254, 255, 0) in colours["HE"]  # over the disc


def test_what_is_not_asked_for_is_background():
    coding = LAYOUTS["idrid_colours"].coding_of(("NV", "EX"))
    assert coding.colours == ((), LAYOUTS["idrid_colours"].colours["EX"])
    assert {(255, 255, 255), (255, 0, 0), (0, 255, 0), (255, 255, 0)} <= set(coding.others)


def test_idrids_masks_have_only_these_colours(shared):
    layout = LAYOUTS["idrid_colours"]
    coding = layout.coding_of(layout.marks)
    pixels = {}
    for name in ("IDRiD_02", "IDRiD_17"):  # of all colours that 20 masks have
        path = shared / "fundus" / "idrid" / "masks" / f"{name}.png"
        with Image.open(path) as image:
            size = image.size
        pixels[name] = coding.read(path, size).sum(axis=(0, 1), dtype=np.int64).tolist()
    assert pixels == {"IDRiD_02": [9446, 17356, 135394, 0], "IDRiD_17": [14207, 1821322, 201316, 48111]}


def test_exudates_of_hei_med_are_where_its_table_counts_some(shared):
    layout, folder = LAYOUTS["hei_med_levels"], shared / "fundus" / "hei_med"
    coding = layout.coding_of(("EX",))
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[:12]
    marked = []
    for row in rows:
        size = int(row["width"]), int(row["height"])
        marked.append(coding.read((folder / "lesion" / row["image"]).with_suffix(".png"), size).any())
    assert marked == [int(row["n_exudate"]) > 0 for row in rows]
    assert True in marked
    assert False in marked
