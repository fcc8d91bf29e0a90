import json
import shutil
import zipfile
from dataclasses import replace

import pytest

from export.speed.contestants import of_bundle, of_bundle_and_others, of_preset, peers_of
from export.speed.networks import preset_models
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle


def test_who_takes_part(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    assert [contestant.name for contestant in of_bundle(bundle)] == ["float32 (litert)", "second (litert)"]
    with pytest.raises(RealMNetError, match="none of its artifacts is for openvino"):
        of_bundle(bundle, engines=["openvino"])
    with pytest.raises(RealMNetError, match="'abacus'"):
        of_bundle(bundle, engines=["abacus"])
    with pytest.raises(RealMNetError, match="'int4'"):
        of_bundle(bundle, ["int4"])
    compared = of_bundle_and_others(tiny_bundle, [], [], ["all", str(tiny_bundle)])
    assert len(compared) == 2  # its default artifact is named three times, and takes part once


@pytest.mark.parametrize(
    ("config", "network"),
    [
        ('{"embed_dims": [64, 128, 160, 320], "stage_2_windows": 1}', "5m"),
        ('{"embed_dims": [96, 192, 384, 576], "stage_2_windows": 2}', "21m_w"),
        ('{"embed_dims": [8, 8, 8, 8], "stage_2_windows": 2}', ""),
        ('{"architecture": "efficientnet_lite0"}', ""),
        (None, ""),  # stripped of its Keras model
    ],
)
def test_a_bundle_tells_its_tiny_vit_or_nothing(tiny_bundle, tmp_path, config, network):
    bundle = Bundle.load(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    bundle = replace(bundle, source_file="network.keras")
    if config is not None:
        with zipfile.ZipFile(bundle.directory / "network.keras", "w") as archive:
            archive.writestr("config.json", config)
    contestants = of_bundle(bundle)
    assert [contestant.network for contestant in contestants] == [network, network]
    if not network:
        with pytest.raises(RealMNetError, match=r"peers are for a bundle or a preset of TinyViT 5m, 11m or 21m"):
            peers_of(contestants, tmp_path)


def test_files_of_a_preset_are_made_again_when_the_code_that_makes_them_has_changed(tmp_path, monkeypatch):
    made = []

    def make(module, preset, folder):
        made.append(preset)
        file = tmp_path / "float32.tflite"
        file.write_bytes(b"model")
        models = {"float32": {"file": file.name, "engine": "litert", "precision": "float32"}}
        (tmp_path / "models.json").write_text(json.dumps({"code": preset_models._code(), "models": models}))

    monkeypatch.setattr("export.speed.contestants._in_a_process", make)
    for _ in range(2):
        assert of_preset("realmnet_5m_224_w7", tmp_path)[0].network == "5m_w"
    monkeypatch.setattr(preset_models, "_code", lambda: ["of another release"])
    for _ in range(2):
        of_preset("realmnet_5m_224_w7", tmp_path)
    assert len(made) == 2
    (tmp_path / "models.json").write_text('{"float32": {}}')  # of an earlier release
    of_preset("realmnet_5m_224_w7", tmp_path)
    assert len(made) == 3
