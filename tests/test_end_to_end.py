"""The whole spine, through the commands a person types: fit, bundle, verify, screen."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from export.speed.network_facts import network_facts
from keras_realmnet.screening.bundle.bundle import Bundle
from training.recipe import load_recipe
from training.runs import load_run, read_task

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "bundles" / "realmnet-demo"
OUTCOMES = {"refer", "negative", "insufficient", "not_analysed"}


def command(*args, folder=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of the smoke recipe, where the command puts it by itself; never change it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = command("training", "fit", "--recipe", "smoke", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "smoke"


@pytest.mark.slow
def test_the_smoke_recipe_learns(run, tmp_path):
    with (run / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.6 * losses[0]
    scores = json.loads((run / "scores.json").read_text())
    assert scores["images"] > 50
    assert 0 < scores["scores"]["macro_auroc"]["value"] <= 1
    facts = json.loads((run / "run.json").read_text())
    assert {"command", "versions", "git_commit", "data_sha256", "seed", "preprocess_hash"} <= set(facts)
    assert not list(run.glob("checkpoint*"))
    smoke = load_recipe("smoke")
    assert load_run(run)[1] == replace(smoke, loss="AsymmetricLoss")  # the usual loss of labels, by its name
    assert read_task(run).trained == smoke.data.task.trained

    fit = ("training", "fit", "--recipe", "smoke", "--out", tmp_path / "run")
    shutil.copytree(run, tmp_path / "run")
    again = command(*fit, folder=run.parents[1])
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    (tmp_path / "run" / "scores.json").unlink()  # as if it had been interrupted while it was scored
    assert command(*fit, folder=run.parents[1]).returncode == 0
    assert json.loads((tmp_path / "run" / "scores.json").read_text()) == scores


@pytest.mark.slow
def test_from_training_to_a_report(run, tmp_path):
    folder = run.parents[1]
    made = command("export", "bundle", "--weights", run / "weights.weights.h5", "--out", "bundle", folder=folder)
    # A network trained for a minute may be too noisy for int8, and on some processors for float16: then the bundle is
    # refused and says why.
    if made.returncode == 2:
        assert re.search("differs from Keras by more than allowed: (float16|int8): ", made.stderr), made.stderr
        assert not (folder / "bundle" / "bundle.json").exists()
        pytest.skip(f"refused as it should be: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr
    bundle = Bundle.load(folder / "bundle")
    assert set(bundle.artifacts) == {"float32", "float16", "int8"}
    assert all(100 < artifact.costs.peak_memory_mb < 600 for artifact in bundle.artifacts.values())
    verified = command("export", "verify", folder / "bundle")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    screened = command("edge_app", "screen", ROOT / "samples", "--bundle", folder / "bundle", "--out", tmp_path)
    assert screened.returncode == 1, screened.stderr  # some samples are broken on purpose


def test_the_shipped_bundle_verifies_on_the_samples():
    done = command("export", "verify", DEMO)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "int8" in done.stdout
    for name in Bundle.load(DEMO).absent:  # as shipped
        assert f"{name}: not run on this machine: " in done.stdout
    assert "decoding at half size: largest |Δp|" in done.stdout


def test_the_shipped_bundle_says_what_it_is():
    bundle = Bundle.load(DEMO)
    assert "not for clinical use" in bundle.intended_use
    assert "no real image" in bundle.training_data["statement"]
    assert bundle.task.label_set.codes == ("S0", "S1", "A0", "A1", "A2", "A3", "A4")
    assert set(bundle.absent) <= {"float32", "float16"}
    for name, artifact in bundle.artifacts.items():
        assert artifact.costs.peak_memory_mb > 100
        if name not in bundle.absent:
            counted = network_facts(DEMO / artifact.file)
            assert (artifact.costs.macs, artifact.costs.parameters) == (counted.macs, counted.parameters)


@pytest.mark.slow
def test_the_model_that_is_not_shipped_is_made_again(samples, tmp_path):
    bundle = shutil.copytree(DEMO, tmp_path / "bundle", ignore=shutil.ignore_patterns("float*.tflite"))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    screen = ("edge_app", "screen", samples, "--bundle", bundle, "--artifact", "float32", "--out", tmp_path / "out")
    refused = command(*screen)
    assert refused.returncode == 2
    assert f"float32.tflite: not in this folder; `python -m export add {bundle} --artifacts float32`" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = command("export", "add", bundle, "--artifacts", "float32")
    if "what is made here has other bytes" in done.stderr:
        pytest.skip(f"refused as it should be: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "float32.tflite"} == before
    assert Bundle.load(bundle).absent == ["float16"]
    assert command(*screen).returncode == 1  # some samples are broken on purpose


def test_samples_become_the_results_their_readme_promises(samples, tmp_path):
    from training.phantoms.sample_files import COLOUR_SAMPLES, SAMPLES

    done = command("edge_app", "screen", samples, "--out", tmp_path / "results", "--json")
    assert done.returncode == 1, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    photographs = {photograph.file_name for photograph in COLOUR_SAMPLES}
    for name in photographs:  # the bundles of photographs, and not the one of ultra-widefield pictures
        outcomes = {record["bundle_name"]: record["outcome"] for record in told if record["file"] == name}
        assert outcomes.keys() == {"palm-lite", "fundus-structures", "lesions-lite"}
        assert {outcomes["palm-lite"], outcomes["lesions-lite"]} <= {"refer", "negative"}
        assert outcomes["fundus-structures"] == "described"
    records = {record["file"]: record for record in told if record["bundle_name"] == "realmnet-demo"}
    assert set(records) == {sample.file_name for sample in SAMPLES}
    for sample in SAMPLES:
        record = records[sample.file_name]
        assert record["outcome"] in OUTCOMES
        if sample.expected == "result":
            assert record["outcome"] in ("refer", "negative"), (sample.file_name, record["reasons"])
            assert {found["code"] for found in record["findings"]} == set(Bundle.load(DEMO).task.label_set.codes)
        else:
            assert record["findings"] is None
            assert record["outcome"] == ("insufficient" if sample.expected == "insufficient" else "not_analysed")
            assert record["reasons"]
    report = (tmp_path / "results" / "report.html").read_text()
    assert all(sample.file_name in report for sample in SAMPLES)


def test_the_readme_shows_what_make_screen_prints(samples, tmp_path):
    (shown,) = re.findall(r"^```\n(Result .*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    done = command("edge_app", "screen", samples, "--out", "results", folder=tmp_path)
    printed = iter(line.rstrip() for line in done.stdout.splitlines())
    assert [line for line in shown.splitlines() if line not in printed] == []  # in this order


def test_a_bundle_with_a_changed_byte_is_refused(samples, tmp_path):
    shutil.copytree(DEMO, tmp_path / "bundle")
    model = tmp_path / "bundle" / "int8.tflite"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    done = command("edge_app", "screen", samples, "--bundle", tmp_path / "bundle", "--out", tmp_path / "results")
    assert done.returncode == 2
    assert "int8.tflite" in done.stderr
    assert done.stderr.count("\n") == 1
