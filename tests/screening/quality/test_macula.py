"""Whether a photograph shows the macula, by the picture alone."""

import csv
from pathlib import Path

import numpy as np

from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.quality import REDUCED_SIZE, assess, fovea_away
from training.phantoms.photograph import render_photograph

CAMERA = "colour_fundus"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_off_centre_fields_are_gradable_but_do_not_show_the_macula(shared: Path) -> None:
    folder = shared / "fundus" / "mfiddr_sample"
    chosen = rows(folder)[::3]  # the four fields in turn
    assert {row["field"] for row in chosen} == {"macula", "disc", "superior", "inferior"}
    for row in chosen:
        image = read_image(folder / "images" / row["image"], min_side=REDUCED_SIZE)
        assert assess(image.pixels, image.source, CAMERA).verdict == "gradable"
        quality = assess(image.pixels, image.source, CAMERA, ("macula",))
        if row["field"] == "macula":
            assert quality.verdict == "gradable", row["image"]
        else:
            assert quality.verdict == "insufficient", row["image"]
            assert quality.reasons[0].startswith("The macula is not in the field"), quality.reasons
            assert quality.shortfalls[0].value == quality.measures["macula_distance"]


def test_macula_centred_photographs_show_it(shared: Path) -> None:
    folder = shared / "fundus" / "idrid_fovea_dr"
    exudates = [f"IDRiD_{number}_train.jpg" for number in ("055", "077", "326", "369")]  # in the midst of the macula
    aside = "IDRiD_289_train.jpg"  # its fovea is .58 field radii from the middle, and the only one of 366 refused
    for name in {*(row["image"] for row in rows(folder)[::15]), *exudates, aside}:
        image = read_image(folder / "images" / name, min_side=REDUCED_SIZE)
        quality = assess(image.pixels, image.source, CAMERA, ("macula",))
        assert (quality.verdict == "gradable") == (name != aside), (name, quality.reasons)


def test_the_distance_on_phantoms_is_the_drawn_one() -> None:
    errors = []
    for seed in range(8):
        off = 0.15 * (seed % 4)
        image = render_photograph(seed, width=320, label="N", poor=False, off=off).image
        errors.append(abs(assess(image, None, CAMERA, ("macula",)).measures["macula_distance"] - off))
    assert np.median(errors) < 0.1, errors


def test_what_a_network_says_of_the_fovea_counts_by_the_field() -> None:
    box = (100, 0, 300, 200)
    assert fovea_away((200.0, 100.0), box) is None
    assert fovea_away((249.0, 100.0), box) is None
    away = fovea_away((199.5 + 80, 99.5), box)
    assert away is not None
    assert away.shortfall is not None
    assert (away.shortfall.measure, away.shortfall.value) == ("macula_distance", 0.8)
    lost = fovea_away(None, box)
    assert lost is not None
    assert "was not found" in lost.text
