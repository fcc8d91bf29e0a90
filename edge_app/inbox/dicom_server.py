"""The server that associations come to: who may connect, and who gives way."""

import ipaddress
import logging
import socket
import time
from collections import Counter
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer

from edge_app.config import Dicom as Settings
from edge_app.dicom.connections import hang_up

__all__ = ["Server"]

log = logging.getLogger(__name__)


class Server(AssociationServer):
    """pynetdicom's, with a say in who may connect. Each association is a thread; no peer can hold up the others.

    A connection that has no association (not yet, no longer, or it was rejected) ends after `acse_timeout_seconds`,
    whatever comes on it; and gives way to the next where there are twice `max_associations` connections, which leaves
    room for associations that are rejected politely.
    """

    def __init__(self, settings: Settings, *arguments: Any):
        self._settings = settings
        self._waiting: dict[Association, float] = {}  # without an association, since when
        self._ended: set[Association] = set()  # by us, their threads still run
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        peer, address = cast("socket.socket", self.socket).accept()
        if self.ssl_context:  # the handshake comes with the first read, in the association's own thread
            peer = self.ssl_context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        return peer, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is taken at all."""
        host, networks = client_address[0], self._settings.allowed_hosts
        address = ipaddress.ip_address(host)
        if networks and not any(address in ipaddress.ip_network(network, strict=False) for network in networks):
            log.warning("DICOM: connection from %s refused: not an allowed address", host)
            return False
        connected = self._look()
        if connected >= 2 * self._settings.max_associations and not self._make_room():
            log.warning("DICOM: connection from %s refused: %d are open", host, connected)
            return False
        return True

    def service_actions(self) -> None:
        """Called after every connection and every poll."""
        super().service_actions()
        self._look()
        late = time.monotonic() - self._settings.acse_timeout_seconds
        for association in [each for each, since in self._waiting.items() if since < late]:
            self._end(association, "no association in time")

    def _look(self) -> int:
        """Brings `_waiting` up to date; how many connections there are."""
        running, now = set(self.active_associations), time.monotonic()
        self._ended &= running
        connected = running - self._ended
        self._waiting = {each: self._waiting.get(each, now) for each in connected if not each.is_established}
        return len(connected)

    def _make_room(self) -> bool:
        """Ends the connection that has waited the longest, of the address that has the most of them."""
        if not self._waiting:
            return False
        held = Counter(map(_host, self._waiting))
        self._end(
            max(self._waiting, key=lambda each: (held[_host(each)], -self._waiting[each])), "it gives way to the next"
        )
        return True

    def _end(self, association: Association, reason: str) -> None:
        log.warning("DICOM: connection from %s ended: %s", _host(association), reason)
        del self._waiting[association]
        self._ended.add(association)
        hang_up(association)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("DICOM: a connection failed", exc_info=True)


def _host(association: Association) -> str:
    address: Any = association.requestor.address_info
    return str(address.address)
