"""Images arrive over the network: what is taken, what is refused and how, and that success means durable."""

import hashlib
import logging
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections import namedtuple
from contextlib import contextmanager, suppress

import numpy as np
import peers
import pytest
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, dsutils, events
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification

from edge_app.dicom import STORAGE_CLASSES, TRANSFER_SYNTAXES, read_attributes, reserve_answers
from edge_app.dicom_intake import start
from edge_app.store import Store
from keras_realmnet.errors import RealMNetError

SMALL = np.full((64, 80, 3), 90, np.uint8)


@pytest.fixture
def box(tmp_path):
    with peers.intake(tmp_path / "box") as running:
        yield running


@contextmanager
def association(port, *contexts, title="SCANNER", called="REALMNET", **options):
    """An association from `title`, by default with every storage class and transfer syntax."""
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context(Verification)
    for storage_class in () if contexts else STORAGE_CLASSES:
        for syntax in TRANSFER_SYNTAXES:
            entity.add_requested_context(storage_class, syntax)
    for storage_class, syntax in contexts:
        entity.add_requested_context(storage_class, syntax)
    opened = entity.associate("127.0.0.1", port, ae_title=called, **options)
    reserve_answers(opened)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def send(port, image, **options):
    with association(port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID), **options) as opened:
        assert opened.is_established
        return opened.send_c_store(image).get("Status")


def send_raw(opened, data, sop_class, instance):
    """A C-STORE of any bytes under any UIDs; returns the response."""
    context = next(c for c in opened.accepted_contexts if c.abstract_syntax in STORAGE_CLASSES)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, instance
    request.DataSet = data
    opened.dimse.send_msg(request, context.context_id)
    return opened.dimse.get_msg(block=True)[1]


@pytest.mark.parametrize("storage_class", STORAGE_CLASSES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_class_is_offered_in_every_transfer_syntax(shared_box, storage_class, syntax):
    _, server = shared_box
    with association(server.port, (storage_class, syntax)) as opened:
        assert opened.is_established
        accepted = [(c.abstract_syntax, c.transfer_syntax[0]) for c in opened.accepted_contexts]
    assert (storage_class, syntax) in accepted


@pytest.fixture(scope="module")
def shared_box(tmp_path_factory):
    with peers.intake(tmp_path_factory.mktemp("box")) as running:
        yield running


UNWRITTEN = (JPEGLosslessSV1, JPEG2000)  # by `peers.ophthalmic`


@pytest.mark.parametrize("syntax", sorted({*TRANSFER_SYNTAXES} - {*UNWRITTEN}), ids=lambda uid: uid.keyword)
def test_received_bytes_are_kept_as_they_came(shared_box, tmp_path, syntax):
    store, server = shared_box
    image = peers.ophthalmic(SMALL, syntax)
    sent = peers.write(image, tmp_path / "sent.dcm")
    assert send(server.port, dcmread(sent)) == 0x0000
    item = store.items()[0]
    kept = store.object_path(item)
    assert (item.state, item.source, item.origin) == ("pending", "dicom", "SCANNER")
    assert (item.sop_instance_uid, item.study_uid) == (image.SOPInstanceUID, image.StudyInstanceUID)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == item.sha256 == kept.stem
    assert item.bytes == kept.stat().st_size
    assert dcmread(kept).file_meta.TransferSyntaxUID == syntax
    if syntax != DeflatedExplicitVRLittleEndian:  # pynetdicom deflates anew when it sends
        assert peers.encoded(kept) == peers.encoded(sent)
    assert np.array_equal(dcmread(kept).pixel_array, dcmread(sent).pixel_array)
    attributes = read_attributes(kept)
    assert (attributes.PatientID, attributes.ImageLaterality) == ("T-1", "R")
    assert "PixelData" not in attributes


def test_the_same_object_again_is_a_success_and_nothing_new(box):
    store, server = box
    image = peers.ophthalmic(SMALL)
    assert [send(server.port, image, title=title) for title in ("SCANNER", "PACS", "SCANNER")] == [0, 0, 0]
    assert len(store.items()) == 1


def test_the_same_uid_with_other_bytes_is_kept_in_quarantine(box):
    store, server = box
    image = peers.ophthalmic(SMALL)
    assert send(server.port, image) == 0x0000
    image.PatientID = "T-2"
    assert send(server.port, image) == 0x0000
    second, first = store.items()
    assert (first.state, second.state) == ("pending", "quarantined")
    assert "same SOP Instance UID" in second.reason
    assert dcmread(store.object_path(second)).PatientID == "T-2"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"SOPInstanceUID": "1.2.3"}, 0x0117),  # not the one of the request
        ({"SOPInstanceUID": None}, 0x0117),
        ({"StudyInstanceUID": None}, 0x0117),
        ({"StudyInstanceUID": "../../etc/passwd"}, 0x0117),
        ({"SeriesInstanceUID": ""}, 0x0117),
        ({"SOPClassUID": CTImageStorage}, 0xA900),
    ],
    ids=str,
)
def test_a_data_set_that_does_not_fit_its_request_is_refused(box, change, status):
    store, server = box
    image = peers.ophthalmic(SMALL)
    instance = image.SOPInstanceUID
    for keyword, value in change.items():
        delattr(image, keyword) if value is None else setattr(image, keyword, value)
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        response = send_raw(opened, peers.BytesIO(dsutils.encode(image, False, True)), STORAGE_CLASSES[0], instance)
        assert response.Status == status
        assert response.ErrorComment
        assert "T-1" not in response.ErrorComment
        assert opened.send_c_echo().Status == 0x0000  # the association lives on
    assert store.items() == []
    assert [path for path in store.data_dir.rglob("*") if path.suffix in (".dcm", ".part")] == []


