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
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    Comprehensive3DSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RawDataStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context, dsutils, events
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    Verification,
)

from edge_app.dicom.compat import reserve_answers
from edge_app.dicom.header import read_attributes
from edge_app.dicom.identifiers import IMPLEMENTATION_UID, STORAGE_CLASSES, TRANSFER_SYNTAXES
from edge_app.dicom.own_results import HEAT_MAP_TYPE, MANUFACTURER
from edge_app.inbox.arriving import BEGINNING
from edge_app.inbox.dicom_intake import start
from edge_app.store.items import Incoming
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from tests.proofs import peers

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


def send_raw(opened, data, sop_class, instance, among=STORAGE_CLASSES):
    """A C-STORE of any bytes under any UIDs; returns the response."""
    context = next(c for c in opened.accepted_contexts if c.abstract_syntax in among)
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


def test_an_object_over_the_cap_is_refused_without_being_kept(tmp_path):
    large = np.zeros((1024, 1024, 3), np.uint8)
    with peers.intake(tmp_path / "box", dicom={"max_object_mb": 1}) as (store, server):
        assert send(server.port, peers.ophthalmic(large)) == 0xA700
        assert send(server.port, other(large.tobytes())) == 0xA700
        assert list(store.incoming.iterdir()) == []
        assert store.dropped() == []
        assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000
        assert len(store.items()) == 1


# ---- what comes goes to the disk, not into memory -----------------------------------------------------------------


LARGE = np.random.default_rng(0).integers(0, 255, (2500, 4000, 3), np.uint8)  # 30 MB


class Halted:
    """A sender that stops in the middle of an object: `reached` is set after so many PDUs, `go` lets it go on."""

    def __init__(self, after: int):
        self.reached, self.go = threading.Event(), threading.Event()
        self._left = after

    def __call__(self, event):
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            self.go.wait(30)


@contextmanager
def halfway(server, image, after=40):
    """In the middle of the sending of an image from another thread."""
    halted, statuses = Halted(after), []
    handlers = [(events.EVT_PDU_SENT, halted)]

    def run():
        with suppress(RuntimeError):
            statuses.append(send(server.port, image, evt_handlers=handlers))

    sender = threading.Thread(target=run)
    sender.start()
    assert halted.reached.wait(30)
    try:
        yield statuses
    finally:
        halted.go.set()
        sender.join()


def test_an_object_that_comes_is_on_the_disk_and_not_in_memory(box):
    store, server = box
    with halfway(server, peers.ophthalmic(LARGE)) as statuses:
        wait_for(lambda: sum(path.stat().st_size for path in store.incoming.iterdir()) > 2 << 20)
        [association] = server._server.active_associations
        assert association.dimse.message.data_set.getbuffer().nbytes == 0
    assert statuses == [0x0000]
    [item] = store.items()
    assert item.bytes > LARGE.nbytes
    assert hashlib.sha256(store.object_path(item).read_bytes()).hexdigest() == item.sha256
    assert list(store.incoming.iterdir()) == []


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_connection_that_breaks_leaves_nothing(box):
    store, server = box
    image = peers.ophthalmic(LARGE)
    entity = AE("SCANNER")
    entity.add_requested_context(image.SOPClassUID, ExplicitVRLittleEndian)
    halted = Halted(40)
    opened = entity.associate(
        "127.0.0.1", server.port, ae_title="REALMNET", evt_handlers=[(events.EVT_PDU_SENT, halted)]
    )
    sender = threading.Thread(target=lambda: opened.send_c_store(image))
    sender.start()
    assert halted.reached.wait(30)
    wait_for(lambda: list(store.incoming.iterdir()))
    opened.dul.socket.socket.close()
    wait_for(lambda: not list(store.incoming.iterdir()))
    halted.go.set()
    opened.abort()
    sender.join()
    wait_for(lambda: not server.associations)
    assert server._under_way == {}
    assert store.items() == []
    assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000


def test_files_that_a_crash_left_half_written_go_at_the_start(box):
    store, _ = box
    (store.incoming / "0123.part").write_bytes(b"x")
    store.recover()
    assert list(store.incoming.iterdir()) == []


