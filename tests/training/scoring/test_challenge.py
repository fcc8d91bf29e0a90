import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import HEIGHT, WIDTH, ellipse, picture, save
from training.data.glaucoma.submission import write_classification, write_fovea_locations, write_segmentations
from training.scoring.challenge import score_refuge, vertical_cup_to_disc_ratio
from training.scoring.printing import print_challenge

NAMES = tuple(f"V{k:04}.jpg" for k in range(1, 9))
RISKS = np.array([0.1, 0.6, 0.3, 0.9, 0.5, 0.2, 0.7, 0.4])
GLAUCOMA = np.array([0, 1, 0, 1, 0, 0, 0, 1])


def mask(k, shift=0):
    shape = (HEIGHT, WIDTH)
    disc = ellipse((30 + shift, 25), (14, 12), 0, shape)
    cup = ellipse((30 + shift, 25), (4 + k % 4, 3 + k % 5), 0, shape)
    return np.stack([disc, cup & disc], axis=-1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("REFUGE")
    rows = ["ImgName,Glaucoma Label,Fovea_X,Fovea_Y"]
    for k, name in enumerate(NAMES):
        picture(root / "pictures" / name)
        disc, cup = np.moveaxis(mask(k), -1, 0)
        levels = np.where(cup, 0, np.where(disc, 128, 255)).astype(np.uint8)
        if k:
            save(root / "Disc_Cup_Masks" / name.replace("jpg", "bmp"), levels)
        rows.append(f"{name},{GLAUCOMA[k]},{10 + k},{20 - k}" if k < 7 else f"{name},{GLAUCOMA[k]},,")
    (root / "Fovea_locations.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def submission(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    write_classification(folder, NAMES, RISKS)
    write_fovea_locations(folder, NAMES, np.array([[13 + k, 24 - k] for k in range(8)]))  # 3 and 4 px away
    write_segmentations(folder, NAMES, [mask(k + 1, shift=1) for k in range(8)])
    return folder


def official_dice(one, other):
    return 2 * np.logical_and(one, other).sum() / (one.sum() + other.sum())


def test_the_scores_are_the_challenge_s(data, submission):
    found = score_refuge(submission, data, "validation", replicates=50)
    value = {name: fields["value"] for name, fields in found["scores"].items()}
    assert value["auroc"] == pytest.approx(roc_auc_score(GLAUCOMA, RISKS))
    assert value["mean_distance"] == pytest.approx(5)
    known = range(1, 8)  # of the first the masks are not known
    said, true = [mask(k + 1, shift=1) for k in known], [mask(k) for k in known]
    for j, name in enumerate(("dice_disc", "dice_cup")):
        each = [official_dice(s[..., j], t[..., j]) for s, t in zip(said, true, strict=True)]
        assert value[name] == pytest.approx(np.mean(each))
    pairs = zip(said, true, strict=True)
    errors = [abs(vertical_cup_to_disc_ratio(s) - vertical_cup_to_disc_ratio(t)) for s, t in pairs]
    assert value["mean_error_vcdr"] == pytest.approx(np.mean(errors))
    assert found["counts"] == {
        "auroc": 8,
        "mean_distance": 7,
        "dice_disc": 7,
        "dice_cup": 7,
        "mean_error_vcdr": 7,
    }
    low, high = (found["scores"]["dice_cup"][each] for each in ("low", "high"))
    assert low < value["dice_cup"] < high
    assert found["bootstrap"]["unit"] == "image"


def test_one_answer_is_enough_and_none_is_too_little(data, submission, tmp_path):
    write_classification(tmp_path, NAMES, RISKS)
    assert list(score_refuge(tmp_path, data, "validation", 0)["scores"]) == ["auroc"]
    with pytest.raises(DataSetError, match=r"no pictures for test\. Found: validation"):
        score_refuge(tmp_path, data, "test")
    (tmp_path / "classification_results.csv").unlink()
    with pytest.raises(DataSetError, match=r"nothing that is handed in; expected classification_results\.csv, fovea_l"):
        score_refuge(tmp_path, data, "validation")


def test_a_diameter_is_the_longest_column_and_a_missing_disc_counts_as_zero():
    there = np.zeros((6, 6, 2), bool)
    assert vertical_cup_to_disc_ratio(there) == 0
    there[0:4, 1, 0] = there[2:6, 4, 0] = there[1:3, 1, 1] = True  # six rows high, four pixels in any column
    assert vertical_cup_to_disc_ratio(there) == 0.5


def test_the_command(data, submission, capsys):
    words = ["score-refuge", submission, "--data", data, "--split", "validation", "--bootstrap", "20", "--json"]
    done = subprocess.run([sys.executable, "-m", "training", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = score_refuge(submission, data, "validation", 20)
    assert json.loads(done.stdout) == found
    print_challenge(found)
    assert "mean_error_vcdr ↓" in capsys.readouterr().out