@pytest.mark.parametrize("uid", ["../../../tmp/x", "1.2.3/4", "1" * 64, "..", "1.2;3", "1.2\nERROR"])
def test_a_uid_is_never_a_path(box, uid):
    store, server = box
    image = peers.ophthalmic(SMALL, SOPInstanceUID=uid)
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        response = send_raw(opened, peers.BytesIO(dsutils.encode(image, False, True)), STORAGE_CLASSES[0], uid)
    taken = uid.isdigit()
    assert response.Status == (0x0000 if taken else 0x0117)
    files = list(store.data_dir.rglob("*.dcm"))
    assert len(files) == len(store.items()) == taken
    assert all(len(path.stem) == 64 and path.parent.parent == store.data_dir / "objects" for path in files)


@pytest.mark.parametrize("title", [b"A\nERROR forged\r", b"A\x1b[2JERROR\x00fo", b"\xff\xfeERROR\xe2\x80\xa8for"])
def test_a_title_forges_no_line_of_the_log(box, caplog, title):
    store, server = box
    caplog.set_level(logging.DEBUG)

    def tamper(event):  # no library sends such a title
        connection = event.assoc.dul.socket
        send = connection.send
        connection.send = lambda data: send(data.replace(b"HONEST-TITLE    ", title.ljust(16)))

    image = peers.ophthalmic(SMALL)
    context = (STORAGE_CLASSES[0], ExplicitVRLittleEndian)
    with association(
        server.port, context, title="HONEST-TITLE", evt_handlers=[(events.EVT_CONN_OPEN, tamper)]
    ) as opened:
        if opened.is_established:  # pynetdicom takes some of them
            opened.send_c_store(image)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("edge_app")]
    assert all(line.isprintable() for line in lines)
    assert send(server.port, image) == 0x0000
    assert len(store.items()) == 1


def test_another_class_than_negotiated_is_refused(box):
    store, server = box
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        response = send_raw(opened, peers.BytesIO(b"\x08\x00" * 20), CTImageStorage, generate_uid())
        assert response.Status == 0x0122
    assert store.items() == []


@pytest.mark.parametrize("data", [None, b"\0", b"\xff" * 2000, b"\x08\x00\x18\x00UI\xff\xff1.2", b"PK\x03\x04" * 99])
def test_what_is_no_data_set_cannot_be_understood(box, data):
    _, server = box
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        data_set = None if data is None else peers.BytesIO(data)
        response = send_raw(opened, data_set, STORAGE_CLASSES[0], generate_uid())
        assert response.Status in (0xC000, 0x0117)
        assert opened.send_c_echo().Status == 0x0000


