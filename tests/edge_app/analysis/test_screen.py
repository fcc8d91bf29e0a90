"""The command as a user runs it: outcomes, failures, output streams, exit status, resuming."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_app.__main__ import main
from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import run as screen_files
from edge_app.analysis.screen import Screener
from keras_realmnet.errors import EngineFailed
from keras_realmnet.screening.bundle.document import signed
from keras_realmnet.screening.image_io import MAX_PICTURES
from keras_realmnet.screening.record import ScreeningRecord


@pytest.fixture
def screen(tiny_bundle, tmp_path, capsys):
    """screen(*arguments) → (exit status, records on stdout in order); checks that stdout holds nothing else."""

    def run(*arguments, bundle=tiny_bundle, out=tmp_path / "results"):
        status = main(["screen", *map(str, arguments), "--bundle", str(bundle), "--out", str(out), "--json"])
        captured = capsys.readouterr()
        run.errors = captured.err
        return status, [ScreeningRecord.from_dict(json.loads(line)) for line in captured.out.splitlines()]

    return run


def stored(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("outcome", ["refer", "negative", "insufficient", "not_analysed"])
def test_every_outcome(screen, save, tmp_path, outcome):
    status, [record] = screen(save(tmp_path / "P7_OS_2025-01-31_1.png", outcome))
    assert record.outcome == outcome
    assert record.reasons
    assert (record.patient_id, record.eye, record.eye_source) == ("P7", "OS", "file name")
    assert record.study_date == "2025-01-31"
    assert record.source["format"] == "PNG"
    assert (record.source["width"], record.source["height"]) == (780, 614)
    assert (tmp_path / "results" / "overlays" / record.overlay).is_file()
    assert stored(tmp_path / "results") == [record.to_dict()]
    analysed = outcome in ("refer", "negative")
    assert status == (0 if analysed else 1)
    assert (record.probabilities is not None) is analysed
    assert ("inference" in record.timings_ms) is analysed
    assert record.triggered == (("A3",) if outcome == "refer" else ())


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "bmp"])
def test_formats_are_told_by_content(screen, save, tmp_path, extension):
    path = save(tmp_path / f"x.{extension}", "refer").rename(tmp_path / "picture.dcm")
    status, [record] = screen(path)
    assert (status, record.outcome) == (0, "refer")


def test_broken_files_become_records_and_the_rest_is_screened(screen, save, tmp_path):
    folder = tmp_path / "in"
    content = save(folder / "good_OD_2025-01-31_1.jpg", "refer").read_bytes()
    (folder / "P9_OD_2025-01-31_1.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    (folder / "magic.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * 100)
    (folder / "bare.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 50)
    os.symlink(folder / "gone.jpg", folder / "dangling.jpg")
    (folder / "notes.csv").write_text("a,b")
    status, records = screen(folder)
    assert status == 1
    assert len(records) == 7
    by_name = {record.file: record for record in records}
    assert by_name.pop("good_OD_2025-01-31_1.jpg").outcome == "refer"
    for name, record in by_name.items():
        assert (record.outcome, record.error) == ("not_analysed", "UnreadableImage")
        assert record.probabilities is record.overlay is None
        assert name not in record.reasons[0]  # it stands beside the reason
    assert (by_name["P9_OD_2025-01-31_1.jpg"].patient_id, by_name["P9_OD_2025-01-31_1.jpg"].eye) == ("P9", "OD")
    assert "1 other file skipped" in screen.errors
    assert (tmp_path / "results" / "report.html").is_file()


def test_an_announced_giant_is_not_decoded(screen, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "bomb.bmp")
    content = bytearray((tmp_path / "bomb.bmp").read_bytes())
    content[18:26] = np.array([60000, 60000], "<i4").tobytes()
    (tmp_path / "bomb.bmp").write_bytes(content)
    status, [record] = screen(tmp_path / "bomb.bmp")
    assert (status, record.outcome, record.error) == (1, "not_analysed", "DecompressionBomb")


class Failing:
    """A runtime that fails as a worn-out machine might, `times` times or for good."""

    def __init__(self, error: BaseException, runtime=None, times: int = 1):
        self.error, self.runtime, self.left = error, runtime, times

    def predict(self, images):
        if self.runtime is None or self.left:
            self.left -= 1
            raise self.error
        return self.runtime.predict(images)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("delegate\nlost"), ZeroDivisionError("x")])
def test_an_unexpected_failure_is_a_record_and_tried_again(tiny_bundle, save, tmp_path, error):
    path = save(tmp_path / "a.png", "negative")
    good = Screener.open(tiny_bundle)
    with Results(tmp_path / "out", Models([good]).described) as results:
        [[record]] = screen_files(Models([replace(good, runtime=Failing(error, good.runtime))]), [path], results)
        assert (record.outcome, record.error) == ("not_analysed", type(error).__name__)
        assert ("memory" if isinstance(error, MemoryError) else "the analysis failed") in record.reasons[0]
        assert "\n" not in record.reasons[0]
        [[record]] = screen_files(Models([good]), [path], results)
        assert record.outcome == "negative"
    assert [entry["outcome"] for entry in stored(tmp_path / "out")] == ["negative"]


def test_an_engine_that_fails_for_good_ends_the_run(tiny_bundle, save, tmp_path):
    """Thousands of records without a result would look like thousands of bad pictures."""
    paths = [save(tmp_path / "a.png", "negative"), save(tmp_path / "b.png", "refer")]
    good = Screener.open(tiny_bundle)
    broken = replace(good, runtime=Failing(RuntimeError("launch failure")))
    with Results(tmp_path / "out", Models([good]).described) as results:
        with pytest.raises(EngineFailed, match="launch failure"):
            list(screen_files(Models([broken]), paths, results))
        assert [record.outcome for [record] in screen_files(Models([good]), paths, results)] == ["negative", "refer"]


def test_impossible_probabilities_are_no_decision(tiny_bundle, save, tmp_path):
    class Broken:
        def __init__(self, runtime):
            self.runtime = runtime

        def predict(self, images):
            prediction = self.runtime.predict(images)
            if (images == golden).all():
                return prediction
            return prediction | {"probabilities": prediction["probabilities"] * np.nan}

    screener = Screener.open(tiny_bundle)
    golden = screener.bundle.golden()[0]
    (tmp_path / "overlays").mkdir()
    record = replace(screener, runtime=Broken(screener.runtime)).screen(
        save(tmp_path / "a.png", "refer"), None, tmp_path / "overlays"
    )
    assert (record.outcome, record.error, record.probabilities) == ("not_analysed", "ValueError", None)


def test_a_failing_overlay_does_not_cost_the_result(tiny_bundle, save, tmp_path):
    path = save(tmp_path / "a.png", "refer")
    record = Screener.open(tiny_bundle).screen(path, None, tmp_path / "absent")
    assert (record.outcome, record.overlay) == ("refer", None)
    assert "overlay" in record.warnings[0]


@pytest.fixture
def both_ways(tiny_bundle):
    """Screeners that crop beside the measures of quality, and after them."""
    beside, after = (Screener.open(tiny_bundle, threads=threads) for threads in (2, 1))
    assert (beside.beside is None, after.beside is None) == (False, True)
    return replace(beside, runtime=after.runtime), after  # sums of two threads may differ


@pytest.mark.parametrize("outcome", ["refer", "negative", "insufficient", "not_analysed"])
def test_cropping_beside_the_measures_of_quality_changes_nothing(both_ways, save, tmp_path, outcome):
    path = save(tmp_path / "P7_OS_2025-01-31_1.png", outcome)
    records, analyses = [], []
    for screener in both_ways:
        record = screener.screen(path, None, tmp_path, on_analysed=lambda _, analysis: analyses.append(analysis))
        timings = dict.fromkeys(record.timings_ms, 0.0)  # the same stages
        records.append(replace(record, screened_at="", timings_ms=timings))
    assert records[0] == records[1]
    assert [analysis is not None for analysis in analyses] == [outcome in ("refer", "negative")] * 2
    if analyses[0] is not None:
        assert analyses[0].geometry == analyses[1].geometry
        assert np.array_equal(analyses[0].image, analyses[1].image)
        for name, values in analyses[0].predicted.items():
            assert np.array_equal(values, analyses[1].predicted[name])


@pytest.mark.parametrize("failing", ["quality", "crop", "both"])
def test_an_error_is_told_alike_where_both_run_side_by_side(both_ways, save, tmp_path, monkeypatch, failing):
    """Of two the one of quality, which came first before."""

    def fail(what: str):
        raise ValueError(what)

    if failing != "quality":
        monkeypatch.setattr("edge_app.analysis.screen.preprocess", lambda *_: fail("crop"))
    path = save(tmp_path / "a.png", "negative")
    for screener in both_ways:
        if failing != "crop":
            screener = replace(screener, measure=lambda *_: fail("quality"))
        record = screener.screen(path, None, None)
        assert (record.outcome, record.error) == ("not_analysed", "ValueError")
        assert record.reasons == (f"the analysis failed: ValueError: {'crop' if failing == 'crop' else 'quality'}",)
        assert list(record.timings_ms) == ["decode", "quality", *(["preprocess"] if failing == "crop" else []), "total"]


def pages(path: Path, pictures, *outcomes: str) -> Path:
    """A TIFF with a page for each outcome."""
    first, *others = [Image.fromarray(pictures[outcome]) for outcome in outcomes]
    first.save(path, "TIFF", save_all=True, append_images=others)
    return path


def test_every_picture_of_a_file_has_its_record(screen, pictures, tmp_path):
    """A second picture that refers is not lost behind the first one's result."""
    file = pages(tmp_path / "P1_OD_2025-01-31.tif", pictures, "negative", "refer", "insufficient")
    status, records = screen(file)
    assert status == 1
    assert [(r.frame, r.pictures, r.outcome) for r in records] == [
        (1, 3, "negative"),
        (2, 3, "refer"),
        (3, 3, "insufficient"),
    ]
    assert len({r.overlay for r in records}) == 3
    assert {(r.patient_id, r.eye, r.file, r.sha256) for r in records} == {("P1", "OD", file.name, records[0].sha256)}
    assert screen(file)[1] == records  # nothing is screened again
    assert stored(tmp_path / "results") == [r.to_dict() for r in records]
    text = (tmp_path / "results" / "report.html").read_text()
    assert all(f"picture {number} of 3" in text for number in (1, 2, 3))
    copied = shutil.copy(file, tmp_path / "P1_OD_2025-01-31_copy.tif")
    _, twins = screen(copied)
    assert [(r.frame, r.duplicate_of, r.outcome) for r in twins] == [(r.frame, file.name, r.outcome) for r in records]


