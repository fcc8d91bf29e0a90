"""Steps of a box's life as its parts take them, for the tests of the store and a process that one of them kills."""

from edge_app.store.items import Item
from edge_app.store.store import Store
from tests.proofs.peers import make_record


def receive(store: Store, contents: bytes, uid: str = "1.2.3", **others: str) -> tuple[Item, bool]:
    """As the DICOM intake does it."""
    sha256, size = store.keep_object([contents], "dcm")
    identity = {"source": "dicom", "origin": "SCANNER", "sop_instance_uid": uid, "study_uid": "1.2", **others}
    return store.add_item(sha256=sha256, extension="dcm", file_name="", bytes=size, **identity)


def receive_file(store: Store, contents: bytes) -> tuple[Item, bool]:
    sha256, size = store.keep_object([contents], "bin")
    return store.add_item(
        source="folder", origin="share", sha256=sha256, extension="bin", file_name="P1_OD.jpg", bytes=size
    )


def screened(
    store: Store, contents: bytes = b"image", uid: str = "1.2.3", deliveries=(), score=0.1, study: str = "1.2", **facts
) -> Item:
    receive(store, contents, uid, study_uid=study)
    item = store.claim()
    store.finish(item.id, make_record(**facts, score=score), deliveries, item.attempts)
    return store.item(item.id)


def opened(store: Store, item: Item, pictures: int, **facts) -> Item:
    """As the worker does it: the first picture is screened, and the record says how many there are."""
    assert store.claim().id == item.id
    store.finish(item.id, make_record(pictures=pictures, **facts, score=0.1), [("pacs", "sr")])
    return store.item(item.id)


def rows(store: Store, table: str) -> int:
    return store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