def test_a_disk_that_gets_full_while_an_object_comes_is_a_refusal(box, monkeypatch):
    store, server = box
    usage = namedtuple("usage", "total used free")
    free = [10**9]
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 0, free[0]))
    with halfway(server, peers.ophthalmic(LARGE)) as statuses:
        wait_for(lambda: list(store.incoming.iterdir()))
        free[0] = 0
    assert statuses == [0xA700]
    assert store.items() == []
    assert list(store.incoming.iterdir()) == []
    free[0] = 10**9
    assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000


def test_a_write_that_fails_while_an_object_comes_is_a_refusal(box, monkeypatch):
    store, server = box
    writes = []

    def full(self, chunk):
        writes.append(len(chunk))
        if len(writes) > 5:
            raise OSError(28, "No space left on device")
        return write(self, chunk)

    write = Incoming.write
    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "write", full)
        assert send(server.port, peers.ophthalmic(LARGE)) == 0xA700
    assert len(writes) == 6
    assert list(store.incoming.iterdir()) == []
    assert send(server.port, peers.ophthalmic(LARGE)) == 0x0000


@pytest.mark.parametrize("pdu", [1000, 16382, 1 << 20], ids=["many PDUs", "usual PDUs", "one PDU"])
def test_the_stored_file_is_the_same_however_it_came(box, pdu, monkeypatch):
    store, server = box
    image = peers.ophthalmic(SMALL)
    monkeypatch.setattr("edge_app.inbox.negotiation.MAX_PDU", pdu)
    with peers.intake(store.data_dir / "other") as (other_store, other):
        assert send(other.port, image) == send(server.port, image) == 0x0000
        [item], [same] = store.items(), other_store.items()
    assert item.sha256 == same.sha256
    meta = dsutils.encode_file_meta(dcmread(store.object_path(item)).file_meta)
    expected = b"\0" * 128 + b"DICM" + meta + dsutils.encode(image, False, True)
    assert store.object_path(item).read_bytes() == expected


def test_the_stored_file_of_an_object_is_what_earlier_releases_stored(box):
    """Part of the identity of every object that is known already."""
    store, server = box
    image = peers.ophthalmic(SMALL)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(image, keyword, f"1.2.3.{len(keyword)}")
    assert send(server.port, image) == 0x0000
    assert store.items()[0].sha256 == "ff20840e19bb6e16cba51cf17ab634afbdbe680c16df1271c74da2d21ac00d48"


def test_a_peer_that_does_not_wait_for_answers_is_ended(box):
    store, server = box
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        context = opened.accepted_contexts[0]
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = STORAGE_CLASSES[0], "1.2.3"
        with server._lock:  # nothing is answered meanwhile
            for _ in range(40):
                request.DataSet = peers.BytesIO(bytes(300_000))
                opened.dimse.send_msg(request, context.context_id)
            wait_for(lambda: opened.is_aborted, 5)  # before its own time-out
    wait_for(lambda: not server.associations)
    assert list(store.incoming.iterdir()) == []


def test_a_command_without_an_end_is_ended(box):
    _, server = box
    with association(server.port, (STORAGE_CLASSES[0], ExplicitVRLittleEndian)) as opened:
        context = opened.accepted_contexts[0].context_id
        for _ in range(40):
            part = P_DATA()
            part.presentation_data_value_list.append((context, b"\x01" + bytes(10_000)))  # never the last
            opened.dul.send_pdu(part)
        wait_for(lambda: opened.is_aborted, 5)  # before its own time-out


# ---- what is no picture ------------------------------------------------------------------------------------------

PRIVATE_CLASS, PRIVATE_SYNTAX = UID("1.2.276.0.99999.1"), UID("1.2.276.0.99999.2")
OTHERS = {
    EncapsulatedPDFStorage: "Encapsulated PDF Storage (1.2.840.10008.5.1.4.1.1.104.1)",
    RawDataStorage: "Raw Data Storage (1.2.840.10008.5.1.4.1.1.66)",
    Comprehensive3DSRStorage: "Comprehensive 3D SR Storage (1.2.840.10008.5.1.4.1.1.88.34)",
    CTImageStorage: "CT Image Storage (1.2.840.10008.5.1.4.1.1.2)",
    MultiFrameSingleBitSecondaryCaptureImageStorage: (
        "Multi-frame Single Bit Secondary Capture Image Storage (1.2.840.10008.5.1.4.1.1.7.1)"
    ),
    UID("1.2.840.10008.5.1.4.38.1"): "Hanging Protocol Storage (1.2.840.10008.5.1.4.38.1)",
    UID("1.2.840.10008.5.1.4.1.1.77.1.5.999"): "unknown class 1.2.840.10008.5.1.4.1.1.77.1.5.999",
    PRIVATE_CLASS: f"unknown class {PRIVATE_CLASS}",
}


