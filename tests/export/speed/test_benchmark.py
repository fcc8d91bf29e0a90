import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from export.__main__ import main
from export.conversion.to_onnx import to_onnx
from export.speed.benchmark import PROCESSES, benchmark
from export.speed.contestants import of_bundle
from export.speed.networks.preset_models import _code
from export.speed.process.worker import Worker
from export.speed.summary import summary
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle


def refusal(arguments, capsys):
    """The one line that the command says."""
    assert main(["benchmark", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("python -m export: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.fixture
def preset_models(tmp_path, monkeypatch):
    """Where models of a preset are looked for, there are some; they are never opened."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "benchmark" / "realmnet_5m_224"
    folder.mkdir(parents=True)
    (folder / "float32.tflite").write_bytes(b"model")
    models = {"float32": {"file": "float32.tflite", "engine": "litert", "precision": "float32"}}
    (folder / "models.json").write_text(json.dumps({"code": _code(), "models": models}))
    return "realmnet_5m_224"


def test_wrong_names_are_told_in_one_line(tiny_bundle, preset_models, tmp_path, capsys):
    for arguments, message in (
        ([tiny_bundle, "--scenario", "server"], "scenario must be one of singlestream, multistream, offline. Received"),
        ([tiny_bundle, "--artifact", "int4"], "has the artifacts float32, second. Received: 'int4'"),
        ([tiny_bundle, "--engine", "abacus"], "The engine must be one of litert, "),
        ([tiny_bundle, "--compare", "int4"], "what is compared must be float32, second, all, a bundle's folder or"),
        ([tiny_bundle, "--images", tmp_path / "none"], "none: no such file or folder"),
        (["--preset", "realmnet_5m"], "preset must be one of realmnet_5m_224"),
        (["--preset", preset_models, "--artifact", "int4"], "has the artifacts float32. Received: 'int4'"),
        (["--preset", preset_models, "--engine", "abacus"], "The engine must be one of litert, "),
        (["--preset", preset_models, "--engine", "openvino"], "none of its artifacts is for openvino"),
        (["--preset", preset_models, "--peer", "pytorch"], "a peer must be one of "),
        (["--preset", preset_models, "--compare", "all"], "--compare is for a bundle or a model file"),
        ([tmp_path / "none.onnx"], "none.onnx: no such file or folder"),
    ):
        assert message in refusal(arguments, capsys), arguments


def test_a_model_file_without_a_bundle(tiny_bundle, samples, tmp_path, capsys):
    picture = str(samples / "PHANTOM-0003_OS_2026-03-02_1.jpg")
    file = tiny_bundle / "float32.tflite"
    arguments = ["benchmark", str(file), "--threads", "1", "--images", picture, "--rounds", "2", "--queries", "2"]
    assert main([*arguments, "--compare", str(tiny_bundle), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]  # the bundle's default artifact is the same file
    assert (row["file"], row["network"]) == ("float32.tflite", "at 64")
    assert main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert (row["name"], row["network"], row["precision"]) == ("float32.tflite (litert)", "at 64", "not stated")
    assert row["inference_ms"]["p50"] > 0
    (tmp_path / "no.onnx").write_bytes(b"no model")
    for wrong, message in (
        ([file, "--artifact", "float32"], "float32.tflite: only a bundle has artifacts. Received: float32"),
        ([file, "--engine", "openvino"], "float32.tflite: the engine must be one of litert. Received: openvino"),
        ([file, "--peers"], "peers are for a bundle or a preset"),
        ([tiny_bundle / "bundle.json"], "bundle.json: a bundle's folder or a file that ends in .onnx, .plan, .tflite"),
        ([tmp_path / "no.onnx"], "no.onnx: OnnxRuntime cannot open the model"),
    ):
        assert message in refusal(wrong, capsys)


def test_what_a_worker_says_at_its_end_is_shown(tiny_bundle, monkeypatch, tmp_path):
    """As where an engine raises what it does not document: here the worker cannot import its first package."""
    (tmp_path / "cv2.py").write_text("raise RuntimeError('no such instruction on this board')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    (contestant, _) = of_bundle(Bundle.load(tiny_bundle))
    with pytest.raises(RealMNetError, match="ended with status 1: RuntimeError: no such instruction on this board"):
        Worker(contestant, 1)


def test_time_by_operator(small_model, samples, tmp_path, capsys):
    path = to_onnx(small_model, tmp_path / "small.onnx", opset=20)
    picture = str(samples / "PHANTOM-0003_OS_2026-03-02_1.jpg")
    arguments = ["benchmark", str(path), "--threads", "1", "--images", picture, "--rounds", "2", "--queries", "0"]
    engines = ["--engine", "onnxruntime", "--engine", "openvino"]
    assert main([*arguments, *engines, "--profile", "--json", "--out", str(tmp_path / "report")]) == 0
    by_onnxruntime, _ = (row["operators"] for row in json.loads(capsys.readouterr().out)["results"])
    numbers = {row["operator"]: row["count"] for row in by_onnxruntime}
    assert numbers["LayerNormalization"] == 9
    times = [row["ms"] for row in by_onnxruntime]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0
    report = (tmp_path / "report" / "benchmark.md").read_text()
    assert "## Operators of small.onnx (openvino), 1 thread, as the engine measures them" in report
    assert "| LayerNormalization | 9 |" in report


def test_an_engine_that_tells_no_operators_says_so(tiny_bundle, samples, capsys):
    picture = str(samples / "PHANTOM-0003_OS_2026-03-02_1.jpg")
    arguments = [
        "benchmark",
        str(tiny_bundle),
        "--threads",
        "1",
        "--images",
        picture,
        "--rounds",
        "2",
        "--queries",
        "0",
    ]
    assert main([*arguments, "--profile"]) == 0
    message = "float32 (litert): no profile: litert: tells no time of its operators; onnxruntime and openvino do"
    assert message in capsys.readouterr().err


def test_two_artifacts_in_turns_from_file_to_class_map(tiny_bundle, samples, tmp_path, capsys):
    picture = str(samples / "PHANTOM-0001_OD_2026-03-02_1.jpg")
    arguments = ["benchmark", str(tiny_bundle), "--compare", "all", "--threads", "1", "--images", picture]
    assert main([*arguments, "--rounds", "3", "--queries", "4", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "benchmark.json").read_text())
    assert printed["images"] == [
        {"file": "PHANTOM-0001_OD_2026-03-02_1.jpg", "format": "JPEG", "width": 3900, "height": 3072, "bytes": 458737}
    ]
    assert printed["machine"]["cores"] >= 1
    bundle = Bundle.load(tiny_bundle)
    for row, name in zip(printed["results"], ("float32", "second"), strict=True):
        assert row["sha256"] == bundle.artifacts[name].sha256
        assert row["inference_ms"]["rounds"] == 3
        assert row["inference_ms"]["count"] >= 6
        assert 0 < row["inference_ms"]["p50"] <= row["inference_ms"]["p90"] <= row["inference_ms"]["max"]
        stages = row["stages_ms"]
        assert stages.pop("count") == 4
        assert list(stages) == ["decode", "quality", "preprocess", "inference", "class map", "total"]
        assert stages["total"]["p50"] > stages["decode"]["p50"] > stages["inference"]["p50"]
        assert 60 < row["peak_memory_mb"] < 600
        assert row["network facts"] == {
            "macs": 8 * 8 * 3 * 7,
            "parameters": 3 * 7 + 7,
            "bytes": bundle.artifacts[name].bytes,
        }
        assert row["ratio"]["to"] == "float32 (litert)"
        assert row["power"] is None
    assert printed["results"][0]["ratio"]["value"] == 1
    report = (tmp_path / "benchmark.md").read_text()
    assert "| second (litert) |" in report
    assert "3900 × 3072" in report
    with Image.open(tmp_path / "benchmark.png") as figure:
        assert figure.width > 500


@pytest.mark.parametrize(("scenario", "queries"), [("multistream", 3), ("offline", 9)])
def test_other_scenarios(tiny_bundle, samples, tmp_path, capsys, scenario, queries):
    picture = str(samples / "PHANTOM-0003_OS_2026-03-02_1.jpg")
    arguments = ["benchmark", str(tiny_bundle), "--threads", "1", "--images", picture, "--scenario", scenario]
    assert main([*arguments, "--rounds", "3", "--queries", str(queries), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    if scenario == "offline":
        assert row["images_per_second"] > 0.5
    else:
        assert row["stages_ms"]["count"] == 3 * 8
        assert row["query_ms"]["count"] == 3
        assert row["query_ms"]["p50"] > 6 * row["stages_ms"]["total"]["p50"]


def worker_processes():
    children = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return {pid for pid in pids if b"export.speed.process.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_engines_get_new_processes_between_rounds(tiny_bundle, samples):
    seen = []
    contestants = of_bundle(Bundle.load(tiny_bundle), ["second"])
    files = [samples / "PHANTOM-0003_OS_2026-03-02_1.jpg"]

    def tell(line):
        if line.startswith("round"):
            seen.append(worker_processes())

    (measured,) = benchmark(contestants, files, queries=0, rounds=4, tell=tell)
    assert len(measured.inference) == len(seen) == 4
    assert all(len(pids) == 1 for pids in seen)
    assert len(set.union(*seen)) == PROCESSES


def test_an_engine_that_dies_is_told_and_the_others_go_on(tiny_bundle, samples):
    contestants = of_bundle(Bundle.load(tiny_bundle))
    lines = []

    def tell(line):
        lines.append(line)
        if line == "round 1 of 3":
            os.kill(max(worker_processes()), signal.SIGKILL)  # the one that was started last

    files = [samples / "PHANTOM-0003_OS_2026-03-02_1.jpg"]
    lasting, dead = benchmark(contestants, files, queries=3, rounds=3, tell=tell)
    assert (len(lasting.inference), len(lasting.queries), lasting.error) == (3, 3, None)
    assert (dead.inference, dead.error) == ([], "the process ended with status -9")
    assert "second (litert): the process ended with status -9" in lines
    rows = summary([lasting, dead], files, "singlestream")["results"]
    assert rows[0]["ratio"]["value"] == 1
    assert rows[1]["error"] == dead.error


ON_A_BOX = """
import sys
for package in ("keras", "tensorflow", "torch", "matplotlib", "scipy", "sklearn", "onnx", "onnxruntime"):
    sys.modules[package] = None  # importing it raises ModuleNotFoundError
from export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_box_measures_itself_without_the_packages_of_training(tiny_bundle, samples):
    arguments = ["benchmark", str(tiny_bundle), "--threads", "1", "--images", str(samples), "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_BOX, *arguments, "--queries", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "float32 (litert)" in done.stdout


def test_what_is_missing_is_told_in_one_line(tiny_bundle, samples, capsys, monkeypatch, tmp_path):
    bundle = str(tiny_bundle)
    assert main(["benchmark"]) == 2
    assert main(["benchmark", bundle, "--engine", "onnxruntime"]) == 2
    assert "none of its artifacts is for onnxruntime" in capsys.readouterr().err
    assert main(["benchmark", "--preset", "realmnet_1b_9000"]) == 2
    assert "preset must be one of" in capsys.readouterr().err
    missing = tmp_path / "modules"  # a package that is not installed, for the child process
    missing.mkdir()
    (missing / "timm.py").write_text("raise ModuleNotFoundError(\"No module named 'timm'\", name='timm')")
    (missing / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(missing))
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", bundle, "--peers"]) == 2
    assert "peers are for a bundle or a preset of TinyViT" in capsys.readouterr().err
    told = shutil.copytree(tiny_bundle, tmp_path / "told")
    with zipfile.ZipFile(told / SOURCE_FILE, "w") as archive:  # whose network is as large as a published one
        archive.writestr("config.json", '{"embed_dims": [64, 128, 160, 320]}')
    assert main(["benchmark", str(told), "--peers"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "No module named 'torch' (pip install -r requirements-peers.txt)" in line
