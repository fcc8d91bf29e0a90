"""Results reach every destination, whatever it does meanwhile; a restart forgets nothing."""

import errno
import json
import random
import shutil
import sqlite3
import ssl
import threading
import time
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from pydicom import dcmread
from pydicom.uid import JPEGBaseline8Bit
from pynetdicom import AE, events

from edge_app.outbox import delivery
from edge_app.outbox.delivery import Outbox
from edge_app.outbox.documents import render
from edge_app.processes.worker import routes
from edge_app.store.outbox import put_deliveries
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from tests.proofs import peers

FAST = {"first_retry_seconds": 0.2, "max_retry_seconds": 0.5, "attempts": 500}


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bundle, pictures):
    """A box that has screened one image of every outcome; never change it, copy it (`box`)."""
    folder = tmp_path_factory.mktemp("finished")
    store = Store(folder / "box")
    for number, picture in enumerate(pictures.values()):
        syntax = {"syntax": JPEGBaseline8Bit} if number == 1 else {}
        image = peers.ophthalmic(picture, **syntax, ImageLaterality="", PatientID=f"T-{number}")
        peers.take_in(store, peers.write(image, folder / "image.dcm"))
    peers.screen(store, peers.settings(folder / "box"), tiny_bundle)
    store.close()
    return folder / "box"


@pytest.fixture
def box(finished, tmp_path):
    store = Store(shutil.copytree(finished, tmp_path / "box"))
    yield store
    store.close()


def folder_to(path, *results, **options):
    path.mkdir(exist_ok=True)
    return {"name": path.name, "kind": "folder", "path": path, "results": results, **options}


def archive(port, *results, name="pacs", **options):
    to = {"host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", "timeout_seconds": 3}
    return {"name": name, "kind": "dicom", "results": results or ("sr", "sc"), **to, **options}


def route(store, config):
    """Fills the outbox as the worker does when it finishes an item."""
    for result in store.worklist():
        with store.write() as db:
            put_deliveries(db, result.item.id, result.revision, routes(result.record, config))


def route_others(store, config, item_id):
    for result in store.worklist():
        if result.item.id != item_id:
            with store.write() as db:
                put_deliveries(db, result.item.id, result.revision, routes(result.record, config))


class Running:
    def __init__(self, store, *destinations, **settings):
        self.config = peers.settings(store.data_dir, destination=destinations, delivery={**FAST, **settings})
        self.store = store

    def __enter__(self):
        self.outbox = delivery.start(self.config, self.store)
        return self

    def __exit__(self, *error):
        self.outbox.stop()

    def until(self, condition, seconds=30):
        """Waits until `condition(counts of the outbox)`."""
        deadline = time.monotonic() + seconds
        while not condition(self.store.counts().deliveries):
            assert time.monotonic() < deadline, self.store.counts().deliveries
            time.sleep(0.02)


def all_delivered(counts):
    return counts["pending"] == 0 and counts["dead"] == 0


class Archive:
    """A storage SCP; `answer(SOP Instance UID)` gives its status."""

    def __init__(self, answer=lambda uid: 0x0000, port=None):
        self.received, self.associations = [], 0
        entity = AE("ARCHIVE")
        for storage_class in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"):
            entity.add_supported_context(storage_class)

        def store(event):
            status = answer(event.request.AffectedSOPInstanceUID)
            self.received.append((event.request.AffectedSOPInstanceUID, status))
            return status

        def accepted(event):
            self.associations += 1

        handlers = [(events.EVT_C_STORE, store), (events.EVT_ACCEPTED, accepted)]
        self.port = port or peers.free_port()
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._server.shutdown()

    @property
    def stored(self):
        return [uid for uid, status in self.received if status >> 12 == 0xB or status == 0]


def test_every_kind_of_result_in_a_folder(box, tmp_path):
    out = tmp_path / "out"
    with Running(box, folder_to(out, "json", "csv", "fhir", "sr", "sc")) as running:
        route(box, running.config)
        running.until(all_delivered)
    names = sorted(path.name for path in out.iterdir())
    suffixes = [name.split(".", 1)[1] for name in names]
    assert {suffix: suffixes.count(suffix) for suffix in suffixes} == {
        "json": 4,
        "csv": 4,
        "fhir.json": 4,
        "sr.dcm": 4,
        "sc.dcm": 2,  # there is no heat map without a class map
    }
    assert not any("T-" in name for name in names)
    for result in box.worklist():
        [file] = out.glob(f"{result.item.id:08d}-*-r1.json")
        document = json.loads(file.read_text())
        assert document["outcome"] == result.record.outcome
        assert document["sop_instance_uid"] == result.item.sop_instance_uid
        assert "folder" not in document


