import json

import pytest

from export import sensitivity
from export.quantize_litert import LAYER_GROUPS
from keras_realmnet.errors import RealMNetError


@pytest.mark.slow
def test_each_group_is_quantized_alone(tmp_path, small_model, pictures, monkeypatch):
    monkeypatch.setattr(sensitivity, "ROUNDS", 1)
    lines = []
    found = sensitivity.sensitivities(small_model, pictures[:4], pictures[4:], lines.append)
    assert {row.group for row in found} == {*LAYER_GROUPS, "all dense layers"}
    for row in found:
        assert 0 < row.mean <= row.p99 <= row.largest, row  # it was quantized, and did something
        assert row.time > 0
    # XNNPACK has no int8 kernels for these three; everything else it runs whole.
    apart = {row.group for row in found if row.partitions > 1}
    assert apart <= {"attention matmul", "attention softmax", "GELU"}
    assert len(lines) == len(found) + 1

    sensitivity.write_report(found, 4, tmp_path)
    written = json.loads((tmp_path / "sensitivity.json").read_text())
    assert written["images"] == 4
    assert written["rows"][0]["group"] == "stem convolutions"
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_a_bundle_needs_images(tmp_path):
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(RealMNetError, match="--images"):
        sensitivity.model_and_images(tmp_path, None, 10)


def test_a_folder_that_is_neither_bundle_nor_run_is_refused(tmp_path):
    with pytest.raises(RealMNetError, match="expected the folder of a finished run"):
        sensitivity.model_and_images(tmp_path, None, 10)