def test_a_deflated_bomb_costs_little(box):
    _, server = box
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(400 << 20)) + deflate.flush()
    with association(server.port, (STORAGE_CLASSES[0], DeflatedExplicitVRLittleEndian)) as opened:
        tracemalloc.start()
        response = send_raw(opened, peers.BytesIO(bomb), STORAGE_CLASSES[0], generate_uid())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert response.Status in (0xC000, 0x0117)
    assert peak < 100 << 20


def test_below_the_watermark_nothing_is_taken_until_space_returns(box, monkeypatch):
    store, server = box
    usage = namedtuple("usage", "total used free")
    free = 0
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 0, free))
    image = peers.ophthalmic(SMALL)
    assert send(server.port, image) == 0xA700
    assert store.items() == []
    free = 10**9
    assert send(server.port, image) == 0x0000
    assert len(store.items()) == 1


def test_a_write_that_fails_is_refused_and_leaves_nothing(box, monkeypatch):
    store, server = box

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert send(server.port, peers.ophthalmic(SMALL)) == 0xA700
    assert store.items() == []
    assert list(store.incoming.iterdir()) == []
    assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000


def test_an_object_over_the_cap_is_refused_without_being_kept_in_memory(tmp_path):
    large = np.zeros((1024, 1024, 3), np.uint8)
    with peers.intake(tmp_path / "box", dicom={"max_object_mb": 1}) as (store, server):
        assert send(server.port, peers.ophthalmic(large)) == 0xA700
        assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000
        assert len(store.items()) == 1


def test_who_may_store(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"allowed_ae_titles": ["SCANNER"]}) as (store, server):
        assert send(server.port, peers.ophthalmic(SMALL), title="SCANNER") == 0x0000
        assert send(server.port, peers.ophthalmic(SMALL), title="STRANGER") == 0x0124
        with association(server.port, title="STRANGER") as opened:
            assert opened.send_c_echo().Status == 0x0000  # an installer may look whether it is there
        with association(server.port, called="SOMEONE") as opened:
            assert opened.is_rejected
        assert [item.origin for item in store.items()] == ["SCANNER"]


def test_addresses_that_are_not_allowed_are_not_heard(tmp_path):
    with (
        peers.intake(tmp_path / "box", dicom={"allowed_hosts": ["10.1.0.0/16"]}) as (_, server),
        association(server.port) as opened,
    ):
        assert not opened.is_established
    with (
        peers.intake(tmp_path / "other", dicom={"allowed_hosts": ["10.1.0.0/16", "127.0.0.1"]}) as (_, server),
        association(server.port) as opened,
    ):
        assert opened.is_established