def test_a_run_that_ended_between_two_pictures_screens_the_file_again(screen, pictures, tmp_path):
    file = pages(tmp_path / "a.tif", pictures, "negative", "refer")
    _, records = screen(file)
    (tmp_path / "results" / "records.jsonl").write_text(records[0].to_json() + "\n")
    _, again = screen(file)
    assert [r.outcome for r in again] == ["negative", "refer"]
    pages(file, pictures, "refer")  # the file has changed: its second page is gone
    _, again = screen(file)
    assert [entry["frame"] for entry in stored(tmp_path / "results")] == [1]


def test_more_pictures_than_are_screened_are_told(screen, pictures, tmp_path):
    file = pages(tmp_path / "P1_OD.tif", pictures, *["refer"] * (MAX_PICTURES + 1))
    status, [record] = screen(file)
    assert (status, record.outcome, record.pictures, record.eye) == (1, "not_analysed", 0, "OD")
    assert str(MAX_PICTURES + 1) in record.reasons[0]
    assert str(MAX_PICTURES) in record.reasons[0]


def test_a_second_run_screens_only_what_is_new(screen, save, tmp_path):
    folder = tmp_path / "in"
    save(folder / "a.png", "refer")
    (folder / "b.jpg").write_bytes(b"broken")
    _, first = screen(folder)
    status, second = screen(folder)
    assert (status, second) == (1, first)
    assert len(stored(tmp_path / "results")) == 2

    save(folder / "c.png", "negative")
    save(folder / "a.png", "insufficient")  # other contents under a known name
    _, third = screen(folder)
    assert [record.outcome for record in third] == ["insufficient", "not_analysed", "negative"]
    assert third[1] == first[1]
    assert len(stored(tmp_path / "results")) == 3


