"""The proofs with DICOM peers, in small; by name they run with any count (see each program)."""

import pytest

from tests.proofs import peers
from tests.proofs.dicom import conformance, foreign_classes, idempotency, identity, peer_faults

absent = peers.missing("storescp", "img2dcm", "dcmsend", "dciodvfy", "dcentvfy", "dsrdump", "Orthanc")
needs_others = pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")
pytestmark = pytest.mark.slow


@needs_others
def test_one_file_many_times_is_screened_once(tmp_path):
    assert idempotency.prove(tmp_path, 80).startswith("80 times over 8 associations")


@needs_others
@pytest.mark.parametrize("fault", peer_faults.FAULTS)
def test_every_result_arrives_once_the_archive_is_sound(tmp_path, fault):
    [said] = peer_faults.prove(tmp_path, 2, (fault,))
    assert "4 results" in said


@needs_others
def test_others_find_no_fault_and_nothing_is_changed_on_its_way(tmp_path):
    unchanged, judged, colour = conformance.prove(tmp_path, 1)
    assert unchanged.startswith("11 objects")  # three images there and back, four reports, four heat maps
    assert "4 reports" in judged
    assert colour.startswith("colour: 2 comparisons")


def test_pictures_among_other_objects_all_arrive_and_the_rest_is_noted(tmp_path, tiny_bundle):
    found = foreign_classes.run(tmp_path, tiny_bundle, studies=2, kills=2)
    assert found["studies begun anew"] >= 1  # a kill fell into a study
    assert found["other objects, one line each"] >= 16


def test_people_with_one_patient_number_are_never_combined(tmp_path, tiny_bundle):
    assert "no line with two people" in identity.prove(tmp_path, 3, tiny_bundle)
