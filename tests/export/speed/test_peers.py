"""Our network cut down to its probabilities, as a peer of itself with all outputs."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from export.conversion.to_onnx import to_onnx
from export.speed.benchmark import Measured, benchmark
from export.speed.contestants import Contestant, peers_of
from export.speed.network_facts import network_facts
from export.speed.networks.peers import (
    PROBABILITIES_ONLY,
    REFERENCE,
    keep_probabilities,
    open_peer,
    timm_name,
    timm_windows,
)
from export.speed.report import write_report
from export.speed.summary import reference_of, summary
from keras_realmnet import TinyViTBackbone
from keras_realmnet.compat import all_layers
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.screening.engines.registry import ENGINES
from keras_realmnet.screening.preprocessing import PreprocessSpec


@pytest.fixture(scope="module")
def whole(litert_models, small_model, tmp_path_factory):
    """The float32 models with all outputs, by engine."""
    onnx_model = to_onnx(small_model, tmp_path_factory.mktemp("onnx") / "float32.onnx")
    return {"litert": litert_models["float32"], "onnxruntime": onnx_model}


def contestants(whole):
    return [
        Contestant(f"float32 ({engine})", engine, file, "5m", PreprocessSpec(64), "uwf_red_green", sha256=f"{k}" * 64)
        for k, (engine, file) in enumerate(whole.items())
    ]


@pytest.mark.parametrize("peer", PROBABILITIES_ONLY)
def test_the_cut_model_gives_the_same_probabilities_with_less_work(whole, pictures, tmp_path, peer):
    model = whole[PROBABILITIES_ONLY[peer]]
    cut = tmp_path / f"cut{model.suffix}"
    keep_probabilities(model, cut)
    predict = open_peer(peer, "5m", 64, 1, cut)
    received = np.concatenate([predict(picture[None]) for picture in pictures])
    expected = ENGINES[PROBABILITIES_ONLY[peer]](model, 1).predict(pictures)["probabilities"]
    np.testing.assert_allclose(received, expected, atol=1e-6)
    assert network_facts(cut).macs < network_facts(model).macs


def test_litert_is_cut_to_what_an_export_with_one_output_has(opened, whole, small_model, tmp_path):
    keep_probabilities(whole["litert"], tmp_path / "cut.tflite")
    graph = deploy_graph(small_model, outputs=("probabilities",))
    images = keras.InputSpec(shape=graph.input.shape, dtype="float32", name="images")
    graph.export(tmp_path / "one.tflite", format="litert", input_signature=[images], verbose=False)
    cut, one = (network_facts(tmp_path / f"{name}.tflite") for name in ("cut", "one"))
    assert (cut.macs, cut.parameters) == (one.macs, one.parameters)
    assert len(opened(tmp_path / "cut.tflite").get_output_details()) == 1


def test_onnx_is_cut_to_one_output(whole, tmp_path):
    keep_probabilities(whole["onnxruntime"], tmp_path / "cut.onnx")
    graph = onnx.load(tmp_path / "cut.onnx").graph
    assert [output.name for output in graph.output] == ["probabilities"]
    assert not any(node.name.startswith(("maps_", "class_maps", "features")) for node in graph.node)


def test_the_cost_of_the_other_outputs_is_a_ratio_with_its_interval(whole, samples, tmp_path):
    taking_part = contestants(whole)
    taking_part += peers_of(taking_part, tmp_path / "models", list(PROBABILITIES_ONLY))
    file = samples / "PHANTOM-0003_OS_2026-03-02_1.jpg"
    found = summary(benchmark(taking_part, [file], threads=[1], queries=0, rounds=3), [file], "singlestream")
    for row, engine in zip(found["results"][2:], whole, strict=True):
        cost = row["all outputs"]
        assert cost["of"] == f"float32 ({engine})"
        assert 0.5 < cost["low"] <= cost["value"] <= cost["high"] < 3
    assert "all outputs" not in found["results"][0]
    write_report(found, tmp_path)
    assert json.loads((tmp_path / "benchmark.json").read_text()) == found
    report = (tmp_path / "benchmark.md").read_text()
    assert "## What class maps and features cost: time with them / probabilities alone" in report
    assert "| float32 (litert), 1 thread |" in report


def test_a_cut_model_takes_part_only_beside_the_whole_one(whole):
    int8 = [Contestant("int8", "litert", Path("int8.tflite"), "5m", PreprocessSpec(64), "uwf_red_green", "int8")]
    with pytest.raises(RealMNetError, match="a float32 model for litert must take part, too"):
        peers_of(int8, Path("nowhere"), ["probabilities-only-litert"])
    with pytest.raises(RealMNetError, match="'abacus'"):
        peers_of(int8, Path("nowhere"), ["abacus"])


@pytest.mark.parametrize(
    ("network", "size", "name"),
    [
        ("5m", 224, "tiny_vit_5m_224"),
        ("5m", 160, "tiny_vit_5m_224"),
        ("21m", 384, "tiny_vit_21m_384"),
        ("21m", 512, "tiny_vit_21m_512"),
        ("21m", 224, "tiny_vit_21m_224"),
        ("21m_w", 384, "tiny_vit_21m_384"),
    ],
)
def test_names_of_the_same_network_in_timm(network, size, name):
    assert timm_name(network, size) == name


@pytest.mark.parametrize(("network", "options"), [("5m", {}), ("5m_w", {"stage_2_windows": 2})])
def test_timms_windows_are_ours(network, options):
    ours = TinyViTBackbone(64, **options)
    windows = {layer.name: layer.window_size for layer in all_layers(ours) if isinstance(layer, WindowAttention)}
    for stage, side in enumerate(timm_windows(network, 64)[1:], start=1):
        assert windows[f"stages_{stage}_blocks_0_attn"] == (side, side)


def test_of_a_network_with_halved_windows_both_of_timms_take_part(tmp_path):
    """The one with the usual windows first: ratios are to it."""
    for network in ("21m", "21m_w"):
        (tmp_path / f"timm-{network}-384.onnx").touch()  # is not opened here
    like = Contestant("int8", "litert", Path("int8.tflite"), "21m_w", PreprocessSpec(384), "uwf_red_green", "int8")
    found = peers_of([like], tmp_path, [REFERENCE])
    assert [(each.name, each.network) for each in found] == [
        ("timm-onnxruntime", "21m"),
        ("timm-onnxruntime, windows halved", "21m_w"),
    ]
    measured = [Measured(each, 1, inference=[[1.0]]) for each in (like, *found)]
    assert reference_of(measured, 1).contestant == found[0]