def test_overwrite_and_another_model_screen_again(screen, save, tmp_path):
    path = save(tmp_path / "a.png", "refer")
    _, [first] = screen(path)
    _, [again] = screen(path, "--overwrite")
    assert again.timings_ms != first.timings_ms
    assert stored(tmp_path / "results") == [again.to_dict()]
    _, [other] = screen(path, "--artifact", "second")
    assert (other.artifact, other.outcome) == ("second", "refer")
    assert other.overlay != first.overlay
    assert len(stored(tmp_path / "results")) == 2
    assert "1 record of other models" in (tmp_path / "results" / "report.html").read_text()


def test_a_record_cut_off_by_a_crash_is_dropped_and_a_foreign_file_is_not(screen, save, tmp_path):
    path = save(tmp_path / "a.png", "refer")
    _, [first] = screen(path)
    records = tmp_path / "results" / "records.jsonl"
    records.write_text(records.read_text() + records.read_text()[:50])
    assert screen(path) == (0, [first])
    assert stored(tmp_path / "results") == [first.to_dict()]
    records.write_text('{"mine": 1}\n')
    assert screen(path) == (2, [])
    assert "records.jsonl, line 1" in screen.errors
    assert records.read_text() == '{"mine": 1}\n'


def test_the_same_contents_are_screened_once_and_contradictions_told(screen, save, tmp_path):
    folder = tmp_path / "in"
    first = save(folder / "P1_OD_2025-01-31_1.png", "refer")
    shutil.copy(first, folder / "P1_OD_2025-01-31_2.png")
    shutil.copy(first, folder / "P2_OS_2025-01-31_1.png")
    status, records = screen(folder)
    assert status == 0
    assert [record.outcome for record in records] == ["refer"] * 3
    assert [record.duplicate_of for record in records] == [None, first.name, first.name]
    assert [record.timings_ms == {} for record in records] == [False, True, True]
    assert [(record.patient_id, record.eye) for record in records] == [("P1", "OD"), ("P1", "OD"), ("P2", "OS")]
    assert not records[1].warnings
    assert "another patient or eye" in records[2].warnings[0]
    assert len({record.overlay for record in records}) == 1
    assert len(screen(folder, "--overwrite")[1]) == 3


