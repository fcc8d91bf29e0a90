"""The command `screen` with several bundles: where a picture goes, what is not screened again, what is missing."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from edge_app.__main__ import main
from edge_app.analysis.archive import _pending, _Worker
from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import collect, contents_of, run, screen_file
from edge_app.config import InstalledBundle
from keras_realmnet.screening.record import ScreeningRecord

OUTSIDE = {"screened_at": "", "timings_ms": {}}  # what differs from one run to the next


@pytest.fixture
def photographs(kinds_picture, pictures, tmp_path) -> Path:
    """A folder with a laser picture (1), two photographs (2, 3), a grey picture (4) and a broken file (5)."""
    folder = tmp_path / "in"
    folder.mkdir()
    shown = [pictures["refer"], kinds_picture("disc", "cup"), kinds_picture("disc", "fovea"), pictures["not_analysed"]]
    for number, picture in enumerate(shown, start=1):
        Image.fromarray(picture).save(folder / f"P{number}_OD_2025-01-31_1.png")
    (folder / "P5_OD_2025-01-31_1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    return folder


@pytest.fixture
def screen(tmp_path, capfd):
    """screen(path, bundles, *options) → (exit status, records on stdout); run.errors has the lines on stderr."""

    def command(path, bundles, *options):
        named = [word for bundle in bundles for word in ("--bundle", str(bundle))]
        status = main(["screen", str(path), *named, "--out", str(tmp_path / "results"), "--json", *options])
        captured = capfd.readouterr()
        command.errors = [line for line in captured.err.splitlines() if line and not line.startswith("INFO: Created")]
        return status, [ScreeningRecord.from_dict(json.loads(line)) for line in captured.out.splitlines()]

    return command


def outcomes(records) -> dict[tuple[str, str], str]:
    return {(record.file[:2], record.bundle_name): record.shown for record in records}


def stored(folder: Path) -> list[ScreeningRecord]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [ScreeningRecord.from_dict(json.loads(line)) for line in lines]


@pytest.fixture
def three(tiny_bundle, tiny_bundles) -> list[Path]:
    """One bundle for laser pictures ("tiny") and two for photographs ("decides", "describes")."""
    return [tiny_bundle, tiny_bundles / "decides", tiny_bundles / "describes"]


@pytest.fixture
def broken(tiny_bundles, tmp_path) -> Path:
    """The bundle "decides" with a model that is no longer the one it was made with."""
    folder = shutil.copytree(tiny_bundles / "decides", tmp_path / "broken")
    with (folder / "float32.tflite").open("ab") as model:
        model.write(b"x")
    return folder


def test_a_picture_goes_to_every_bundle_of_its_kind_and_is_refused_once(screen, photographs, three, tmp_path):
    status, records = screen(photographs, three)
    assert status == 1
    assert outcomes(records) == {
        ("P1", "tiny"): "refer",
        ("P2", "decides"): "refer",
        ("P2", "describes"): "described",
        ("P3", "decides"): "refer",
        ("P3", "describes"): "described",
        ("P4", "tiny"): "not_analysed",
        ("P5", "tiny"): "not_analysed",
    }
    assert len(records) == 7
    assert stored(tmp_path / "results") == records
    overlays = {record.overlay for record in records if record.overlay}
    assert len(overlays) == 6
    assert all((tmp_path / "results" / "overlays" / name).is_file() for name in overlays)
    [line] = [line for line in screen.errors if "result" in line and "image" in line]
    assert line == "5 images, 7 results: 3 refer, 0 insufficient quality, 2 not analysed, 0 negative, 2 described"
    assert screen(photographs, three) == (1, records)  # times included: nothing was screened again


def test_the_records_are_those_of_each_bundle_alone(photographs, three, tmp_path):
    files = [photographs / f"P{number}_OD_2025-01-31_1.png" for number in (1, 2)]
    together = Models.open([InstalledBundle(path=each) for each in three], 1)
    with Results(tmp_path / "together", together.described) as results:
        records = [record for of_file in run(together, files, results) for record in of_file]
    assert len(records) == 3
    for record in records:
        alone = Models.open([InstalledBundle(path=together.of(record.bundle_name).bundle.directory)], 1)
        with Results(tmp_path / record.bundle_name, alone.described) as results:
            [[same]] = run(alone, [photographs / record.file], results)
        assert replace(record, **OUTSIDE) == replace(same, **OUTSIDE)


def test_a_bundle_that_is_added_screens_what_is_there_and_a_refusal_before_it_is_forgotten(
    screen, photographs, three, tmp_path
):
    _, alone = screen(photographs, three[:1])
    assert outcomes(alone)["P2", "tiny"] == "not_analysed"
    assert len(alone) == 5
    _, records = screen(photographs, [three[0], three[2]])
    assert outcomes(records)["P2", "describes"] == "described"
    assert ("P2", "tiny") not in outcomes(records)
    assert [each for each in records if each.bundle_name == "tiny"] == [alone[0], *alone[3:]]  # as they were
    assert sorted(map(str, stored(tmp_path / "results"))) == sorted(map(str, records))
    _, all_three = screen(photographs, three)
    assert [each for each in all_three if each.bundle_name != "decides"] == records
    assert len(all_three) == 7


def test_the_same_contents_are_screened_once_by_each_bundle(screen, photographs, three):
    shutil.copy(photographs / "P2_OD_2025-01-31_1.png", photographs / "P9_OS_2025-01-31_1.png")
    for options in ((), ("--overwrite",)):
        _, records = screen(photographs, three, *options)
        twins = {each.bundle_name: each for each in records if each.file.startswith("P9")}
        assert {name: (each.shown, each.eye) for name, each in twins.items()} == {
            "decides": ("refer", "OS"),
            "describes": ("described", "OS"),
        }
        assert {each.duplicate_of for each in twins.values()} == {"P2_OD_2025-01-31_1.png"}
        assert all("another patient or eye" in each.warnings[0] for each in twins.values())


def test_each_picture_of_a_file_goes_its_own_way(screen, pictures, kinds_picture, three, tmp_path):
    first, *others = map(Image.fromarray, (pictures["negative"], kinds_picture("disc"), pictures["refer"]))
    first.save(tmp_path / "P1_OD.tif", save_all=True, append_images=others)
    _, records = screen(tmp_path / "P1_OD.tif", three)
    assert [(each.frame, each.bundle_name, each.shown) for each in records] == [
        (1, "tiny", "negative"),
        (2, "decides", "refer"),
        (2, "describes", "described"),
        (3, "tiny", "refer"),
    ]
    assert screen(tmp_path / "P1_OD.tif", three)[1] == records


def test_a_bundle_out_of_order_is_named_and_its_results_are_missing(screen, photographs, three, broken, tmp_path):
    status, records = screen(photographs, [three[0], broken, three[2]])
    assert status == 1
    named = [line for line in screen.errors if "is out of order" in line]
    assert len(named) == 1
    assert "the bundle decides is out of order, its results are missing: " in named[0]
    assert "float32.tflite: changed" in named[0]
    assert outcomes(records)["P2", "decides"] == "missing"
    assert outcomes(records)["P2", "describes"] == "described"
    missing = next(each for each in records if each.bundle_name == "decides")
    assert (missing.outcome, missing.findings, missing.overlay) == ("not_analysed", None, None)
    page = (tmp_path / "results" / "report.html").read_text()
    assert "The model decides is out of order: its results are missing." in page
    assert "decides: the result of 1 of 1 images is missing" in page.lower()
    assert "2 result missing, 0 negative" in " ".join(screen.errors)

    status, mended = screen(photographs, three)
    assert outcomes(mended)["P2", "decides"] == "refer"
    assert [each for each in mended if each.bundle_name != "decides"] == [
        each for each in records if each.bundle_name != "decides"
    ]
    assert "out of order" not in (tmp_path / "results" / "report.html").read_text()


def test_a_bundle_out_of_order_is_told_also_where_it_has_no_picture(screen, save, three, broken, tmp_path):
    status, [record] = screen(save(tmp_path / "a.png", "negative"), [broken, three[0]])
    assert (status, record.bundle_name, record.shown) == (1, "tiny", "negative")
    assert "out of order" in (tmp_path / "results" / "report.html").read_text()


def test_what_cannot_be_asked_for_is_one_line_and_status_2(screen, photographs, three, broken, tmp_path):
    for bundles, options, message in (
        ([broken], (), "float32.tflite: changed"),
        ([broken, broken], (), "a name of its own. Received: decides, decides"),
        ([three[0], tmp_path], (), "bundle.json"),
        (three, ("--artifact", "float32"), "one --bundle"),
    ):
        assert screen(photographs, bundles, *options) == (2, [])
        [line] = screen.errors
        assert line.startswith("edge_app: error: ")
        assert message in line
    assert not (tmp_path / "results").exists()


def test_the_table_says_of_which_bundle_a_result_is(photographs, three, tmp_path, capsys):
    named = [word for bundle in three for word in ("--bundle", str(bundle))]
    assert main(["screen", str(photographs), *named, "--out", str(tmp_path / "results")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Result", "Bundle", "File", "Eye", "Why"]
    of_second = [n for n, line in enumerate(lines) if "P2_OD" in line]
    assert [lines[n].split()[1] for n in of_second] == ["decides", "describes"]
    first_third = next(n for n, line in enumerate(lines) if "P3_OD" in line)
    assert max(of_second) < first_third  # the results of a picture stand together


def test_contents_that_a_file_no_longer_has_are_nobody_s_twin(save, tiny_bundle, tmp_path):
    models = Models.open([InstalledBundle(path=tiny_bundle)], 1)
    first, second = save(tmp_path / "a.png", "negative"), tmp_path / "b.png"
    shutil.copy(first, second)
    with Results(tmp_path / "results", models.described) as results:
        list(run(models, [first], results))
        save(first, "refer")
        assert [each.outcome for [each] in run(models, [first], results)] == ["refer"]
        [[record]] = run(models, [second], results)
    assert (record.outcome, record.duplicate_of) == ("negative", None)


def test_a_file_that_cannot_be_read_for_now_keeps_what_was_said_of_its_contents(photographs, three, tmp_path):
    """Where it goes is not known then: the first bundle has a record that says so, until the next run."""
    models = Models.open([InstalledBundle(path=each) for each in three], 1)
    path = photographs / "P2_OD_2025-01-31_1.png"
    with Results(tmp_path / "results", models.described) as results:
        [before] = run(models, [path], results)
        read, models._last._read = models._last._read, _out_of_memory
        models._last._answer = None
        [failed] = run(models, [path], results)
        assert [(each.bundle_name, each.error) for each in failed] == [("tiny", "MemoryError")]
        assert results.records == [*before, *failed]
        models._last._read = read
        assert list(run(models, [path], results)) == [before]
        assert results.records == before


def test_a_file_that_changes_while_it_is_screened_has_the_record_of_what_was_read(save, tiny_bundle, tmp_path):
    models, path, old = Models.open([InstalledBundle(path=tiny_bundle)], 1), save(tmp_path / "a.png", "refer"), "0" * 64
    with Results(tmp_path / "results", models.described) as results:
        pending = (path, old, partial(screen_file, models, path, old, results.overlays))
        [[record]] = collect(models, [pending], results)
        assert (record.outcome, record.sha256) == ("refer", contents_of(path))
        assert results.records == [record]


def _out_of_memory(*_, **__):
    raise MemoryError


def test_workers_of_a_cluster_give_the_same_records_and_screen_what_is_missing(photographs, three, tmp_path):
    installed = [InstalledBundle(path=each) for each in three]
    models, worker = Models.open(installed, 1), _Worker([(str(each), "float32") for each in three], 1)
    files = sorted(photographs.iterdir())

    def answers(known):
        return (
            worker({"number": n, "file": os.fsencode(file), "known": json.dumps(known(file))})
            for n, file in enumerate(files)
        )

    with Results(tmp_path / "one", models.described) as results:
        expected = [each for of_file in run(models, files, results) for each in of_file]
    with Results(tmp_path / "many", models.described) as results:
        pending = _pending(files, answers(lambda file: []), models, results)
        records = [each for of_file in collect(models, pending, results) for each in of_file]
        assert [replace(each, **OUTSIDE) for each in records] == [replace(each, **OUTSIDE) for each in expected]
        assert all((results.overlays / each.overlay).is_file() for each in records if each.overlay)

        def known(file):  # all but one bundle's results
            found = results.of_path(file)
            return [(*each, found[each].pictures, found[each].sha256) for each in found if each[0] != "describes"]

        again = list(answers(known))
        assert [sum(map(bool, answer["records"])) for answer in again] == [0, 1, 1, 0, 0]
        lost = _pending(files, iter(again[:1] + again[2:]), models, results)
        assert [len(of_file) for of_file in collect(models, lost, results)] == [1, 3, 2, 1, 1]
        assert outcomes(results.records)["P2", "tiny"] == "not_analysed"  # of the worker that died, until it is known