def other(document: bytes = b"%PDF-1.4", sop_class=EncapsulatedPDFStorage, syntax=ExplicitVRLittleEndian, **attributes):
    """An object that is no picture, of the patient of `peers.ophthalmic`."""
    image = peers.ophthalmic(SMALL, ExplicitVRLittleEndian, SOPClassUID=sop_class, PixelData=None, **attributes)
    image.file_meta.TransferSyntaxUID = syntax
    image.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return image


@pytest.mark.parametrize("sop_class", OTHERS, ids=lambda uid: uid.name)
def test_what_is_no_picture_is_noted_and_dropped(box, sop_class):
    store, server = box
    for title in ("SCANNER", "PACS", "SCANNER"):
        assert send(server.port, other(sop_class=sop_class), title=title) == 0x0000
    lines = [(row["actor"], row["action"], row["item_id"], row["detail"]) for row in store.trail()]
    kind = OTHERS[sop_class]
    assert lines == [
        ("dicom", "received and dropped", None, f"{kind}, from {title}") for title in ("SCANNER", "PACS", "SCANNER")
    ]
    assert {(each.kind, each.origin, each.number) for each in store.dropped()} == {
        (kind, "SCANNER", 2),
        (kind, "PACS", 1),
    }
    assert store.items() == []
    assert [path for path in store.data_dir.rglob("*") if path.suffix in (".dcm", ".part")] == []


@pytest.mark.parametrize(
    "syntax", [JPEGLSLossless, HTJ2KLossless, ExplicitVRBigEndian, MPEG2MPML, PRIVATE_SYNTAX], ids=str
)
def test_what_is_dropped_may_come_in_any_transfer_syntax(box, syntax):
    store, server = box
    image = other()
    data, uid = dsutils.encode(image, False, True), image.SOPInstanceUID
    with association(server.port, (EncapsulatedPDFStorage, syntax), (STORAGE_CLASSES[0], syntax)) as opened:
        taken = (
            {EncapsulatedPDFStorage, STORAGE_CLASSES[0]} if syntax in TRANSFER_SYNTAXES else {EncapsulatedPDFStorage}
        )
        assert {context.abstract_syntax for context in opened.accepted_contexts} == {*taken, Verification}
        sent = send_raw(opened, peers.BytesIO(data), EncapsulatedPDFStorage, uid, among=[EncapsulatedPDFStorage])
        assert sent.Status == 0x0000
    assert [each.number for each in store.dropped()] == [1]


@pytest.mark.parametrize(
    "uid",
    [
        PatientRootQueryRetrieveInformationModelFind,
        StorageCommitmentPushModel,
        ModalityPerformedProcedureStep,
        "1.2.a",
        "<b>",
    ],
    ids=str,
)
def test_other_services_are_not_taken_for_storage(box, uid):
    _, server = box
    with association(server.port, (uid, ExplicitVRLittleEndian)) as opened:
        assert [context.abstract_syntax for context in opened.accepted_contexts] == [Verification]


def test_a_query_under_an_unknown_class_does_no_harm(box):
    store, server = box
    with association(server.port, (PRIVATE_CLASS, ExplicitVRLittleEndian)) as opened:
        for _ in opened.send_c_find(peers.Dataset(), PRIVATE_CLASS):
            pass
    assert store.dropped() == store.items() == []
    assert send(server.port, other()) == 0x0000


