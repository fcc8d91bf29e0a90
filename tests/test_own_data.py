"""The commands of docs/own_data.md, in their order, on made-up pictures."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_realmnet.screening.bundle.bundle import Bundle
from training.phantoms.photograph import render_photograph

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
COLUMNS = ("file", "ID", "side", "bleeding", "EX", "dr_grade", "fovea_x", "fovea_y")
TINY = ["--epochs", "1", "--set", "phases=[(1, 64)]", "--set", "batch_size=8", "--set", "weights=None"]
TINY += ["--set", "warmup_epochs=0"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()]


def run(folder: Path, words: list[str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "COLUMNS": "120"}
    extra = TINY if words[2] == "fit" else []
    done = subprocess.run(
        [sys.executable, *words, *extra], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done


@contextmanager
def away(file: Path) -> Iterator[None]:
    """What runs meanwhile must do without it."""
    kept = file.with_suffix(".away")
    file.rename(kept)
    yield
    kept.rename(file)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Two pictures of each of twenty patients, the table, both vocabularies."""
    folder, rows = tmp_path_factory.mktemp("clinic"), []
    for k in range(40):
        picture, name = render_photograph(k, width=320, poor=False), f"2024/{k:04}"
        for kind, pixels in (("pictures", picture.image), ("masks", picture.disc_mask * 255)):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.png")
        fovea = [round(value, 1) for value in picture.fovea] if picture.shows(picture.fovea) else ["", ""]
        rows.append([f"{name}.png", k // 2, "RL"[k % 2], k % 2, "" if k == 5 else k // 2 % 2, k % 2, *fovea])
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([COLUMNS, *rows])
    for name, text in zip(("vocabulary.toml", "all.toml"), blocks("toml"), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.long
def test_from_pictures_to_a_bundle_that_screens(clinic):
    steps = {words[2]: words for words in commands(blocks("sh")[0])}
    assert list(steps) == ["datasets", "fit", "evaluate", "predict", "bundle", "screen"]
    said = run(clinic, steps["datasets"])
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:5] for line in said.stdout.splitlines() if line.count("│") == 5
    }
    assert [int(text) for text in rows["patients"]] == [14, 3, 3]
    assert sum(int(text.split(" of ")[1]) for text in rows["findings: EX Hard exudate"]) == 39
    assert "note: findings: pictures of which EX is not known: 1 (2024/0005.png)" in said.stderr

    run(clinic, steps["fit"])
    task = json.loads((clinic / "runs" / "clinic" / "task.json").read_text())
    assert task["outputs"]["findings"]["labels"]["labels"][0]["code"] == "HE"
    assert set(task["rule"]["thresholds"]) == {"HE", "EX"}
    with away(clinic / "list.csv"):
        run(clinic, steps["predict"])
    with (clinic / "scores.csv").open(newline="", encoding="utf-8") as file:
        predicted = list(csv.DictReader(file))
    assert len(predicted) == 40
    assert all(0 <= float(row["HE"]) <= 1 for row in predicted)

    before = (clinic / "runs" / "clinic" / "scores.json").read_text()
    run(clinic, steps["evaluate"])
    assert (clinic / "runs" / "clinic" / "scores.json").read_text() == before
    assert json.loads(before)["patients"] == 3
    run(clinic, steps["bundle"])
    bundle = Bundle.load(clinic / "bundles" / "mine")
    assert (bundle.task.name, bundle.task.label_set.codes) == ("clinic", ("HE", "EX"))
    with away(clinic / "list.csv"), away(clinic / "vocabulary.toml"):
        said = run(clinic, steps["screen"])
    refer, negative = (int(re.search(rf"(\d+) {outcome}", said.stdout)[1]) for outcome in ("refer", "negative"))
    assert refer + negative >= 30
    assert (clinic / "results" / "report.html").is_file()


def test_what_is_known_of_grades_masks_and_points(clinic):
    words, fit = commands(blocks("sh")[-1])
    assert fit[2] == "fit"
    said = run(clinic, words).stdout
    assert "clinic: colour_fundus, grade (grades), landmarks (points), disc (masks)" in said
    assert "disc: DISC Optic disc" in said
