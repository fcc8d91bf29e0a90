"""What `edge_app.dicom.compat` relies on inside pynetdicom is as it says. A failure here means: another release, read
that module again before anything else."""

import importlib.metadata
import inspect
import queue
import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE, events
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationServer

from edge_app.dicom import compat
from edge_app.dicom.connections import hang_up
from edge_app.inbox.dicom_server import Server


class Peer:
    """An acceptor on this machine that answers C-ECHO and C-STORE; `handlers` are its event handlers."""

    def __init__(self, entity=AE, most=10, **handlers):
        self.entity = entity("PEER")
        self.entity.maximum_associations, self.entity.acse_timeout = most, 30
        self.entity.add_supported_context(Verification)
        self.entity.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
        answers = {"EVT_C_ECHO": lambda event: 0, "EVT_C_STORE": lambda event: 0, **handlers}
        self.server = AssociationServer(
            self.entity,
            ("127.0.0.1", 0),
            "PEER",
            self.entity.supported_contexts,
            None,
            [(getattr(events, name), handler) for name, handler in answers.items()],
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.port = self.server.server_address[1]


@contextmanager
def listening(**options):
    peer = Peer(**options)
    try:
        yield peer
    finally:
        if peer.thread.is_alive():
            compat.stop_listening(peer.server)
        for association in peer.server.active_associations:
            hang_up(association)
            if association.requestor.primitive is None:
                compat.stop_waiting_for_request(association)  # the end of the process would wait for it


@contextmanager
def associated(peer, **options):
    entity = AE("SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context(Verification)
    entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", peer.port, **options)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def picture(size=200_000):
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.ImageComments = "x" * size
    image.file_meta = Dataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def happens(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def test_the_release_is_the_one_that_was_read():
    installed = importlib.metadata.version("pynetdicom")
    assert f"pynetdicom {installed}," in compat.__doc__, (
        f"pynetdicom {installed} is installed: compare its dul.py, dimse.py, acse.py and transport.py with what each "
        "function of edge_app/dicom/compat.py says, then name the release there"
    )


def event_handlers():
    """How many functions see the events by which pynetdicom logs, of an association and of what listens for it."""
    with listening() as peer, associated(peer) as association:
        assert association.is_established
        logged = (events.EVT_PDU_RECV, events.EVT_PDU_SENT, events.EVT_DIMSE_RECV, events.EVT_DIMSE_SENT)
        return [len(side.get_handlers(event)) for event in logged for side in (association, peer.server)]


def test_associations_log_no_events(monkeypatch):
    assert event_handlers() == [0] * 8, "`edge_app.dicom` does not make pynetdicom quiet"
    monkeypatch.setattr("pynetdicom._config.LOG_HANDLER_LEVEL", "standard")
    assert event_handlers() == [1] * 8, "`_config.LOG_HANDLER_LEVEL` no longer decides"
    compat.log_no_events()
    assert event_handlers() == [0] * 8, "`_config.LOG_HANDLER_LEVEL` no longer decides"


def test_the_socket_is_the_connection_until_its_end():
    with listening() as peer:
        with associated(peer) as association:
            opened = compat.socket_of(association)
            assert isinstance(opened, socket.socket), f"`dul.socket.socket` is {opened!r}, no socket"
            assert opened.getpeername()[1] == peer.port, "`dul.socket.socket` is another connection"
        assert happens(lambda: compat.socket_of(association) is None), "the socket stays after the association's end"


def test_an_end_of_reading_ends_the_association():
    with listening() as peer, associated(peer) as association:
        compat.socket_of(association).shutdown(socket.SHUT_RD)
        assert happens(lambda: not association.is_established), "nobody noticed that nothing can be read any more"


def test_all_reading_goes_through_the_one_that_was_given():
    asked = []

    def limited(event):
        def receive(size):
            asked.append(size)
            return bytearray(opened.recv(size, socket.MSG_WAITALL))

        opened = compat.socket_of(event.assoc)
        compat.read_with(event.assoc, receive)

    with listening(EVT_CONN_OPEN=limited) as peer, associated(peer) as association:
        assert association.is_established, "an association does not come about through `receive`"
        assert association.send_c_echo().Status == 0
    assert asked[:1] == [6], f"the head of a PDU is read as {asked[:1]} bytes, not 6: `receive` sees no length"
    assert len(asked) >= 6, f"of three PDUs only {len(asked)} parts were read through `receive`"
    assert all(head == 6 for head in asked[::2]), f"heads and rests of PDUs do not take turns: {asked}"


def test_an_error_of_reading_ends_the_association():
    def limited(event):
        def receive(size):
            left.append(size)
            if len(left) > 2:  # behind the association request
                raise OSError("a peer that is too slow")
            return bytearray(opened.recv(size, socket.MSG_WAITALL))

        left, opened = [], compat.socket_of(event.assoc)
        compat.read_with(event.assoc, receive)

    with listening(EVT_CONN_OPEN=limited) as peer, associated(peer) as association:
        assert association.is_established
        assert "Status" not in association.send_c_echo()
        assert happens(lambda: not peer.server.active_associations), "an association goes on after an OSError"


@pytest.mark.parametrize("told", [True, False])
def test_an_acceptor_without_a_request_ends_at_once_where_it_is_told(told):
    def closed(event):
        if told and event.assoc.requestor.primitive is None:
            compat.stop_waiting_for_request(event.assoc)

    with listening(EVT_CONN_CLOSE=closed) as peer:
        connection = socket.create_connection(("127.0.0.1", peer.port))
        assert happens(lambda: peer.server.active_associations)
        connection.close()
        ended = happens(lambda: not peer.server.active_associations, seconds=5.0 if told else 0.5)
        if told:
            assert ended, "None in `dul.to_user_queue` no longer ends the wait for an association request"
        else:
            assert not ended, "pynetdicom itself ends the wait now: `stop_waiting_for_request` can go"


def test_to_stop_listening_closes_the_port_and_nothing_else():
    with listening() as peer, associated(peer) as association:
        compat.stop_listening(peer.server)
        peer.thread.join(5)
        assert not peer.thread.is_alive(), "`serve_forever` goes on"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", peer.port), timeout=5)
        assert association.send_c_echo().Status == 0, "the end of listening is the end of associations"


@pytest.mark.parametrize("entity", [compat.Entity, AE])
def test_only_associations_count_against_the_most(entity):
    with listening(entity=entity, most=1) as peer:
        waiting = socket.create_connection(("127.0.0.1", peer.port))
        assert happens(lambda: peer.server.active_associations)
        with associated(peer) as association:
            if entity is AE:
                assert not association.is_established, "pynetdicom counts associations only now: `Entity` can go"
            else:
                assert association.is_established, "`ACSE` no longer counts by `AE.active_associations`"
                with associated(peer) as second:
                    assert second.is_rejected, "there may be more associations than `maximum_associations`"
        waiting.close()


def test_reserved_answers_are_for_who_asks():
    with listening() as peer, associated(peer) as association:
        compat.reserve_answers(association)
        for number in range(5):
            assert association.send_c_echo().Status == 0, f"echo {number} got no answer"
        association.dimse.msg_queue.put((1, "an answer"))
        time.sleep(0.2)  # its reactor looks every millisecond
        assert association.dimse.get_msg(block=False) == (None, None)
        assert association.dimse.get_msg(block=True) == (1, "an answer"), "the reactor took what was reserved"


def test_the_reactor_asks_without_waiting_and_requests_wait():
    with listening() as peer, associated(peer) as association:
        asked, get = queue.Queue(), association.dimse.get_msg
        assert str(inspect.signature(get)).startswith("(block: bool = False)"), inspect.signature(get)

        def recording(block=False):
            asked.put((threading.current_thread() is association, block))
            return get(block)

        association.dimse.get_msg = recording
        time.sleep(0.1)
        compat.reserve_answers(association)
        association.send_c_echo()
    found = set(asked.queue)
    assert (True, False) in found, "the reactor does not look for requests by `get_msg(block=False)`"
    assert (False, True) in found, "a request does not wait for its answer by `get_msg(block=True)`"
    assert (True, True) not in found, "the reactor waits by `get_msg(block=True)`, as requests do"


def test_what_a_message_keeps_while_it_comes():
    seen, got = [], []

    taken = BytesIO()

    def watch(event):
        message = compat.message_under_way(event.assoc)
        if message is not None:
            seen.append((message.command_bytes, message.context_id, message.data_set))
            if message.context_id is not None and message.data_set is not taken:
                seen.append(message.affected_uids)
                taken.write(message.data_set.getvalue())
                message.data_set = taken

    def store(event):
        got.append((event.request.DataSet, event.context.context_id, compat.message_under_way(event.assoc)))
        return 0

    image = picture()
    with listening(EVT_PDU_RECV=watch, EVT_C_STORE=store) as peer, associated(peer) as association:
        assert association.send_c_store(image).Status == 0
    assert (image.SOPClassUID, image.SOPInstanceUID) in seen, f"a message in the coming tells nothing of itself: {seen}"
    [(received, context_id, behind)] = got
    assert received is taken, f"the request's data set is {received!r}, not what `Message.data_set` was set to"
    assert behind is None, "a message is under way although it has come whole"
    parts = [each for each in seen if len(each) == 3]
    assert len(parts) > 5, f"of many PDUs only {len(parts)} were seen while their message was under way"
    assert all(0 < size < 1000 for size, _, _ in parts), f"`encoded_command_set` does not hold the command: {parts}"
    assert {context for _, context, _ in parts} <= {None, context_id}
    assert taken.getbuffer().nbytes > 200_000, f"only {taken.getbuffer().nbytes} bytes came through `data_set`"


def test_requests_that_wait_are_counted():
    """Two requests, sent without waiting for an answer, behind one that takes its time."""
    go_on, counted = threading.Event(), []

    def echo(event):
        counted.append(happens(lambda: compat.unanswered_requests(event.assoc) == 2, 3.0) if not counted else True)
        go_on.wait(5)
        return 0

    with listening(EVT_C_ECHO=echo) as peer, associated(peer) as association:
        context = next(each for each in association.accepted_contexts if each.abstract_syntax == Verification)
        for number in range(3):
            request = C_ECHO()
            request.MessageID, request.AffectedSOPClassUID = number + 1, Verification
            association.dimse.send_msg(request, context.context_id)
        assert happens(lambda: counted), "the first request was not answered"
        go_on.set()
        assert counted[0], "`dimse.msg_queue` does not hold the requests that wait"


def test_our_names_are_none_of_pynetdicoms():
    ours = {name for name in vars(Server) if name.startswith("_") and not name.startswith("__")}
    ours |= {"_settings", "_waiting", "_ended"}
    with listening() as peer:
        assert not ours & set(dir(peer.server)), f"AssociationServer has {ours & set(dir(peer.server))} of its own now"