def test_a_picture_under_the_name_of_another_class_is_not_dropped(box):
    store, server = box
    picture = peers.ophthalmic(SMALL)
    data = dsutils.encode(picture, False, True)
    for syntax in (ExplicitVRLittleEndian, JPEGLSLossless):
        with association(server.port, (RawDataStorage, syntax)) as opened:
            sent = send_raw(opened, peers.BytesIO(data), RawDataStorage, picture.SOPInstanceUID, among=[RawDataStorage])
            assert sent.Status == 0xA900
            sent = send_raw(
                opened,
                peers.BytesIO(dsutils.encode(other(sop_class=RawDataStorage), False, True)),
                RawDataStorage,
                "1.2",
                among=[RawDataStorage],
            )
            assert sent.Status == 0x0117
    assert store.dropped() == []


@pytest.mark.parametrize(
    "sop_class",
    [
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        VLPhotographicImageStorage,
    ],
    ids=lambda uid: uid.keyword,
)
def test_a_secondary_capture_and_a_photograph_are_pictures(box, sop_class):
    store, server = box
    image = peers.ophthalmic(SMALL, SOPClassUID=sop_class, NumberOfFrames=2, PixelData=2 * SMALL.tobytes())
    assert send(server.port, image) == 0x0000
    assert [item.sop_class_uid for item in store.items()] == [sop_class]
    assert store.dropped() == []


def test_switched_off_other_classes_are_refused(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"accept_other_objects": False}) as (store, server):
        for sop_class in OTHERS:
            with association(server.port, (sop_class, ExplicitVRLittleEndian)) as opened:
                assert [context.abstract_syntax for context in opened.accepted_contexts] == [Verification]
        assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000
        assert len(store.items()) == 1


def test_who_may_not_store_may_not_have_dropped_either(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"allowed_ae_titles": ["SCANNER"]}) as (store, server):
        assert send(server.port, other(), title="STRANGER") == 0x0124
        assert send(server.port, other(bytes(1 << 20)), title="STRANGER") == 0x0124
        assert store.dropped() == []
        assert send(server.port, other(), title="SCANNER") == 0x0000


def test_an_object_that_is_dropped_needs_neither_disk_nor_memory(box, monkeypatch):
    store, server = box
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 0, 0))
    with halfway(server, other(LARGE.tobytes())) as statuses:
        assert list(store.incoming.iterdir()) == []
        [[arriving]] = server._under_way.values()
        assert len(arriving.beginning) == BEGINNING
        assert arriving.getbuffer().nbytes == 0
    assert statuses == [0x0000]
    assert len(store.dropped()) == 1
    assert send(server.port, peers.ophthalmic(SMALL)) == 0xA700  # pictures need room


def test_what_cannot_be_noted_is_not_a_success(box):
    store, server = box
    pages = server._writer.submit(lambda: store.db.execute("PRAGMA page_count").fetchone()[0]).result()
    server._writer.submit(lambda: store.db.execute(f"PRAGMA max_page_count = {pages}")).result()
    statuses = [send(server.port, other()) for _ in range(60)]
    assert 0xA700 in statuses  # the data base is full
    assert sum(each.number for each in store.dropped()) == statuses.count(0x0000)
    server._writer.submit(lambda: store.db.execute("PRAGMA max_page_count = 1000000")).result()
    assert send(server.port, other()) == 0x0000


def test_nothing_about_the_patient_is_noted_of_what_is_dropped(box, caplog):
    store, server = box
    caplog.set_level(logging.DEBUG)
    canary = "CANARY7431"
    assert send(server.port, other(canary.encode(), PatientID=canary, PatientName=canary, StudyID=canary)) == 0x0000
    assert canary not in caplog.text + "".join(str(tuple(row)) for row in store.trail())


def test_the_pdf_of_a_study_stops_no_sender(box, shared, tmp_path):
    store, server = box
    files = [peers.write(peers.ophthalmic(SMALL), tmp_path / f"{i}.dcm") for i in range(2)]
    files.insert(1, shared / "trials" / "pdf_of_a_study.dcm")
    with association(
        server.port, *((uid, ExplicitVRLittleEndian) for uid in (*STORAGE_CLASSES, EncapsulatedPDFStorage))
    ) as opened:
        assert [opened.send_c_store(file).Status for file in files] == [0, 0, 0]
    assert len(store.items()) == 2
    assert [each.kind for each in store.dropped()] == [OTHERS[EncapsulatedPDFStorage]]


# ---- the box's own results ----------------------------------------------------------------------------------------


