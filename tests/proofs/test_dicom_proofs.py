"""The proofs with DICOM peers, in small; by name they run with any count (see each program)."""

import conformance
import idempotency
import peer_faults
import peers
import pytest

absent = peers.missing("storescp", "img2dcm", "dcmsend", "dciodvfy", "dcentvfy", "dsrdump", "Orthanc")
pytestmark = [
    pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}"),
    pytest.mark.slow,
]


def test_one_file_many_times_is_screened_once(tmp_path):
    assert idempotency.prove(tmp_path, 80).startswith("80 times over 8 associations")


@pytest.mark.parametrize("fault", peer_faults.FAULTS)
def test_every_result_arrives_once_the_archive_is_sound(tmp_path, fault):
    [said] = peer_faults.prove(tmp_path, 2, (fault,))
    assert "4 results" in said


def test_others_find_no_fault_and_nothing_is_changed_on_its_way(tmp_path):
    unchanged, judged, colour = conformance.prove(tmp_path, 1)
    assert unchanged.startswith("11 objects")  # three images there and back, four reports, four heat maps
    assert "4 reports" in judged
    assert colour.startswith("colour: 2 comparisons")
