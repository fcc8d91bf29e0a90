"""Ray Data gives the very records that one process gives."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from edge_app.analysis.archive import _pending, _Worker, screen_archive
from edge_app.analysis.intake import find_images
from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import collect, run
from edge_app.config import InstalledBundle


@pytest.fixture
def archive(save, tmp_path):
    folder = tmp_path / "archive"
    first = save(folder / "P1_OD_2026-01-01_1.png", "refer")
    shutil.copy(first, folder / "P2_OS_2026-01-01_1.png")  # the same contents under another name
    for number, outcome in enumerate(("negative", "insufficient", "not_analysed")):
        save(folder / "deeper" / f"P3_OD_2026-01-0{number + 1}_1.jpg", outcome)
    (folder / "P4_OD.jpg").write_bytes(first.read_bytes()[:5000])
    for number in range(40):  # more than one block for each worker
        os.link(first, folder / f"P5_OD_2026-01-01_{number}.png")
    os.link(first, os.path.join(os.fsencode(folder), b"P6_\xff_OD.png"))
    return folder


def settled(files):
    records = [record for records in files for record in records]
    return [{k: v for k, v in record.to_dict().items() if k not in ("screened_at", "timings_ms")} for record in records]


def workers() -> list[int]:
    titles = {int(p.parent.name): p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK)}
    return [pid for pid, title in titles.items() if title.startswith(b"ray::") and b"_Worker" in title]


def test_images_of_a_dead_worker_get_a_record_and_another_try(save, tiny_bundle, tmp_path):
    files = [
        save(tmp_path / f"P{k}_OD.png", outcome) for k, outcome in enumerate(("refer", "negative", "insufficient"))
    ]
    models, worker = Models.open([InstalledBundle(path=tiny_bundle)], 1), _Worker([(str(tiny_bundle), "float32")], 1)
    answers = [worker({"number": k, "file": os.fsencode(files[k]), "known": "[]"}) for k in (0, 2)]
    with Results(tmp_path / "results", models.described) as results:
        records = [one for [one] in collect(models, _pending(files, iter(answers), models, results), results)]
        assert [record.outcome for record in records] == ["refer", "not_analysed", "insufficient"]
        assert records[1].reasons == ("the worker that screened this image died; screen it again",)
        assert records[1].probabilities is None
        again = [one for [one] in run(models, files, results)]
    assert [record.outcome for record in again] == ["refer", "negative", "insufficient"]


@pytest.mark.slow
def test_same_records_resumed_and_after_the_death_of_a_worker(archive, tiny_bundle, tmp_path):
    pytest.importorskip("ray")
    files = find_images([str(archive)], tmp_path).files
    models = Models.open([InstalledBundle(path=tiny_bundle)], 1)
    with Results(tmp_path / "one", models.described) as results:
        expected = settled(run(models, files, results))
    assert len(expected) == len(files) == 47

    with Results(tmp_path / "many", models.described) as results:
        records = screen_archive(models, files, results)
        first = [next(records) for _ in range(3)]
        victims = workers()
        assert victims
        os.kill(victims[0], signal.SIGKILL)
        assert settled([*first, *records]) == expected  # the block is screened again elsewhere
    with Results(tmp_path / "many", models.described) as results:
        assert settled([results.records]) == expected
        again = [one for [one] in screen_archive(models, files, results)]
        assert again == results.records  # times included: nothing was screened a second time
    kept = {record.overlay for record in again if record.overlay}
    assert {path.name for path in (tmp_path / "many" / "overlays").iterdir()} == kept