def heat_map(**attributes):
    """A Secondary Capture as `heat_map.heat_map` marks it."""
    own = {"Manufacturer": MANUFACTURER, "ImageType": list(HEAT_MAP_TYPE)}
    return peers.ophthalmic(SMALL, SOPClassUID=SecondaryCaptureImageStorage, **own | attributes)


def test_a_heat_map_of_this_software_is_no_picture(box):
    store, server = box
    assert send(server.port, heat_map()) == 0x0000
    assert store.items() == []
    assert [(each.kind, each.origin) for each in store.dropped()] == [("a result of this software", "SCANNER")]
    assert [path for path in store.data_dir.rglob("*") if path.suffix in (".dcm", ".part")] == []


def equipment(**attributes):
    """An item of the Contributing Equipment Sequence."""
    item = Dataset()
    item.update(attributes)
    return item


OF_A_HEAT_MAP = [
    {"Manufacturer": MANUFACTURER.upper()},
    {"SeriesDescription": "Heat map - NOT FOR DIAGNOSIS"},
    {"ImageComments": "NOT FOR DIAGNOSIS. Research software: not a medical device, not for clinical use."},
    {"DerivationDescription": "Class map of label A3 by psmm 1.0, drawn over a reduced copy of the source image."},
    {"SoftwareVersions": ["keras-realmnet 1.0", "psmm 1.0"]},
    {"ContributingEquipmentSequence": [equipment(Manufacturer=MANUFACTURER)]},
    {"ContributingEquipmentSequence": [equipment(SoftwareVersions="keras-realmnet 1.0")]},
]


@pytest.mark.parametrize("manufacturer", ["ARCHIVE", "", None], ids=str)
@pytest.mark.parametrize("mark", OF_A_HEAT_MAP, ids=lambda mark: next(iter(mark)))
def test_one_mark_is_enough_where_an_archive_rewrote_the_others(box, mark, manufacturer):
    store, server = box
    assert send(server.port, heat_map(**{"Manufacturer": manufacturer} | mark)) == 0x0000
    assert store.items() == []
    assert [each.kind for each in store.dropped()] == ["a result of this software"]


@pytest.mark.parametrize("mark", OF_A_HEAT_MAP, ids=lambda mark: next(iter(mark)))
@pytest.mark.parametrize("image_type", [["ORIGINAL", "PRIMARY", "", "RG"], ["DERIVED", "SECONDARY"], "HEATMAP", None])
def test_a_mark_alone_makes_no_heat_map(box, mark, image_type):
    store, server = box
    assert send(server.port, heat_map(**mark, ImageType=image_type)) == 0x0000
    assert len(store.items()) == 1


@pytest.mark.parametrize("mark", OF_A_HEAT_MAP[1:], ids=lambda mark: next(iter(mark)))
def test_a_picture_of_a_camera_is_no_heat_map_whatever_its_text_says(box, mark):
    store, server = box
    picture = peers.ophthalmic(SMALL, ImageType=list(HEAT_MAP_TYPE), **mark)
    assert send(server.port, picture) == 0x0000
    assert len(store.items()) == 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"Manufacturer": "OPTOS"},
        {"Manufacturer": f"{MANUFACTURER} 2"},
        {"Manufacturer": None},
        {"Manufacturer": "OPTOS", "SeriesDescription": "Heat map"},
        {"Manufacturer": "OPTOS", "SeriesDescription": "Not for diagnosis"},
        {"Manufacturer": "OPTOS", "ImageComments": "Heat map. NOT FOR DIAGNOSIS. Research software"},
        {"Manufacturer": "OPTOS", "DerivationDescription": "Class map"},
        {"Manufacturer": "OPTOS", "SoftwareVersions": "4.2"},
        {"Manufacturer": "OPTOS", "ContributingEquipmentSequence": [equipment(Manufacturer="OPTOS")]},
    ],
    ids=str,
)
def test_nothing_else_is_taken_for_one(box, attributes):
    store, server = box
    assert send(server.port, heat_map(**attributes)) == 0x0000
    assert len(store.items()) == 1


