import json
import subprocess
import sys

import pytest

from training.scoring.comparison import compare_tables
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.tables import score_table


def command(*args):
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, args)], capture_output=True, text=True, check=False
    )


def test_score_command(files):
    done = command("score", "--labels", files[0], "--scores", files[1], "--bootstrap", 20, "--level", "eye", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["level"] == "eye"
    assert found["bootstrap"]["unit"] == "patient"
    assert found["scores"] == score_table([files[0]], files[1], "eye", Bootstrap("patient", 20))["scores"]
    shown = command("score", "--labels", files[0], "--scores", files[1], "--bootstrap", 20, "--unit", "paper")
    assert shown.returncode == 0, shown.stderr
    assert "macro_f1" in shown.stdout


def test_compare_command(files):
    done = command(
        "compare", "--labels", files[0], "--scores", files[1], "--scores", files[2], "--bootstrap", 20, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == compare_tables([files[0]], files[1], files[2], 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["score", "--unit", "eye"], "unit must be one of patient, image, paper. Received: 'eye'"),
        (["score", "--level", "visit"], "level must be one of image, eye, patient. Received: 'visit'"),
        (["score", "--label-set", "none"], "label set must be one of"),
        (["score", "--label-set", "palm"], "missing column 'N', 'H', 'P'"),
        (["compare"], "--scores given twice, for A and for B. Received: --labels 1 times, --scores 1 times"),
        (["compare", "a", "b"], "expected two folders, A and B, and neither tables nor --label-set"),
    ],
)
def test_a_wrong_command_is_one_line(options, message, files):
    done = command(options[0], "--labels", files[0], "--scores", files[1], *options[1:])
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
