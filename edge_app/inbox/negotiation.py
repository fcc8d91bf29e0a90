"""What is negotiated with peers: which classes in which transfer syntaxes, within which limits."""

from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import build_context, events
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from edge_app.config import Dicom as Settings
from edge_app.dicom import compat
from edge_app.dicom.connections import MAX_PDU
from edge_app.dicom.identifiers import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    UID_PATTERN,
)

__all__ = ["class_name", "offer_others", "receiving_entity", "serve_others"]

STORAGE_SERVICE = "1.2.840.10008.4.2"


def receiving_entity(settings: Settings) -> compat.Entity:
    """The application entity that receives: it answers C-ECHO and takes ophthalmic pictures."""
    entity = compat.Entity(settings.ae_title)
    entity.require_called_aet = settings.require_called_ae_title
    entity.maximum_associations = settings.max_associations
    entity.maximum_pdu_size = MAX_PDU
    entity.acse_timeout = settings.acse_timeout_seconds
    entity.dimse_timeout = settings.dimse_timeout_seconds
    entity.network_timeout = settings.network_timeout_seconds
    entity.implementation_class_uid = IMPLEMENTATION_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    entity.add_supported_context(Verification)
    for storage_class in STORAGE_CLASSES:
        entity.add_supported_context(storage_class, list(TRANSFER_SYNTAXES))
    return entity


def offer_others(event: events.Event) -> None:
    """Handler of EVT_REQUESTED: accepts every storage class that is proposed, in any transfer syntax.

    What is no public SOP class is taken for one, as Orthanc does with UnknownSopClassAccepted.
    """
    acceptor = event.assoc.acceptor
    supported = acceptor.supported_contexts
    others = {
        uid: build_context(uid, [*syntaxes])
        for uid, syntaxes in _proposed(event.assoc).items()
        if uid not in {context.abstract_syntax for context in supported} and _may_be_stored(uid)
    }
    acceptor.supported_contexts = [*supported, *others.values()]


def serve_others(event: events.Event) -> dict[UID, SOPClassCommonExtendedNegotiation]:
    """Handler of EVT_SOP_COMMON: tells pynetdicom that the storage service answers for classes it does not know."""
    services = {}
    for uid in _proposed(event.assoc):
        if uid not in STORAGE_CLASSES and _may_be_stored(uid):
            services[uid] = SOPClassCommonExtendedNegotiation()
            services[uid].sop_class_uid, services[uid].service_class_uid = uid, UID(STORAGE_SERVICE)
    return services


def _proposed(association: Association) -> dict[UID, list[UID]]:
    """{abstract syntax: every transfer syntax proposed for it} of the association request."""
    proposed: dict[UID, list[UID]] = {}
    for context in cast("Any", association.requestor.primitive).presentation_context_definition_list:
        proposed.setdefault(context.abstract_syntax, []).extend(context.transfer_syntax)
    return proposed


def _may_be_stored(uid: UID) -> bool:
    """Whether it is a storage class, or none of the public UIDs that we know."""
    if not UID_PATTERN.fullmatch(uid):
        return False
    return not uid.type or (uid.type == "SOP Class" and "Storage" in uid.name and "Commitment" not in uid.name)


def class_name(uid: UID) -> str:
    return f"{uid.name} ({uid})" if uid.type else f"unknown class {uid}"
