"""Model cards and bills of materials: in step with the bundles that ship, valid, and the same each time."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard

from export.__main__ import main
from export.bundling.cards.keeping import stale_cards, write_cards
from export.bundling.cards.model_card import CARD_FILE, model_card
from export.bundling.cards.sbom import REQUIREMENTS, SBOM_FILE, pinned, sbom
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import add_artifacts
from keras_realmnet.screening.quality import gate
from keras_realmnet.screening.quality.content import BRIGHTNESS, content_limits
from keras_realmnet.tasks.words import rule_words
from tests.training.scoring.clinic.made_up import cohort
from training.scoring.clinic.figures import clinic_figures
from training.scoring.clinic.kept import CLINIC_FILE, keep_in_bundle, read_kept

BUNDLES = sorted(path.parent for path in (Path(__file__).parents[3] / "bundles").glob("*/bundle.json"))


@pytest.fixture
def bundle(tiny_bundle, tmp_path) -> Bundle:
    return Bundle.load(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_cards_of_shipped_bundles_are_in_step_with_bundle_and_requirements(folder):
    assert stale_cards(Bundle.load(folder)) == [], f"write them: python -m export card bundles/{folder.name}"


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_card_says_what_the_bundle_says(folder):
    bundle, text = Bundle.load(folder), (folder / CARD_FILE).read_text("utf-8")
    card = ModelCard(text)
    assert (card.data.model_name, card.data.license) == (bundle.name, "apache-2.0")
    assert bundle.intended_use in text
    assert bundle.training_data["statement"] in text
    assert bundle.digest in text
    for artifact in bundle.artifacts.values():
        assert artifact.sha256 in text
    for ground in (*bundle.task.rule.grounds(), *bundle.task.fitted.grounds(), rule_words(bundle.task)):
        assert ground in text
    for interval in re.findall(r"\d\.\d+ \(\d\.\d+–\d\.\d+\)", json.dumps(bundle.scores, ensure_ascii=False)):
        assert interval in text
    for data, figures in read_kept(folder / CLINIC_FILE).items():
        assert data[1:] in text
        assert f"{figures['pictures']:,} pictures of {figures['patients']:,} patients" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.endswith("|") for row in rows)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_bill_lists_every_model_by_its_hash_and_every_package_by_its_pin(folder):
    bundle, text = Bundle.load(folder), (folder / SBOM_FILE).read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    models = {each["name"]: each for each in components if each["type"] == "machine-learning-model"}
    named = {artifact.file: artifact.sha256 for artifact in bundle.artifacts.values()}
    if bundle.source_file is not None:
        named[bundle.source_file] = bundle.source_sha256
    hashes = {name: each["hashes"][0]["content"] for name, each in models.items()}
    assert hashes == {f"{bundle.name}/{file}": sha256 for file, sha256 in named.items()}
    for each in components:
        file = folder / each["name"].partition("/")[2]
        if "hashes" in each and file.is_file():
            assert each["hashes"][0]["content"] == hashlib.sha256(file.read_bytes()).hexdigest()
    packages = {each["purl"] for each in components if each["type"] == "library"}
    lines = [line.partition("#")[0].partition(";")[0].strip() for line in REQUIREMENTS.read_text("utf-8").splitlines()]
    assert packages == {f"pkg:pypi/{line.replace('==', '@')}" for line in lines if line}


def test_the_same_bundle_has_the_same_cards_and_another_one_others(bundle):
    before = model_card(bundle), sbom(bundle)
    assert (model_card(bundle), sbom(bundle)) == before
    changed = add_artifacts(bundle, {}, scores={"seen": "2 of 3"})
    after = model_card(changed), sbom(changed)
    assert "| seen | 2 of 3 |" in after[0]
    numbers = [json.loads(text)["serialNumber"] for text in (before[1], after[1])]
    assert numbers[0] != numbers[1]
    assert "timestamp" not in after[1]


def test_only_exact_pins_are_listed(bundle, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("# the box\nnumpy==2.4.6; python_version >= '3.11'  # arrays\n\n")
    assert [(each.name, str(each.specifier)) for each in pinned(file)] == [("numpy", "==2.4.6")]
    [package] = [each for each in json.loads(sbom(bundle, file))["components"] if each["type"] == "library"]
    assert package["properties"] == [{"name": "realmnet:only where", "value": 'python_version >= "3.11"'}]
    file.write_text("numpy==2.4.6\nrich>=15\n")
    with pytest.raises(RealMNetError, match=r"requirements.txt:2: an exact version was expected. Found: 'rich>=15'"):
        pinned(file)
    file.write_text("-r others.txt\n")
    with pytest.raises(RealMNetError, match=r"requirements.txt:1: no requirement"):
        pinned(file)
    with pytest.raises(RealMNetError, match="no such file"):
        sbom(bundle, tmp_path / "none.txt")


def test_a_card_shows_the_clinic_figures_and_says_where_they_are_of_an_earlier_state(bundle):
    assert "Not measured" in model_card(bundle)
    figures = clinic_figures(cohort(rp=18, np=2, nn=45, rn=5, ip=4))
    keep_in_bundle(bundle, bundle.default_artifact, "74 pictures made up", figures)
    card = model_card(bundle)
    assert "| sensitivity | 0.900 (0.683 to 0.988; 18 of 20) |" in card
    assert "| Out of focus | 4 | 0 |" in card
    assert "| eye | not known | 74 |" in card
    assert "measure again" not in card
    path = bundle.directory / CLINIC_FILE
    kept = read_kept(path)
    kept["74 pictures made up"]["decides"] = "0" * 64
    path.write_text(json.dumps(kept))
    assert "measure again" in model_card(bundle)
    path.write_text("[]")
    with pytest.raises(RealMNetError, match=r"clinic\.json: not what the command clinic writes"):
        model_card(bundle)


def test_figures_of_before_a_change_of_the_gate_are_told_as_old(bundle, monkeypatch):
    keep_in_bundle(bundle, bundle.default_artifact, "one picture made up", clinic_figures(cohort(rp=1)))
    assert "measure again" not in model_card(bundle)
    stricter = replace(BRIGHTNESS, limit=BRIGHTNESS.limit + 1)
    with monkeypatch.context() as patched:
        patched.setattr(gate, "content_limits", lambda modality: (stricter, *content_limits(modality)[1:]))
        assert "measure again" in model_card(bundle)
    monkeypatch.setattr(gate, "VERSION", gate.VERSION + 1)
    assert "measure again" in model_card(bundle)


def test_the_command_tells_a_bundle_what_a_picture_must_show(bundle, capsys, tmp_path):
    assert main(["needs", str(bundle.directory), "macula", "--version", "2"]) == 2
    assert "only a point 'FOVEA' tells where the macula is" in capsys.readouterr().err
    folder = shutil.copytree(BUNDLES[0].parent / "palm-lite", tmp_path / "palm")
    files = {path: path.read_bytes() for path in (folder / "int8.tflite", folder / "golden.npz")}
    before = Bundle.load(folder)
    assert main(["needs", str(folder), "macula", "--version", "2"]) == 0
    made = Bundle.load(folder)
    without = replace(before.task, reference=replace(before.task.reference, outcomes={}))  # they were decided otherwise
    assert (made.version, made.task) == ("2", replace(without, needs=("macula",)))
    assert made.digest[:16] in capsys.readouterr().out
    assert stale_cards(made) == []
    assert "A picture must show the macula" in (folder / CARD_FILE).read_text("utf-8")
    assert main(["needs", str(folder), "--version", "3"]) == 0
    assert Bundle.load(folder).task == without
    assert {path: path.read_bytes() for path in files} == files


def test_the_command_writes_both_and_checks_them(bundle, capsys):
    folder = str(bundle.directory)
    assert main(["card", folder, "--check"]) == 2
    assert f"{CARD_FILE}, {folder}/{SBOM_FILE}: not up to date" in capsys.readouterr().err.replace("\n", " ")
    assert main(["card", folder]) == 0
    assert main(["card", folder, "--check"]) == 0
    assert Bundle.load(bundle.directory).digest == bundle.digest
    assert write_cards(bundle) == [CARD_FILE, SBOM_FILE]
    (bundle.directory / CARD_FILE).write_text("changed")
    assert stale_cards(bundle) == [CARD_FILE]
