"""Everything that the box relies on inside pynetdicom 3.0.4, beyond what its documentation promises.

No other module touches these parts (`tests/test_private_names.py`), and each function has a test of its own that fails
where another release behaves differently (`tests/edge_app/dicom/test_compat.py`). Each says which names it uses, and
which public way is missing. pydicom's private parts are not used.
"""

import socket
from collections.abc import Callable
from io import BytesIO
from socketserver import BaseServer
from typing import Any, cast

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer

__all__ = [
    "Entity",
    "Message",
    "log_no_events",
    "message_under_way",
    "read_with",
    "reserve_answers",
    "socket_of",
    "stop_listening",
    "stop_waiting_for_request",
    "unanswered_requests",
]


def log_no_events() -> None:
    """Associations made from now on do not log what they send and receive.

    `_config.LOG_HANDLER_LEVEL` is documented, but in a private module; there is no argument for it.
    """
    _config.LOG_HANDLER_LEVEL = "none"


# ---- connections ----


def socket_of(association: Association) -> socket.socket | None:
    """The socket that an association is on; None after its end.

    `Association.dul.socket.socket`. No public method sets a time-out for each read, or ends a read that waits.
    """
    connection: Any = association.dul.socket
    return cast("socket.socket | None", connection.socket)


def read_with(association: Association, receive: Callable[[int], bytearray]) -> None:
    """`receive` reads from the association's connection: it is asked for a number of bytes, the 6 of a PDU's head and
    then the rest of it, and may return fewer where the connection ends. OSError, raised by it, ends the association.

    Replaces `Association.dul.socket.recv`, which waits for ever and takes whatever length a PDU says it has.
    """
    connection: Any = association.dul.socket
    connection.recv = receive


def stop_waiting_for_request(association: Association) -> None:
    """An acceptor whose connection has closed before its peer asked for an association ends at once.

    Puts None into `Association.dul.to_user_queue`, as its reactor itself takes it where nothing came in time. Without
    it the thread waits on for `acse_timeout`, although nobody is there.
    """
    association.dul.to_user_queue.put(cast("Any", None))


def stop_listening(server: AssociationServer) -> None:
    """Ends `serve_forever` and closes the port; associations go on.

    `AssociationServer.shutdown` would remove it from `AE._servers`, where only `AE.start_server` puts one, which leaves
    no say in who may connect.
    """
    BaseServer.shutdown(server)
    server.server_close()


class Entity(AE):
    """An AE whose `maximum_associations` is about associations: pynetdicom counts connections without one, too.

    `ACSE` asks `AE.active_associations` when it decides whether there are too many; it has no other hook.
    """

    @property
    def active_associations(self) -> list[Association]:
        """Those that are established or asked for."""
        return [
            each
            for each in super().active_associations
            if each.requestor.primitive is not None and not (each.is_rejected or each.is_aborted or each.is_released)
        ]


# ---- messages ----


def reserve_answers(association: Association) -> None:
    """For an association that only sends requests: answers go to whoever waits for them.

    Replaces `Association.dimse.get_msg`. The association's reactor looks for requests of the peer by it
    (`block=False`), and on a busy machine it may take the answer instead (it is told to pause, but checks before it
    looks); the request (`block=True`) then fails for want of one. Nothing public tells the two apart.
    """
    dimse: Any = association.dimse
    get = dimse.get_msg
    dimse.get_msg = lambda block=False: get(block) if block else (None, None)


def unanswered_requests(association: Association) -> int:
    """How many requests have come whole and wait for the one before them.

    `Association.dimse.msg_queue`, which has no limit.
    """
    return int(association.dimse.msg_queue.qsize())


class Message:
    """A message of which a part has come; `message_under_way` gives it.

    What `Association.dimse.message`, a `DIMSEMessage`, keeps while P-DATA come. The public events tell of a message
    when it is whole, and in memory; `STORE_RECV_CHUNKED_DATASET` knows no limit, writes another header, into the
    system's temporary folder, and leaves the file there when the sender aborts.
    """

    def __init__(self, message: Any):
        self._message = message

    @property
    def command_bytes(self) -> int:
        """How many bytes of its command have come."""
        return int(self._message.encoded_command_set.tell())

    @property
    def context_id(self) -> int | None:
        """Its presentation context; None until its command has come whole."""
        return cast("int | None", self._message.context_id)

    @property
    def affected_uids(self) -> tuple[Any, Any]:
        """SOP class and instance that its command names, as they came; None where it does not."""
        command = self._message.command_set
        return command.get("AffectedSOPClassUID"), command.get("AffectedSOPInstanceUID")

    @property
    def data_set(self) -> BytesIO:
        """Where its data set is written to as it comes. Another one may take its place: it gets what comes from then
        on, and becomes the `DataSet` of the request.
        """
        return cast("BytesIO", self._message.data_set)

    @data_set.setter
    def data_set(self, file: BytesIO) -> None:
        self._message.data_set = file


def message_under_way(association: Association) -> Message | None:
    """The message of which only a part has come; None between messages."""
    message = association.dimse.message
    return None if message is None else Message(message)
