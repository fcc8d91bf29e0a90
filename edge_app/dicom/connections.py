"""Connections between the box and its peers: TLS, time-outs, limits, an end."""

import socket
import ssl
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from pynetdicom import events
from pynetdicom.association import Association

from edge_app.dicom import compat

__all__ = ["MAX_PDU", "client_tls", "hang_up", "limit_connection", "server_tls"]

MAX_PDU = 131072  # bytes we ask for in one PDU, the most that dcmtk sends
MAX_ANY_PDU = 1 << 20  # bytes of any PDU: an association request with 128 contexts stays far below


def server_tls(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with `authority`, peers must have a certificate of it. Raises OSError for unusable files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; the peer's certificate must be of `authority` (default: the system's) and of its host."""
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def limit_connection(event: events.Event, seconds: float) -> None:
    """Handler of EVT_CONN_OPEN: no read or write of this connection may take longer, no PDU be larger than sensible.

    pynetdicom itself waits for ever for the rest of a PDU, and takes one of 4 GiB.
    """
    peer = compat.socket_of(event.assoc)
    if peer is not None:
        peer.settimeout(seconds)
        compat.read_with(event.assoc, partial(_receive, peer, seconds))


def hang_up(association: Association) -> None:
    """Ends the connection, also where pynetdicom waits for the rest of a PDU or of a TLS handshake."""
    opened = compat.socket_of(association)
    if opened is not None:
        with suppress(OSError):  # it has just ended
            socket.socket.shutdown(opened, socket.SHUT_RD)  # an SSLSocket's own forgets what TLS it speaks


def _receive(peer: socket.socket, seconds: float, size: int) -> bytearray:
    """Up to `size` bytes, fewer if the connection ends. Raises OSError for a peer that is too slow or asks too much."""
    if size > MAX_ANY_PDU:
        raise OSError(f"a PDU of {size} bytes; at most {MAX_ANY_PDU} are taken")
    data, filled, deadline = bytearray(size), 0, time.monotonic() + seconds
    with memoryview(data) as view:
        while filled < size:
            count = peer.recv_into(view[filled:])
            if count == 0:
                break
            filled += count
            if time.monotonic() > deadline:
                raise TimeoutError("the peer sends too slowly")
    del data[filled:]
    return data