def test_names_of_any_kind(screen, save, tmp_path):
    folder = tmp_path / "in"
    names = ["右眼 ü.png", "a&b <b>.png", "-rf.png", "a\nb.png", "x" * 200 + ".png", "a..png", "$(reboot).png"]
    for name in names:
        save(folder / name, "negative")
    os.rename(save(folder / "latin.png", "refer"), os.fsencode(folder) + b"/latin\xe9.png")
    status, records = screen(folder)
    assert status == 0
    assert {record.file for record in records} == {*names, "latin�.png"}
    overlays = [path.name for path in (tmp_path / "results" / "overlays").iterdir()]
    assert all(name.isascii() and len(name) < 80 and name[0] not in ".-" for name in overlays)
    assert {record.overlay for record in records} == set(overlays)


def test_the_table_for_people_goes_to_stdout_without_json(tiny_bundle, save, tmp_path, capsys):
    path = save(tmp_path / "[red]P7_OD_2025-01-31_1.png", "refer")
    assert main(["screen", str(path), "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "[red]P7_OD" in output
    assert "1 image: 1 refer, 0 insufficient quality, 0 not analysed, 0 negative" in output
    assert "not for clinical use" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jpg"], "absent.jpg"),
        ([], "PATH"),
        (["--nonsense", "."], "--nonsense"),
        ([".", "--threads", "0"], "threads"),
        ([".", "--artifact", "int4"], "int4"),
        ([".", "--bundle", "nowhere"], "bundle.json"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(tiny_bundle, tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["screen", "--bundle", str(tiny_bundle), *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    [line] = [line for line in captured.err.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")]
    assert line.startswith("edge_app: error: ")
    assert message in line
    assert not (tmp_path / "results").exists()


def test_an_unwritable_folder_is_status_2(screen, save, tmp_path):
    (tmp_path / "results").write_text("a file")
    assert screen(save(tmp_path / "a.png", "refer"))[0] == 2
    assert "results" in screen.errors


@pytest.mark.parametrize("file", ["bundle.json", "float32.tflite", "second.tflite", "golden.npz"])
def test_a_changed_bundle_is_refused_before_anything_is_screened(screen, save, tiny_bundle, tmp_path, file):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    assert screen(save(tmp_path / "a.png", "refer"), bundle=bundle) == (2, [])
    assert file in screen.errors
    assert not (tmp_path / "results").exists()


def test_a_machine_that_computes_something_else_is_refused(screen, save, tiny_bundle, tmp_path):
    """The golden output drifts here instead of the machine: correctly signed, so that only the self-check sees it."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with np.load(bundle / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["probabilities_float32"] = golden["probabilities_float32"] + 0.01
    np.savez_compressed(bundle / "golden.npz", **golden)
    document = json.loads((bundle / "bundle.json").read_bytes())
    document["golden"]["sha256"] = hashlib.sha256((bundle / "golden.npz").read_bytes()).hexdigest()
    (bundle / "bundle.json").write_bytes(signed(document))

    path = save(tmp_path / "a.png", "refer")
    assert screen(path, bundle=bundle) == (2, [])
    assert "differ from the golden output by 0.01, allowed 0.001" in screen.errors
    assert screen(path, "--artifact", "second", bundle=bundle)[0] == 0


def test_help_teaches(capsys):
    assert main(["screen", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("--bundle", "--out", "--json", "--artifact", "--threads", "--overwrite", "Exit status", "Examples"):
        assert word in text


def test_without_a_command_the_way_to_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "--help" in capsys.readouterr().err


def test_regions_are_drawn_where_landmarks_were_found(screen, tmp_path):
    root = Path(__file__).resolve().parents[3]
    picture = next((root / "samples" / "colour").glob("PHANTOM-0012*"))
    pictures, lines = [], []
    for options in ((), ("--regions",)):
        arguments = {"bundle": root / "bundles" / "fundus-structures", "out": tmp_path / "of_landmarks"}
        status, [record] = screen(picture, *options, "--overwrite", "--threads", "1", **arguments)
        assert (status, record.outcome) == (0, "described")
        with Image.open(tmp_path / "of_landmarks" / "overlays" / record.overlay) as shown:
            pictures.append(np.asarray(shown.convert("RGB")).astype(int))
        red, green, blue = np.moveaxis(pictures[-1], -1, 0)
        lines.append(int(((red > 200) & (green > 190) & (blue < 120)).sum()))
    assert pictures[0].shape == pictures[1].shape
    assert lines[1] > lines[0] + 2000