def test_routes_say_what_goes_where(box, tmp_path):
    alarm = folder_to(tmp_path / "alarm", "fhir", outcomes=["refer"])
    missing = folder_to(tmp_path / "missing", "json", "sr", outcomes=["insufficient", "not_analysed"])
    with Running(box, alarm, missing) as running:
        route(box, running.config)
        running.until(all_delivered)
    assert len(list((tmp_path / "alarm").iterdir())) == 1
    outcomes = {json.loads(path.read_text())["outcome"] for path in (tmp_path / "missing").glob("*.json")}
    assert outcomes == {"insufficient", "not_analysed"}
    assert len(list((tmp_path / "missing").glob("*.sr.dcm"))) == 2


def test_several_results_travel_on_one_association(box):
    with Archive() as peer, Running(box, archive(peer.port)) as running:
        route(box, running.config)
        running.until(all_delivered)
        running.outbox.stop()
        assert len(peer.stored) == len(set(peer.stored)) == 6  # four reports, two heat maps
        assert peer.associations <= 3


def test_a_dead_archive_does_not_hold_up_the_others(box, tmp_path):
    dead = archive(peers.free_port(), "sr", name="dead")
    with Archive() as peer, Running(box, dead, archive(peer.port), folder_to(tmp_path / "out", "json")) as running:
        route(box, running.config)
        running.until(lambda counts: counts["delivered"] == 10)
        waiting = box.deliveries(state="pending")
        assert {each.destination for each in waiting} == {"dead"}
        assert len(waiting) == 4


def test_a_result_that_is_refused_does_not_hold_up_the_others_and_ends_as_a_dead_letter(box):
    first = box.worklist()[0]
    refused = {dcmread(render(box, first, "sr")).SOPInstanceUID}
    with (
        Archive(lambda uid: 0xC000 if uid in refused else 0x0000) as peer,
        Running(box, archive(peer.port, "sr"), attempts=3) as running,
    ):
        route(box, running.config)
        running.until(lambda counts: counts["dead"] == 1 and counts["pending"] == 0)
        [letter] = box.deliveries(state="dead")
        assert (letter.item_id, letter.attempts, letter.last_error) == (first.item.id, 3, "status C000")
        refused.clear()  # the archive has been mended; a person asks for another attempt
        box.redeliver(letter.id, "admin")
        running.until(all_delivered)
    assert len(set(peer.stored)) == 4


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007, 0x0111])
def test_stored_with_a_warning_or_stored_before_counts_as_delivered(box, status):
    with Archive(lambda uid: status) as peer, Running(box, archive(peer.port, "sr")) as running:
        route(box, running.config)
        running.until(all_delivered)
        assert len(peer.received) == 4


