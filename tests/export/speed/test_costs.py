from dataclasses import asdict

import pytest

from export.speed.costs import costs_of, with_costs
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.preprocessing import PreprocessSpec


def test_costs_of_a_network_known_by_hand(tiny_bundle):
    """8 x 8 cells of three colours to seven labels each; memory holds a picture of 12 megapixels."""
    bundle = Bundle.load(tiny_bundle)
    model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)
    found = with_costs(model, bundle.spec, bundle.task.modality).costs
    assert (found.macs, found.parameters) == (8 * 8 * 3 * 7, 3 * 7 + 7)
    picture = 3900 * 3072 * 3 / 2**20
    assert 30 + picture < found.peak_memory_mb < 600
    assert found.peak_memory_of == (
        "the whole process screening a 3900 × 3072 JPEG on one thread, from decoding to the overlay picture"
    )


def test_a_smaller_picture_needs_less_memory(tiny_bundle, samples):
    """The memory is that of a process of its own, which does nothing else, and depends on what it screens."""
    model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)
    name = "PHANTOM-0001_OD_2026-03-02_1.jpg"
    whole, half = (costs_of(model, PreprocessSpec(64, reduction=k), "uwf_red_green", samples / name) for k in (1, 2))
    assert half.peak_memory_mb < whole.peak_memory_mb - 20
    assert asdict(half) | {"peak_memory_mb": 0} == asdict(whole) | {"peak_memory_mb": 0}


def test_a_file_that_is_no_picture_is_told_in_the_parent(tiny_bundle, tmp_path):
    model = ArtifactSource(tiny_bundle / "float32.tflite", "float32", 1e-3)
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RealMNetError, match=r"x\.jpg"):
        costs_of(model, PreprocessSpec(64), "uwf_red_green", tmp_path / "x.jpg")