def test_no_more_associations_than_allowed(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"max_associations": 2}) as (_, server):
        with association(server.port) as first, association(server.port) as second:
            assert first.is_established
            assert second.is_established
            with association(server.port) as third:
                assert third.is_rejected
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        time.sleep(0.5)
        assert server.associations <= 5  # twice the cap, and the one just being looked at
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    "sent", [b"", b"\x01\x00\x00", b"\x01\x00\x7f\xff\xff\xff" + b"x" * 100, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_a_peer_that_stalls_or_babbles_is_let_go(tmp_path, sent):
    timeouts = {"network_timeout_seconds": 0.5, "acse_timeout_seconds": 0.5}
    with peers.intake(tmp_path / "box", dicom=timeouts) as (_, server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
            connection.settimeout(8)
            with suppress(ConnectionError):  # it ends one way or the other
                while connection.recv(1000):
                    pass
        deadline = time.monotonic() + 5
        while server.associations and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.associations == 0
        assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000


def test_stopping_lets_an_object_arrive_that_is_under_way(tmp_path):
    config = peers.settings(tmp_path / "box")
    store = Store(config.data_dir)
    server = start(config, store)
    statuses = []
    large = peers.ophthalmic(np.zeros((2000, 2000, 3), np.uint8))
    sender = threading.Thread(target=lambda: statuses.append(send(server.port, large)))
    sender.start()
    while not server._receiving():
        time.sleep(0.001)
    server.stop()
    sender.join()
    assert statuses == [0x0000]
    assert len(store.items()) == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    store.close()


def test_a_taken_port_is_one_clear_error(box, tmp_path):
    _, server = box
    with pytest.raises(RealMNetError, match=f"port {server.port} cannot start"):
        start(peers.settings(tmp_path / "other", dicom={"port": server.port}), Store(tmp_path / "other"))


def test_nothing_about_the_patient_is_logged(box, caplog, capfd):
    _, server = box
    caplog.set_level(logging.DEBUG)
    canary = "CANARY7431"
    image = peers.ophthalmic(
        SMALL, PatientID=canary, PatientName=f"{canary}^A", StudyID=canary, StudyDate=canary, SeriesDescription=canary
    )
    assert send(server.port, image) == 0x0000
    image.SOPClassUID = CTImageStorage
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        data = peers.BytesIO(dsutils.encode(image, False, True))
        assert send_raw(opened, data, STORAGE_CLASSES[0], image.SOPInstanceUID).Status == 0xA900
    assert "refused with A900" in caplog.text
    assert canary not in caplog.text + "".join(capfd.readouterr())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-made certificate for 127.0.0.1: (certificate, key)."""
    if peers.missing("openssl"):
        pytest.skip("openssl is not installed")
    return peers.certificate(tmp_path_factory.mktemp("tls"))


def test_tls_and_that_a_silent_peer_holds_up_nobody(tmp_path, certificate):
    cert, key = certificate
    secured = {"tls_certificate": cert, "tls_key": key, "tls_ca": cert}
    trusted = ssl.create_default_context(cafile=cert)
    trusted.load_cert_chain(cert, key)
    with peers.intake(tmp_path / "box", dicom=secured) as (store, server):
        with socket.create_connection(("127.0.0.1", server.port)):  # connects and does not shake hands
            image = peers.ophthalmic(SMALL)
            assert send(server.port, image, tls_args=(trusted, "127.0.0.1")) == 0x0000
        with association(server.port) as plain:
            assert not plain.is_established
        stranger = ssl.create_default_context(cafile=cert)
        with association(server.port, tls_args=(stranger, "127.0.0.1")) as unknown:
            assert not unknown.is_established
        assert len(store.items()) == 1


def test_tls_files_that_do_not_work_are_one_clear_error(tmp_path):
    (tmp_path / "bad.pem").write_text("nonsense")
    broken = {"tls_certificate": tmp_path / "bad.pem", "tls_key": tmp_path / "bad.pem"}
    with pytest.raises(RealMNetError, match="cannot start"):
        start(peers.settings(tmp_path / "box", dicom=broken), Store(tmp_path / "box"))


@pytest.mark.skipif(bool(peers.missing("echoscu", "storescu", "dcmsend")), reason="dcmtk is not installed")
def test_dcmtk_sends(box, tmp_path):
    store, server = box
    files = [
        peers.write(peers.ophthalmic(SMALL, syntax), tmp_path / f"{i}.dcm")
        for i, syntax in enumerate((ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless, RLELossless))
    ]
    to = ("-aec", "REALMNET", "127.0.0.1", server.port)
    assert peers.run("echoscu", *to).returncode == 0
    assert peers.run("echoscu", "-aec", "OTHER", "127.0.0.1", server.port).returncode != 0
    assert peers.run("storescu", "-R", *to, files[0]).returncode == 0
    assert peers.run("storescu", "-R", "-xy", *to, files[1]).returncode == 0
    sent = peers.run("dcmsend", "+sd", "--no-halt", "--decompress-never", *to, tmp_path)
    assert sent.returncode == 0, sent.stdout
    kept = {peers.encoded(store.object_path(item)) for item in store.items()}
    assert kept == {peers.encoded(path) for path in files}


def test_peers_that_connect_and_leave_are_forgotten_at_once(box):
    _, server = box
    for _ in range(4):
        for _ in range(5):
            socket.create_connection(("127.0.0.1", server.port)).close()
        deadline = time.monotonic() + 15  # of the 30 that pynetdicom waits for a request
        while server.associations:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_stopping_does_not_wait_for_a_peer_that_stalls(tmp_path):
    config = peers.settings(tmp_path / "box")
    store = Store(config.data_dir)
    server = start(config, store)
    with socket.create_connection(("127.0.0.1", server.port)) as stalled:
        stalled.sendall(b"\x01\x00\x00")  # the beginning of a PDU
        with association(server.port) as idle:
            assert idle.is_established
            started = time.monotonic()
            server.stop(0.1)
            assert time.monotonic() - started < 10
            assert server.associations == 0
    store.close()
