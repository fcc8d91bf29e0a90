"""Bounded versions of what measures the box; by name they run with any count (see each program, docs/proofs.md)."""

import pytest

from tests.proofs import peers
from tests.proofs.measured import bundles, throughput

pytestmark = pytest.mark.slow


def test_what_further_bundles_cost(tmp_path, tiny_bundle):
    """That it can be measured, and that every image has a result of each."""
    found = bundles.run(tmp_path, tiny_bundle, rounds=1, count=2, width=390, threads=1)
    assert found["1 bundle"]["ratio to one: median, least, most"] == [1, 1, 1]
    assert found["3 bundles"]["resident MiB"] < 600


@pytest.mark.skipif(bool(peers.missing("dcmsend")), reason="dcmtk is not installed")
def test_the_box_beside_its_network_alone(tmp_path, tiny_bundle):
    """That it can be measured; what is measured on a busy machine is no matter for a test."""
    found = throughput.run(tmp_path, tiny_bundle, images=20, rounds=1, per_round=4, width=390, threads=1)
    assert found["burst"]["images"] == 20
    assert 0 < found["ratio: median, least, most"][0] < 2
    assert found["burst"]["largest resident MiB"]["screening"] < 600
