"""Bounded versions of the proofs on a whole box; by name they run with any count (see each program, docs/proofs.md)."""

import pytest

from tests.proofs.box import crash, disk_full, durability, folder, privacy, restore, slow_requests, soak

pytestmark = pytest.mark.slow


def test_killed_boxes_lose_nothing_and_repeat_nothing(tmp_path, tiny_bundle):
    found = crash.run(tmp_path, tiny_bundle, kills=5)
    assert sum(found["kills"].values()) == 5
    assert found["images acknowledged, each with one result"] >= 2


def test_a_backup_of_a_box_at_work_is_a_whole_box(tmp_path, tiny_bundle):
    found = restore.run(tmp_path, tiny_bundle, backups=2)
    assert found["images restored"] > 5
    assert found["finished by the restored boxes: screened"] > 0
    assert found["finished by the restored boxes: delivered"] > 0


@pytest.mark.skipif(durability.reason_to_skip() is not None, reason=str(durability.reason_to_skip()))
def test_success_is_answered_when_the_image_is_on_the_disk(tmp_path, tiny_bundle):
    durability.run(tmp_path / "box", tiny_bundle, count=5)


SHA = "ab" * 32
IN_ORDER = f"""\
1 sendto(7<TCP:[a->b]>, "\\2\\0", 2, 0, NULL, 0) = 2
2 write(8</d/incoming/1.part>, "x", 1) = 1
2 mkdir("/d/objects/ab", 0777 <unfinished ...>
1 write(1</dev/null>, "x", 1) = 1
2 <... mkdir resumed>) = 0
2 fsync(9</d/objects>) = 0
2 fsync(8</d/incoming/1.part>) = 0
2 rename("/d/incoming/1.part", "/d/objects/ab/{SHA}.dcm") = 0
2 fsync(9</d/objects/ab>) = 0
3 pwrite64(4</d/box.sqlite-wal>, "\\r{SHA}", 99, 0) = 99
3 fdatasync(4</d/box.sqlite-wal>) = 0
1 sendto(7<TCP:[a->b]>, "\\4\\0\\0", 3, 0, NULL, 0) = 3
"""


def test_the_order_of_durability_is_really_looked_at():
    names = [call.name for call in durability.check_order(durability.parse(IN_ORDER), SHA)]
    assert names == ["fsync", "rename", "fsync", "pwrite64", "fdatasync", "sendto"]
    lines = IN_ORDER.splitlines()
    for step in range(5, 11):  # each step of the way, left out or too late
        others = lines[:step] + lines[step + 1 :]
        for trace in (others, [*others, lines[step]]):
            with pytest.raises(AssertionError):
                durability.check_order(durability.parse("\n".join(trace)), SHA)


@pytest.mark.skipif(disk_full.reason_to_skip() is not None, reason=str(disk_full.reason_to_skip()))
def test_a_full_disk_is_refused_survived_and_left_behind(tmp_path, tiny_bundle):
    try:
        found = disk_full.run(tmp_path, tiny_bundle, cycles=1)
    except PermissionError as error:
        pytest.skip(f"not proved: {error.strerror}")
    assert found["A700 below the watermark"]
    assert found["A700 on a full disk"]


def test_a_watched_folder_gives_every_image_once_and_outlives_its_share(tmp_path, tiny_bundle):
    found = folder.run(tmp_path, tiny_bundle, gone=1.0)
    assert found["contents, each one item"] == 10


def test_no_patient_data_leaves_by_logs_metrics_addresses_or_paths(tmp_path, tiny_bundle):
    found = privacy.run(tmp_path / "proof", tiny_bundle)
    assert found["text fields with the canary"] > 1000
    assert found["items"] > 10


def test_associations_and_probes_leave_memory_and_threads_as_they_were(tmp_path, tiny_bundle):
    found = soak.run(tmp_path, tiny_bundle, associations=200, samples=10)
    first, last, _ = found["serving"]["resident MiB: first, last, most"]
    assert last < first + 20
    assert found["serving"]["threads: first, last, most"][1] < 25


@pytest.mark.parametrize("encrypted", [False, True])
def test_slow_clients_of_the_page_are_cut_and_keep_nobody_out(tmp_path, tiny_bundle, encrypted):
    found = slow_requests.run(tmp_path / "proof", tiny_bundle, 100, 8.0, encrypted)
    assert min(found["answers"].values()) > 3