def test_a_result_is_known_by_its_uid_whatever_an_archive_made_of_it(box):
    store, server = box
    image = heat_map(Manufacturer="ARCHIVE", ImageType=["DERIVED", "SECONDARY"])
    store.made_result(image.SOPInstanceUID)
    assert send(server.port, image) == 0x0000
    assert store.items() == []
    report = other(sop_class=Comprehensive3DSRStorage)
    store.made_result(report.SOPInstanceUID)
    assert send(server.port, report) == 0x0000
    assert [(each.kind, each.number) for each in store.dropped()] == [("a result of this software", 2)]


def test_own_results_are_known_also_where_other_classes_are_refused(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"accept_other_objects": False}) as (store, server):
        assert send(server.port, heat_map()) == 0x0000
        assert store.items() == []


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


BEGUN = b"\x01\x00\x00\x00\x0f\x00"  # of an association request of 3,840 bytes


def association_request(called):
    """The whole of one, for Verification, as bytes."""
    request, pdu = A_ASSOCIATE(), A_ASSOCIATE_RQ()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "SCANNER", called
    context = build_context(Verification)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_UID
    request.user_information = [longest, implementation]
    pdu.from_primitive(request)
    return pdu.encode()


def is_closed(connection):
    """Whether the box has ended it."""
    connection.setblocking(False)
    try:
        return connection.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("half_open", [2, 4, 12])
def test_half_open_connections_shut_nobody_out(tmp_path, half_open):
    with peers.intake(tmp_path / "box", dicom={"max_associations": 2}) as (_, server), ExitStack() as opened:
        for _ in range(half_open):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port))).sendall(BEGUN)
        with association(server.port) as first, association(server.port) as second:
            assert first.is_established
            assert second.is_established
            with association(server.port) as third:
                assert third.is_rejected
            assert first.send_c_echo().Status == 0x0000  # an association gives way to nobody
        assert send(server.port, peers.ophthalmic(SMALL)) == 0x0000


def test_the_longest_waiting_gives_way_first_of_the_address_that_holds_the_most(tmp_path):
    with peers.intake(tmp_path / "box", dicom={"max_associations": 2}) as (_, server), ExitStack() as opened:

        def connect(source):
            connection = socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0))
            opened.enter_context(connection).sendall(BEGUN)
            return connection

        alone = connect("127.0.0.1")
        many = [connect("127.0.0.2") for _ in range(4)]
        wait_for(lambda: is_closed(many[0]), 5)
        assert not any(is_closed(connection) for connection in (alone, *many[1:]))


@pytest.mark.parametrize("asked", [False, True], ids=["half an association request", "after a rejection"])
def test_bytes_that_trickle_do_not_prolong_the_time_for_an_association(tmp_path, asked):
    timeouts = {"network_timeout_seconds": 30, "acse_timeout_seconds": 1}
    with peers.intake(tmp_path / "box", dicom=timeouts) as (_, server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            if asked:
                connection.sendall(association_request("SOMEONE"))
                assert connection.recv(10) == b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x07"  # its called title is wrong
            connection.sendall(BEGUN)
            started = time.monotonic()
            while not is_closed(connection):
                assert time.monotonic() - started < 5
                with suppress(ConnectionError):
                    connection.sendall(b"\x00")
                time.sleep(0.1)
        wait_for(lambda: server.associations == 0, 5)


def test_a_tls_handshake_that_trickles_ends_too(tmp_path, certificate):
    cert, key = certificate
    settings = {"network_timeout_seconds": 30, "acse_timeout_seconds": 1, "tls_certificate": cert, "tls_key": key}
    with peers.intake(tmp_path / "box", dicom=settings) as (_, server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # the beginning of a ClientHello
            started = time.monotonic()
            while not is_closed(connection):
                assert time.monotonic() - started < 5
                with suppress(ConnectionError):
                    connection.sendall(b"\x00")
                time.sleep(0.1)
        wait_for(lambda: server.associations == 0, 5)


def test_an_association_may_last_longer_than_the_time_to_ask_for_it(tmp_path):
    timeouts = {"network_timeout_seconds": 30, "acse_timeout_seconds": 0.5}
    with peers.intake(tmp_path / "box", dicom=timeouts) as (_, server), association(server.port) as opened:
        time.sleep(1.2)
        assert opened.send_c_echo().Status == 0x0000


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