def test_an_archive_that_knows_no_report_still_gets_the_heat_maps(box):
    entity, received = AE("ARCHIVE"), []
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.7")
    port = peers.free_port()
    handlers = [(events.EVT_C_STORE, lambda event: received.append(event) or 0x0000)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        with Running(box, archive(port), attempts=2) as running:
            route(box, running.config)
            running.until(lambda counts: counts["delivered"] == 2 and counts["dead"] == 4)
            errors = {each.last_error for each in box.deliveries(state="dead")}
            assert errors == {"the peer does not take Comprehensive 3D SR Storage"}
    finally:
        server.shutdown()
    assert len(received) == 2


def test_an_eye_set_by_a_person_leaves_as_a_new_revision(box):
    item = box.worklist()[0].item
    with Archive() as peer, Running(box, archive(peer.port)) as running:
        route(box, running.config)
        running.until(all_delivered)
        assert box.set_eye(item.id, "OS", "operator") == 2
        running.until(all_delivered)
        revised = box.record(item.id)
        for kind in ("sr", "sc"):
            document = dcmread(render(box, revised, kind))
            assert document.SOPInstanceUID in peer.stored
            assert document.InstanceNumber == 2
        assert len(peer.stored) == len(set(peer.stored)) == 8
        predecessors = dcmread(render(box, revised, "sr")).PredecessorDocumentsSequence
        assert (
            predecessors[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID in peer.stored
        )


def test_a_report_names_no_predecessor_that_never_left(box):
    """Revision 1 waits for an archive that is away; what was made of it is replaced before it arrives anywhere."""
    item = box.worklist()[0].item
    with Running(box, archive(peers.free_port())) as running:
        route(box, running.config)
        running.until(lambda counts: any(each.attempts for each in box.deliveries(item.id)))
    render(box, box.record(item.id), "sr")
    box.set_eye(item.id, "OS", "operator")
    with Archive() as peer, Running(box, archive(peer.port)) as running:
        running.until(all_delivered)
        report = dcmread(render(box, box.record(item.id), "sr"))
        assert report.SOPInstanceUID in peer.stored
        assert report.InstanceNumber == 2
        assert "PredecessorDocumentsSequence" not in report


def test_what_waits_survives_a_restart(box):
    port = peers.free_port()
    with Running(box, archive(port)) as running:
        route(box, running.config)
        running.until(lambda counts: any(each.attempts for each in box.deliveries(state="pending")))
    assert box.counts().deliveries["pending"] == 6
    with Archive() as peer, Running(box, archive(peer.port)) as running:
        running.until(all_delivered)
        assert len(set(peer.stored)) == 6


def test_results_for_a_destination_that_was_removed_are_put_aside(box, tmp_path):
    with Running(box, folder_to(tmp_path / "old", "json")) as running:
        running.outbox.stop()
        route(box, running.config)
    with Running(box, folder_to(tmp_path / "new", "json")):
        letters = box.deliveries(state="dead")
    assert len(letters) == 4
    assert {letter.last_error for letter in letters} == {"the destination is no longer in the configuration"}


def test_thousands_that_wait_for_what_is_gone_are_put_aside_at_once_also_where_the_clock_was_ahead(box, tmp_path):
    item = box.worklist()[0].item.id
    with box.write() as db:
        for number in range(3000):
            at = "9999-12-31T23:59:59.999+00:00" if number % 2 else "2026-01-01T00:00:00.000+00:00"
            db.execute(
                "INSERT INTO deliveries (item_id, destination, kind, revision, next_attempt_at, created_at)"
                " VALUES (?, 'gone', 'sr', ?, ?, ?)",
                (item, number, at, at),
            )
    started = time.monotonic()
    with Running(box, folder_to(tmp_path / "out", "json")):
        assert time.monotonic() - started < 5
        assert box.counts().deliveries["dead"] == 3000
    assert {letter.attempts for letter in box.deliveries(state="dead")} == {0}  # nobody tried


def test_a_result_revised_while_the_box_runs_does_not_wait_for_a_destination_that_is_gone(box, tmp_path):
    with Running(box, folder_to(tmp_path / "old", "json")) as running:
        route(box, running.config)
        running.until(all_delivered)
    with Running(box, folder_to(tmp_path / "new", "json")) as running:
        box.set_eye(box.worklist()[0].item.id, "OS", "anna")  # leaves again for every destination it went to
        assert box.counts().deliveries["pending"] == 1
        running.outbox.give_up_removed()
        assert (box.counts().deliveries["pending"], box.counts().deliveries["dead"]) == (0, 1)


def test_what_was_put_aside_can_be_sent_when_its_destination_is_back(box, tmp_path):
    with Running(box, folder_to(tmp_path / "old", "json")) as running:
        running.outbox.stop()
        route(box, running.config)
    with Running(box, folder_to(tmp_path / "new", "json")):
        pass
    with Running(box, folder_to(tmp_path / "old", "json")) as running:
        assert box.redeliver_all("old", ["json"], "dead", "anna") == 4
        running.until(all_delivered)
    assert len(list((tmp_path / "old").iterdir())) == 4
    assert not list((tmp_path / "new").iterdir())  # a destination gets what is screened while it is there


def test_results_of_a_kind_that_a_destination_no_longer_takes_are_put_aside(box, tmp_path):
    """It was a folder and is an archive now: JSON cannot go there, and must not hold up what can."""
    with Running(box, folder_to(tmp_path / "pacs", "json", "sr")) as running:
        running.outbox.stop()
        route(box, running.config)
    with Archive() as peer, Running(box, archive(peer.port, "sr")) as running:
        running.until(lambda counts: counts["pending"] == 0)
        assert len(set(peer.stored)) == 4
    letters = box.deliveries(state="dead")
    assert {letter.last_error for letter in letters} == {"the destination no longer takes this kind of result"}
    assert {letter.kind for letter in letters} == {"json"}


def test_a_clock_that_was_ahead_does_not_hold_up_what_waits(box, tmp_path):
    """The waits were counted from a time that is far ahead now."""
    with Running(box, folder_to(tmp_path / "out", "json")) as running:
        running.outbox.stop()
        route(box, running.config)
    for each in box.deliveries():
        box.delivery_failed(each.id, "away", datetime.now(timezone.utc) + timedelta(days=400))
    assert box.next_delivery() is None
    with Running(box, folder_to(tmp_path / "out", "json")) as running:
        running.until(all_delivered)


@pytest.mark.parametrize("lost", ["object", "preview", "maps", "everything"])
def test_a_missing_file_of_one_result_does_not_hold_up_the_others(box, tmp_path, lost):
    result = next(each for each in box.worklist() if each.record.evidence is not None)
    folder = box.result_dir(result.item.id)
    path = {
        "object": box.object_path(result.item),
        "preview": folder / "preview.jpg",
        "maps": folder / "maps.npz",
        "everything": folder,
    }[lost]
    aside = tmp_path / "aside"
    path.rename(aside)
    with Running(box, folder_to(tmp_path / "out", "sr", "sc")) as running:
        with box.write() as db:  # the one without its file comes first
            put_deliveries(db, result.item.id, result.revision, [("out", "sr"), ("out", "sc")])
        route_others(box, running.config, result.item.id)
        pending = partial(box.deliveries, state="pending")
        running.until(lambda counts: {each.item_id for each in pending()} == {result.item.id})  # all others arrived
        running.until(lambda counts: all(each.attempts for each in pending()))
        waiting = pending()
        assert {each.last_error for each in waiting} == {"cannot be made: No such file or directory"}
        if path.exists():  # made again, empty, in the search for what is in it
            shutil.rmtree(path)
        aside.rename(path)
        running.until(all_delivered)


def test_a_data_base_that_is_locked_gives_up_no_result(box, tmp_path, monkeypatch):
    """That it cannot be read is no fault of the result: nothing is counted, and all goes on afterwards."""
    broken = threading.Event()

    def unreadable(*arguments):
        if not broken.is_set():
            broken.set()
            raise sqlite3.OperationalError("database is locked")
        return render(*arguments)

    monkeypatch.setattr(delivery, "render", unreadable)
    with Running(box, folder_to(tmp_path / "out", "json")) as running:
        route(box, running.config)
        running.until(all_delivered)
    assert {each.attempts for each in box.deliveries()} == {1}


def test_a_full_disk_holds_up_everything_and_counts_against_no_result(box, tmp_path, monkeypatch):
    full = threading.Event()
    full.set()

    def no_room(*arguments):
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return render(*arguments)

    monkeypatch.setattr(delivery, "render", no_room)
    with Running(box, folder_to(tmp_path / "out", "json")) as running:
        route(box, running.config)
        time.sleep(1)
        assert {each.attempts for each in box.deliveries()} == {0}
        full.clear()
        running.until(all_delivered)


def test_sent_now_means_now_also_while_the_destination_is_left_alone(box):
    port = peers.free_port()
    slow = {"first_retry_seconds": 200, "max_retry_seconds": 1000}
    with Running(box, archive(port, "sr"), **slow) as running:
        route(box, running.config)
        running.until(lambda counts: any(each.attempts for each in box.deliveries()))
        [tried] = [each for each in box.deliveries() if each.attempts]
        with Archive(port=port) as peer:
            assert box.redeliver(tried.id, "anna")
            running.until(all_delivered)
            assert len(peer.stored) == 4


def test_what_is_asked_for_again_and_again_does_not_hammer_a_destination_that_is_away(box):
    slow = {"first_retry_seconds": 200, "max_retry_seconds": 1000}
    with Running(box, archive(peers.free_port(), "sr"), **slow) as running:
        route(box, running.config)
        assert box.redeliver_all("pacs", ["sr"], "pending", "anna") == 4
        running.until(lambda counts: any(each.attempts for each in box.deliveries()))
        time.sleep(1)
        assert sum(each.attempts for each in box.deliveries()) <= 2
        assert not any(each.urgent for each in box.deliveries())


def test_a_folder_that_is_away_gets_its_files_when_it_returns(box, tmp_path):
    share = tmp_path / "share"
    settings = folder_to(share, "json")
    share.rmdir()
    with Running(box, settings) as running:
        route(box, running.config)
        running.until(lambda counts: any(each.last_error for each in box.deliveries(state="pending")))
        assert not share.exists()
        share.mkdir()
        running.until(all_delivered)
    assert len(list(share.iterdir())) == 4


def test_a_result_whose_source_is_gone_is_a_dead_letter_without_patient_data(box, tmp_path):
    result = box.worklist()[0]
    box.object_path(result.item).write_bytes(b"CANARY" * 100)
    with Running(box, folder_to(tmp_path / "out", "sr")) as running:
        route(box, running.config)
        running.until(lambda counts: counts["dead"] == 1 and counts["pending"] == 0)
    [letter] = box.deliveries(state="dead")
    assert letter.item_id == result.item.id
    assert letter.last_error.startswith("cannot be made: ")
    assert "CANARY" not in letter.last_error


def test_every_destination_gets_the_same_bytes(box, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with Running(box, folder_to(first, "sr", "sc", "json"), folder_to(second, "sr", "sc", "json")) as running:
        route(box, running.config)
        running.until(all_delivered)
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 10


def test_waits_double_up_to_the_longest_with_jitter(box):
    destination = peers.settings(box.data_dir, destination=[archive(1)]).destination[0]
    config = peers.settings(box.data_dir, delivery={"first_retry_seconds": 5, "max_retry_seconds": 900})
    sender = delivery._Sender(destination, config.delivery, box)
    random.seed(1)
    for failures, longest in enumerate((5, 10, 20, 40, 80, 160, 320, 640, 900, 900)):
        waits = [sender._backoff(failures) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert max(waits) - min(waits) > longest / 8
    assert sender._backoff(10_000) <= 900


def test_a_failed_attempt_waits(box, tmp_path):
    gone = {"name": "gone", "kind": "folder", "path": tmp_path / "gone", "results": ("json",)}
    with Running(box, gone, first_retry_seconds=100, max_retry_seconds=1000) as running:
        route(box, running.config)
        running.until(lambda counts: any(each.attempts for each in box.deliveries(state="pending")))
    [tried] = [each for each in box.deliveries(state="pending") if each.attempts]
    wait = datetime.fromisoformat(tried.next_attempt_at) - datetime.now(timezone.utc)
    assert timedelta(seconds=40) < wait <= timedelta(seconds=100)


def test_results_that_take_long_to_make_do_not_cost_the_association(box, monkeypatch):
    def slowly(*arguments):
        time.sleep(1.2)
        return render(*arguments)

    monkeypatch.setattr(delivery, "render", slowly)
    with Archive() as peer, Running(box, archive(peer.port, "sr", timeout_seconds=1)) as running:
        route(box, running.config)
        running.until(all_delivered)
        assert peer.associations == 1
        assert {each.attempts for each in box.deliveries()} == {1}


def test_stopping_waits_for_the_result_under_way(box):
    started = threading.Event()

    def slowly(uid):
        started.set()
        time.sleep(0.5)
        return 0x0000

    with Archive(slowly) as peer, Running(box, archive(peer.port, "sr")) as running:
        route(box, running.config)
        assert started.wait(20)
        running.outbox.stop()
        sent = len(peer.stored)
    counts = box.counts().deliveries
    assert counts["delivered"] == sent >= 1
    assert counts["pending"] == 4 - sent


def test_tls_to_the_archive(box, tmp_path):
    if peers.missing("openssl"):
        pytest.skip("openssl is not installed")
    cert, key = peers.certificate(tmp_path)
    entity, received = AE("ARCHIVE"), []
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34")
    port = peers.free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    handlers = [(events.EVT_C_STORE, lambda event: received.append(event) or 0x0000)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=context)
    try:
        with Running(box, archive(port, "sr", tls_ca=cert)) as running:
            route(box, running.config)
            running.until(all_delivered)
    finally:
        server.shutdown()
    assert len(received) == 4
    with pytest.raises(RealMNetError, match="destination pacs: TLS cannot be used"):
        Outbox(peers.settings(tmp_path / "other", destination=[archive(port, tls_ca=tmp_path / "none.pem")]), box)
