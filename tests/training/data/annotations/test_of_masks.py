import json

import cv2
import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import PointFinding
from keras_realmnet.tasks.regions import REGIONS, region_map
from training.__main__ import main
from training.data.annotations.of_masks import eyes_of_records, regions_of_mask
from training.data.annotations.records import read_annotations
from training.data.annotations.simulated import PLAIN, simulated_marks

DISC, FOVEA = (70.0, 50.0), (30.0, 52.0)


def record(name, disc=DISC, fovea=FOVEA):
    found = [
        PointFinding("landmarks", "fundus", code, code, *(place or (None, None)))
        for code, place in (("FOVEA", fovea), ("DISC", disc))
    ]
    names = ("folder", "bundle_name", "bundle_version", "bundle_digest", "artifact", "model_sha256", "spec_hash")
    facts = dict.fromkeys(names, "x")
    at = {"screened_at": "2026-01-01T00:00:00+00:00", "findings": tuple(found)}
    return ScreeningRecord(file=name, sha256=None, outcome="described", reasons=(), **facts, **at).to_json()


@pytest.fixture
def folder(tmp_path):
    """Exudates (1) in the macula of a, on both sides of the disc of b; haemorrhages (4) and nothing asked for in c."""
    spots = {"a": [(30, 50, 1)], "b": [(70, 40, 1), (70, 60, 1), (30, 50, 2)], "c": [(1, 50, 4)], "d": [(5, 5, 1)]}
    for part in ("images", "lesion"):
        (tmp_path / part).mkdir()
    for name, marks in spots.items():
        mask = np.zeros((100, 100), np.uint8)
        for x, y, value in marks:
            mask[y - 1 : y + 2, x - 1 : x + 2] = value
        cv2.imwrite(str(tmp_path / "images" / f"{name}.jpg"), np.full((100, 100, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / "lesion" / f"{name}.png"), mask)
    cv2.imwrite(str(tmp_path / "images" / "e.jpg"), np.full((100, 100, 3), 90, np.uint8))  # without a mask
    lines = [record("a.jpg"), record("b.jpg"), record("c.jpg"), record("d.jpg", fovea=None), record("e.jpg")]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_masks_become_marks(folder, capsys):
    arguments = ["annotate", folder, "--masks", "lesion", "--finding", "EX=1", "--finding", "HE=4"]
    arguments += ["--landmarks", folder / "records.jsonl", "--out", folder / "annotations.json"]
    assert main([str(each) for each in arguments]) == 0
    assert "EX: in 3 of 4 pictures\nHE: in 1 of 4 pictures" in capsys.readouterr().out
    annotations = read_annotations(folder / "annotations.json")
    assert annotations.findings == {"EX": "Hard exudate", "HE": "Haemorrhage"}
    by_name = {each.picture: each for each in annotations.pictures}
    assert list(by_name) == [f"images/{name}.jpg" for name in "abcd"]
    marked = {name: (each.marked("EX"), each.marked("HE")) for name, each in by_name.items()}
    assert marked["images/a.jpg"] == (("macula",), ())
    assert marked["images/b.jpg"] == (("superior disc", "inferior disc"), ())
    assert marked["images/c.jpg"] == ((), ("temporal",))
    assert by_name["images/d.jpg"].label("EX") == 1  # where, nobody knows
    assert (by_name["images/d.jpg"].mask("EX", (8, 8)) == 255).all()
    assert (by_name["images/a.jpg"].disc, by_name["images/a.jpg"].fovea) == (DISC, FOVEA)


def test_what_cannot_be_made_of_masks(folder, tmp_path, capsys):
    rest = ["--landmarks", str(folder / "records.jsonl"), "--out", str(folder / "annotations.json")]
    assert main(["annotate", str(folder), "--masks", "lesion", "--finding", "XX=1", *rest]) == 2
    assert main(["annotate", str(folder), "--masks", "lesion", "--finding", "EX=0", *rest]) == 2
    assert "from 1 to 255. Received: EX=0" in capsys.readouterr().err
    assert main(["annotate", str(folder), "--masks", "nowhere", "--finding", "EX=1", *rest]) == 2
    assert not (folder / "annotations.json").exists()
    path = tmp_path / "twice.jsonl"
    path.write_text(f"{record('a.jpg')}\n{record('a.jpg', disc=(9.0, 9.0))}\n")
    with pytest.raises(DataSetError, match=r"two pictures are called a\.jpg"):
        eyes_of_records(path)
    path.write_text(json.dumps({"file": "a.jpg"}) + "\n")
    with pytest.raises(DataSetError, match="not records as edge_app screen writes them"):
        eyes_of_records(path)


def test_a_region_is_marked_where_the_mask_has_a_pixel():
    rng = np.random.default_rng(0)
    mask = rng.random((100, 100)) < 2e-4
    found = {REGIONS[region_map(mask.shape, DISC, FOVEA)[y, x]] for y, x in np.argwhere(mask)}
    assert set(regions_of_mask(mask, (DISC, FOVEA))) == found
    assert regions_of_mask(np.zeros((9, 9), bool), (DISC, FOVEA)) == ()


def test_simulated_annotators_see_what_is_plain_and_miss_what_is_small():
    field = np.ones((100, 100), bool)
    regions = np.array(REGIONS)[region_map(field.shape, DISC, FOVEA)]
    macula = (regions == "macula") & (np.arange(100) % 4 == 0)  # much
    rng = np.random.default_rng(1)
    seen = [simulated_marks(macula, field, (DISC, FOVEA), rng) for _ in range(60)]
    assert all(list(marks) == ["A", "B", "C"] for marks in seen)
    assert all("macula" in regions for marks in seen for regions in marks.values())
    imagined = np.mean([len(regions) > 1 for marks in seen for regions in marks.values()])
    assert 0 < imagined < 0.05
    little = np.zeros((200, 200), bool)
    little[[100, 101, 102], 60] = True  # three pixels of 40,000
    share = little.sum() / little.size / PLAIN
    eye = tuple((2 * x, 2 * y) for x, y in (DISC, FOVEA))
    seen = [simulated_marks(little, np.ones_like(little), eye, rng)["A"] for _ in range(250)]
    assert np.mean(["macula" in regions for regions in seen]) == pytest.approx(1 - np.exp(-share), abs=0.1)
