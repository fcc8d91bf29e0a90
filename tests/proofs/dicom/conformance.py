"""Proof: other software finds no fault with what the box says, and what passes through an archive stays as it was.

    python -m tests.proofs.dicom.conformance --count 10

`count` studies, each with one picture as RGB, as JPEG (YBR_FULL_422) and as JPEG 2000 (YBR_RCT), go from an Orthanc to
the box, and as many from dcmtk's img2dcm and dcmsend; reports and heat maps go to that Orthanc. Then
- dciodvfy and dcentvfy find no error, dsrdump has no complaint;
- every object that Orthanc sent or received is the same on both sides, bit by bit;
- the three codings of a picture give the same result: exactly (JPEG 2000 is lossless here) or within TOLERANCE.
"""

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

from edge_app.outbox.documents import render
from edge_app.store.records import Result
from edge_app.store.store import Store
from tests.proofs import peers, served

CODINGS = (ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless)
# At a size that devices export; the colour of a small picture suffers more from JPEG's 4:2:2 than that of a large one.
PICTURES = ("PHANTOM-0005_OS_2026-03-02_1.dcm", "PHANTOM-0001_OD_2026-03-02_2.jpg", "PHANTOM-0003_OS_2026-03-02_1.jpg")
TOLERANCE = 0.02  # of a probability, between a picture and its JPEG of quality 97


def prove(folder: Path, count: int, bundle: Path = peers.BUNDLE) -> list[str]:
    """Raises AssertionError or RuntimeError where it does not hold; returns what was counted."""
    for number in range(count):
        study, picture = generate_uid(), peers.picture(peers.SAMPLES / PICTURES[number % len(PICTURES)])
        for coding in CODINGS:
            image = peers.ophthalmic(picture, coding, StudyInstanceUID=study, PatientID=f"C-{number}")
            peers.write(image, folder / "sources" / f"{number}-{coding}.dcm")
    _img2dcm(folder, count)
    archive = peers.free_port()
    to = {"name": "orthanc", "kind": "dicom", "host": "127.0.0.1", "port": archive, "ae_title": "ORTHANC"}
    box = served.Box(folder, bundle, destination=[{**to, "results": ["sr", "sc"]}])
    with (
        peers.orthanc(folder / "orthanc", archive, box=("REALMNET", box.dicom_port)) as orthanc,
        box.running(),
        box.store() as store,
    ):
        _dcmsend(folder / "sources", "ORTHANC", archive)
        orthanc.send("box")
        _dcmsend(folder / "img2dcm", "REALMNET", box.dicom_port)
        peers.wait_until(lambda: store.counts().items["done"] == 4 * count, 120 + 10 * count, "all are screened")
        peers.wait_until(lambda: store.counts().deliveries["pending"] == 0, 120 + 10 * count, "all is delivered")
        results = store.worklist(limit=10 * count)
        unchanged = _compare(store, results, orthanc)
        studies = orthanc.studies()
        documents = [
            render(store, store.record(each.item_id), each.kind) for each in store.deliveries(limit=100 * count)
        ]
        assert {each.state for each in store.deliveries(limit=100 * count)} == {"delivered"}
        judged = _judge(documents)
        assert len(studies) == 2 * count
        return [f"{unchanged} objects through Orthanc unchanged, in {len(studies)} studies", judged, _colour(results)]


def _img2dcm(folder: Path, count: int) -> None:
    """Images by dcmtk's converter, from a JPEG whose data it keeps."""
    (folder / "img2dcm").mkdir()
    jpeg = folder / "picture.jpg"
    Image.fromarray(peers.picture()).save(jpeg, quality=95)
    device = "AcquisitionDeviceTypeCodeSequence[0]"
    keys = (
        *("Manufacturer=OPTOS", "ImageLaterality=L", "PatientID=IMG2DCM"),
        *(f"{device}.CodeValue=392001008", f"{device}.CodingSchemeDesignator=SCT", f"{device}.CodeMeaning=SLO"),
    )
    for number in range(count):
        made = peers.run(
            *("img2dcm", "-oph", jpeg, folder / "img2dcm" / f"{number}.dcm"),
            *(part for key in keys for part in ("-k", key)),
        )
        assert made.returncode == 0, made.stdout


def _dcmsend(files: Path, title: str, port: int) -> None:
    sent = peers.run("dcmsend", "+sd", "--no-halt", "--decompress-never", "-aec", title, "127.0.0.1", port, files)
    assert sent.returncode == 0, sent.stdout


def _compare(store: Store, results: list[Result], orthanc: peers.Orthanc) -> int:
    """Every object of both sides has the same data set in Orthanc as in the box; the number of objects."""
    ours = {}
    for result in results:
        ours[result.item.sop_instance_uid] = store.object_path(result.item).read_bytes()
        for each in store.deliveries(result.item.id):
            content = render(store, result, each.kind).read_bytes()
            ours[str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)] = content
    theirs = orthanc.instances()
    common = ours.keys() & theirs.keys()
    assert set(theirs) == common
    for uid in common:
        assert peers.data_set(ours[uid]) == peers.data_set(theirs[uid]), "an object was changed on its way"
    return len(common)


def _judge(documents: list[Path]) -> str:
    for document in documents:
        verdict = peers.run("dciodvfy", "-new", document).stdout
        assert "Error" not in verdict, verdict
        if document.name.endswith("sr.dcm"):
            dumped = peers.run("dsrdump", document)
            complaints = [line for line in dumped.stdout.splitlines() if line.startswith(("E:", "F:", "W:"))]
            assert dumped.returncode == 0, dumped.stdout
            assert complaints == []
    verdict = peers.run("dcentvfy", *documents).stdout
    assert "Error" not in verdict, verdict
    reports = sum(document.name.endswith("sr.dcm") for document in documents)
    return f"dciodvfy, dcentvfy, dsrdump: no error in {reports} reports and {len(documents) - reports} heat maps"


def _colour(results: list[Result]) -> str:
    """Compares the codings of each picture."""
    worst, compared = 0.0, 0
    plain = {r.item.study_uid: r for r in results if r.record.source["transfer_syntax_uid"] == ExplicitVRLittleEndian}
    for result in results:
        coding, reference = result.record.source["transfer_syntax_uid"], plain.get(result.item.study_uid)
        if reference is None or result is reference:
            continue
        assert result.record.outcome == reference.record.outcome
        difference = max(
            abs(p - reference.record.probabilities[code]) for code, p in result.record.probabilities.items()
        )
        assert difference <= (0.0 if coding == JPEG2000Lossless else TOLERANCE), (coding, difference)
        worst, compared = max(worst, difference), compared + 1
    assert compared == 2 * len(plain) > 0
    return f"colour: {compared} comparisons with RGB, largest difference of a probability {worst:.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="studies of three images, and images by img2dcm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print("\n".join(prove(Path(directory), options.count)))
