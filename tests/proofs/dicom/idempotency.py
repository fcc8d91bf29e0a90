"""Proof: one file, sent many times over several associations at once, is screened once and reported once.

    python -m tests.proofs.dicom.idempotency --count 1000

A whole box in its own processes; the archive is dcmtk's storescp.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from edge_app.dicom.compat import reserve_answers
from tests.proofs import peers, served


def prove(folder: Path, count: int, associations: int = 8, bundle: Path = peers.BUNDLE) -> str:
    """Raises AssertionError where it does not hold; returns what was counted."""
    image = peers.ophthalmic(peers.picture())
    archive = peers.free_port()
    to = {"name": "archive", "kind": "dicom", "host": "127.0.0.1", "port": archive, "ae_title": "ARCHIVE"}
    box = served.Box(folder, bundle, destination=[{**to, "results": ["sr"]}])
    with peers.storescp(folder / "archive", archive), box.running(), box.store() as store:
        started = time.monotonic()
        shares = [count // associations + (number < count % associations) for number in range(associations)]
        with ThreadPoolExecutor(associations) as pool:
            statuses = list(chain(*pool.map(lambda share: _send(image, share, box.dicom_port), shares)))
        seconds = time.monotonic() - started
        assert statuses == [0x0000] * count, set(statuses)
        peers.wait_until(lambda: store.counts().deliveries["delivered"] > 0, 60, "the report is delivered")
        time.sleep(1.0)  # what would come twice has time to come
        [item] = store.items()
        result = store.record(item.id)
        deliveries = store.deliveries()
        assert (item.state, item.attempts, result.revision) == ("done", 1, 1)
        assert [each.state for each in deliveries] == ["delivered"]
        assert len(list((store.data_dir / "objects").rglob("*.dcm"))) == 1
        reports = [dcmread(path) for path in (folder / "archive").iterdir()]
        assert [report.Modality for report in reports] == ["SR"]
    return (
        f"{count} times over {associations} associations, all with success ({count / seconds:.0f}/s): "
        f"1 item, 1 screening, {len(reports)} report"
    )


def _send(image: peers.Dataset, count: int, port: int) -> list[int]:
    entity = AE("SCANNER")
    entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="REALMNET")
    assert association.is_established
    reserve_answers(association)
    statuses = [association.send_c_store(image).get("Status") for _ in range(count)]
    association.release()
    return statuses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="how often the file is sent")
    parser.add_argument("--associations", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(prove(Path(directory), options.count, options.associations))
