"""Records of the box beside a table of truth: which row is whose, what is refused, and the whole command."""

import json
import shutil

import pytest

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.record import ScreeningRecord
from training.__main__ import main
from training.scoring.clinic.box_records import RECORDS, read_records
from training.scoring.clinic.figures import clinic_figures
from training.scoring.clinic.kept import CLINIC_FILE, decides, keep_in_bundle, read_kept


def record(file, outcome="refer", folder="/clinic/a", **facts) -> ScreeningRecord:
    values = {
        "sha256": None,
        "reasons": ("Too dark: 3.",) if outcome == "insufficient" else (),
        "bundle_name": "b",
        "bundle_version": "1",
        "bundle_digest": "d" * 64,
        "artifact": "int8",
        "model_sha256": "0" * 64,
        "spec_hash": "0",
        "screened_at": "2026-01-01T00:00:00+00:00",
    }
    return ScreeningRecord(file=file, folder=folder, outcome=outcome, **{**values, **facts})


@pytest.fixture
def folder(tmp_path):
    def write(*records, truth=None):
        (tmp_path / RECORDS).write_text("".join(each.to_json() + "\n" for each in records))
        if truth is None:
            return tmp_path, None
        (tmp_path / "truth.csv").write_text(truth)
        return tmp_path, tmp_path / "truth.csv"

    return write


def test_rows_go_with_their_pictures(folder):
    records = (
        record("1.jpg", eye="OD", patient_id="7", source={"manufacturer": "Zeiss"}),
        record("2.jpg", "negative", quality={"sharpness": 0.5}),
        record("2.jpg", "insufficient", folder="/clinic/b"),
        record("3.jpg"),
        record("1.jpg", "negative", eye="OD", patient_id="7", source={"manufacturer": "Zeiss"}),  # screened again
    )
    truth = "file;refer;patient;eye;source\n1.jpg;1;;;\na/2.jpg;0;8;right;Other\nD:\\clinic\\b\\2.jpg;;8;L;Other\n"
    found = read_records(*folder(*records, truth=truth))
    assert [(p.outcome, p.referable, p.patient, p.eye, p.source) for p in found.pictures] == [
        ("negative", True, "7", "OD", "Zeiss"),
        ("negative", False, "8", "OD", "Other"),
        ("insufficient", None, "8", "OS", "Other"),
    ]
    assert (found.left_out, found.bundle_name, found.artifact) == (1, "b", "int8")
    assert clinic_figures(found.pictures)["patient"]["cases"] == 2


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("file,refer\n1.jpg,yes\n", "truth.csv:2: refer must be 1, 0 or empty. Received: 'yes'"),
        ("file,refer\n9.jpg,1\n", "truth.csv:2: no record of '9.jpg'"),
        ("file,refer\n2.jpg,1\n", "may be pictures of several folders"),
        ("file,refer\n1.jpg,1\na/1.jpg,0\n", "truth.csv:3: 'a/1.jpg' is listed twice"),
        ("file,refer,eye\n1.jpg,1,middle\n", "eye must be OD, OS or empty. Received: 'middle'"),
        ("file,grade\n1.jpg,1\n", "refer"),
    ],
)
def test_what_a_table_may_not_say(folder, truth, said):
    records = (record("1.jpg"), record("2.jpg"), record("2.jpg", folder="/clinic/b"))
    with pytest.raises(DataSetError) as error:
        read_records(*folder(*records, truth=truth))
    assert said in str(error.value)


def test_records_of_several_bundles_need_a_choice(folder, tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    own = record("1.jpg", bundle_name=bundle.name, bundle_digest=bundle.digest, artifact=bundle.default_artifact)
    place, _ = folder(record("1.jpg"), own)
    with pytest.raises(RealMNetError, match="records of one bundle"):
        read_records(place)
    assert read_records(place, bundle=bundle).bundle_digest == bundle.digest
    (place / RECORDS).write_text("nothing\n")
    with pytest.raises(RealMNetError, match="line 1: not a record"):
        read_records(place)
    with pytest.raises(RealMNetError, match="no such file"):
        read_records(place / "elsewhere")


def test_the_command_writes_figures_beside_the_results_and_into_the_bundle(folder, tiny_bundle, tmp_path, capsys):
    bundle_copy = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    bundle = Bundle.load(bundle_copy)
    about = {"bundle_name": bundle.name, "bundle_digest": bundle.digest, "artifact": bundle.default_artifact}
    records = [record(f"{k}.jpg", outcome, **about) for k, outcome in enumerate(["refer", "negative", "insufficient"])]
    place, truth = folder(*records, truth="file,refer\n0.jpg,1\n1.jpg,0\n2.jpg,1\n")
    arguments = ["clinic", str(place), "--truth", str(truth), "--bundle", str(bundle_copy), "--bootstrap", "20"]
    assert main([*arguments, "--name", "three pictures"]) == 0
    assert "1.000 (0.025 to 1.000; 1 of 1)" in capsys.readouterr().out
    kept = read_kept(bundle_copy / CLINIC_FILE)["three pictures"]
    assert kept["decides"] == decides(bundle)
    assert kept["picture"]["figures"]["sensitivity_to_screen"]["events"] == 2
    assert json.loads((place / CLINIC_FILE).read_text()) == {
        f"{bundle.name} ({bundle.default_artifact})": {
            k: v for k, v in kept.items() if k not in ("artifact", "decides")
        }
    }
    assert (place / "clinic.png").read_bytes()[:4] == b"\x89PNG"
    assert Bundle.load(bundle_copy).digest == bundle.digest  # a file beside those that it signs

    keep_in_bundle(bundle, bundle.default_artifact, "another", {"pictures": 1})
    keep_in_bundle(bundle, bundle.default_artifact, "three pictures", {"pictures": 2})
    assert {name: each["pictures"] for name, each in read_kept(bundle_copy / CLINIC_FILE).items()} == {
        "another": 1,
        "three pictures": 2,
    }
    assert main(["clinic", str(place), "--bundle", str(bundle_copy)]) == 2  # without a name
