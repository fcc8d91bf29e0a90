"""TensorRT, against a stand-in for NVIDIA's packages (see fake_nvidia.py); no hardware has run this."""

import gc
import importlib.util
import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.conversion.quantize_onnx import to_onnx_int8
from export.conversion.to_onnx import to_onnx
from export.conversion.to_tensorrt import add_engine, to_tensorrt
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.artifact import Costs
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import ArtifactSource, write_bundle
from keras_realmnet.screening.engines.registry import ENGINES
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM

COSTS = Costs(macs=123, parameters=45, peak_memory_mb=67.0, peak_memory_of="ONNX Runtime")

spec = importlib.util.spec_from_file_location("fake_nvidia", Path(__file__).parent / "fake_nvidia.py")
fake_nvidia = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake_nvidia)


@pytest.fixture
def machine(monkeypatch):
    """`machine(version, **device)` plugs a GPU with that TensorRT in; gives its memory and the list of builds."""

    def plug_in(version="10.3.0", **device):
        memory, builds = fake_nvidia.Memory(**device), []
        monkeypatch.setitem(sys.modules, "tensorrt", fake_nvidia.tensorrt(version, memory, builds))
        bindings = types.ModuleType("cuda.bindings")
        bindings.runtime = memory.module()
        monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", bindings.runtime)
        return memory, builds

    return plug_in


@pytest.fixture(scope="module")
def models(tmp_path_factory, small_model, pictures):
    folder = tmp_path_factory.mktemp("onnx")
    float32 = to_onnx(small_model, folder / "float32.onnx", opset=20)
    return {
        "float32": float32,
        "int8": to_onnx_int8(float32, folder / "int8.onnx", pictures, target="tensorrt"),
        "float8": to_onnx_int8(float32, folder / "float8.onnx", pictures, target="tensorrt-float8"),
        "newest": to_onnx(small_model, folder / "newest.onnx"),
        "batch": to_onnx(small_model, folder / "batch.onnx", batch_size=4, opset=20),
    }


@pytest.fixture(scope="module")
def made_bundle(models, pictures, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bundle")
    write_bundle(
        directory,
        name="small",
        version="1",
        task=labels_task(
            PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen="for this test")
        ),
        spec=PreprocessSpec(size=64),
        artifacts={
            "onnx-float32-gpu": ArtifactSource(models["float32"], "float32", 1e-3, "onnxruntime"),
            "onnx-int8-gpu": ArtifactSource(models["int8"], "int8_static", 2e-2, "onnxruntime", COSTS),
        },
        default_artifact="onnx-float32-gpu",
        golden_image=pictures[:1],
        training_data={"statement": "None: random weights."},
        scores={},
        versions={},
        intended_use="tests",
    )
    return directory


@pytest.fixture
def directory(made_bundle, tmp_path):
    return Path(shutil.copytree(made_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1"])
def test_an_engine_is_built_and_runs_as_one_recorded_graph(machine, models, pictures, tmp_path, version):
    memory, builds = machine(version)
    plan = to_tensorrt(models["int8"], tmp_path / "int8.plan", timing_cache=tmp_path / "timings")
    ((network, config),) = builds
    assert network.flags == 1 << 1  # strongly typed: int8 comes from Q and DQ in the model, not from a flag
    assert config.pools == {fake_nvidia.MemoryPoolType.WORKSPACE: 1 << 30}
    runtime = ENGINES["tensorrt"](plan)
    assert runtime.input_shape == (1, 64, 64, 3)
    received, expected = (r.predict(pictures) for r in (runtime, ENGINES["onnxruntime"](models["int8"])))
    np.testing.assert_allclose(received["probabilities"], expected["probabilities"], atol=1e-6)
    np.testing.assert_allclose(received["class_maps"], expected["class_maps"], atol=1e-4)
    assert memory.launches == len(pictures)
    del runtime
    gc.collect()
    assert_nothing_is_held(memory)


def assert_nothing_is_held(memory):
    assert memory.device == memory.host == {}
    assert memory.streams == memory.graphs == memory.executables == set()


CAPTURE = ("cudaStreamBeginCapture", "execute_async_v3", "cudaStreamEndCapture", "cudaGraphInstantiate")


@pytest.mark.parametrize("call", CAPTURE)
def test_an_engine_that_cannot_be_recorded_runs_all_the_same(machine, models, pictures, tmp_path, call):
    memory, _ = machine(refused=call)
    runtime = ENGINES["tensorrt"](to_tensorrt(models["float32"], tmp_path / "float32.plan"))
    assert memory.graphs == set()
    assert memory.recording is None
    assert memory.last_error == 0  # or the next call would be blamed for it
    expected = ENGINES["onnxruntime"](models["float32"]).predict(pictures)
    np.testing.assert_allclose(runtime.predict(pictures)["probabilities"], expected["probabilities"], atol=1e-6)
    assert memory.launches == 0
    del runtime
    gc.collect()
    assert_nothing_is_held(memory)


@pytest.mark.parametrize("room", [0, 2])
def test_an_engine_that_finds_no_memory_leaves_none_behind(machine, models, tmp_path, room):
    machine()
    plan = to_tensorrt(models["float32"], tmp_path / "float32.plan")
    memory, _ = machine(room=room)
    with pytest.raises(RealMNetError, match="cudaErrorMemoryAllocation"):
        ENGINES["tensorrt"](plan)
    assert_nothing_is_held(memory)


def test_an_engine_of_another_kind_leaves_nothing_behind(machine, models, tmp_path):
    """Its outputs are not those of a network of ours."""
    machine()
    model = onnx.load(models["float32"])
    del model.graph.output[0]
    onnx.save(model, tmp_path / "other.onnx")
    plan = to_tensorrt(tmp_path / "other.onnx", tmp_path / "other.plan")
    memory, _ = machine()
    with pytest.raises(BundleMismatch, match="expected one float32 input and the outputs"):
        ENGINES["tensorrt"](plan, outputs=("probabilities", "class_maps"))
    assert_nothing_is_held(memory)


def test_building_tells_how_far_it_is(machine, models, tmp_path):
    machine()
    lines = []
    to_tensorrt(models["float32"], tmp_path / "a.plan", tell=lines.append)
    assert lines[0] == "building the engine: the first time this takes minutes"
    assert "Building engine: 3 of 3" in lines
    assert lines[-1].startswith("built in ")


def test_a_fixed_batch_is_filled_up(machine, models, pictures, tmp_path):
    memory, _ = machine()
    runtime = ENGINES["tensorrt"](to_tensorrt(models["batch"], tmp_path / "batch.plan"))
    expected = ENGINES["onnxruntime"](models["float32"]).predict(pictures[:6])
    np.testing.assert_allclose(runtime.predict(pictures[:6])["probabilities"], expected["probabilities"], atol=1e-5)
    assert memory.launches == 2


def test_threads_share_an_engine(machine, models, pictures, tmp_path):
    machine()
    runtime = ENGINES["tensorrt"](to_tensorrt(models["float32"], tmp_path / "a.plan"))
    expected = [runtime.predict(picture[None])["class_maps"] for picture in pictures[:4]]
    with ThreadPoolExecutor(4) as threads:
        received = threads.map(
            lambda k: [runtime.predict(pictures[k : k + 1])["class_maps"] for _ in range(30)], range(4)
        )
        for k, predictions in enumerate(received):
            for class_maps in predictions:
                np.testing.assert_array_equal(class_maps, expected[k])


def test_timings_are_kept_per_device(machine, models, tmp_path):
    machine()
    for _ in range(2):
        to_tensorrt(models["float32"], tmp_path / "a.plan", timing_cache=tmp_path)
    kept = tmp_path / "Orin-8.7-8-16-GiB-10.3.0.timing"
    assert kept.read_bytes() == b"timedtimed"
    kept.write_bytes(b"damaged")
    to_tensorrt(models["float32"], tmp_path / "a.plan", timing_cache=tmp_path)
    assert kept.read_bytes() == b"timed"


def test_tf32_can_be_switched_off(machine, models, tmp_path):
    _, builds = machine("11.4.1")
    to_tensorrt(models["float32"], tmp_path / "a.plan", tf32=False)
    to_tensorrt(models["float32"], tmp_path / "a.plan")
    assert [{flag.name for flag in config.cleared} for _, config in builds] == [{"TF32"}, set()]


def test_models_and_boards_that_do_not_fit_are_refused(machine, models, tmp_path):
    machine()
    with pytest.raises(RealMNetError, match=r"TensorRT below 10\.14 does not read Attention: .*opset 20"):
        to_tensorrt(models["newest"], tmp_path / "a.plan")
    with pytest.raises(RealMNetError, match=r"FLOAT8E4M3FN needs compute capability 8\.9\. This is Orin, 8\.7"):
        to_tensorrt(models["float8"], tmp_path / "a.plan")
    assert not (tmp_path / "a.plan").exists()
    machine(name=b"Thor", capability=(11, 0))
    to_tensorrt(models["float8"], tmp_path / "a.plan")
    machine("10.14.1")
    to_tensorrt(models["newest"], tmp_path / "a.plan")


def test_an_engine_joins_a_bundle_stamped_with_its_device(machine, directory):
    machine()
    before = Bundle.load(directory)
    after = add_engine(before, "onnx-int8-gpu")
    made = after.artifact("tensorrt-int8")
    assert (made.engine, made.precision, made.tolerance) == ("tensorrt", "int8_static", 2e-2)
    assert made.device == {
        "GPU": "Orin",
        "compute capability": "8.7",
        "multiprocessors": "8",
        "memory, at most": "16 GiB",
        "TensorRT": "10.3.0",
    }
    assert made.costs == Costs(COSTS.macs, COSTS.parameters)  # the memory was another engine's
    assert after.digest != before.digest
    self_check(after, open_runtime(after, "tensorrt-int8"), "tensorrt-int8")
    self_check(after, open_runtime(after), None)  # what was there stays


def test_the_command_adds_an_engine_and_lists_the_artifacts(machine, directory, tmp_path, capsys):
    machine()
    arguments = ["--artifact", "onnx-int8-gpu", "--timing-cache", str(tmp_path)]
    assert main(["tensorrt", str(directory), *arguments]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tensorrt-int8.plan" in line]
    assert [cell.strip() for cell in line.split("│")[4:-1]] == ["0.000", "0.00", "not measured"]
    assert main(["tensorrt", str(directory), "--artifact", "int8"]) == 2
    assert (
        "has the artifacts onnx-float32-gpu, onnx-int8-gpu, tensorrt-int8. Received: 'int8'" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "other",
    [
        {"version": "10.13.3"},
        {"name": b"Thor", "capability": (11, 0)},
        {"multiprocessors": 16},  # AGX Orin calls itself as Orin NX does
        {"memory": int(7.4 * 2**30)},
    ],
)
def test_an_engine_is_refused_on_another_device(machine, directory, other):
    machine()
    bundle = add_engine(Bundle.load(directory), "onnx-float32-gpu")
    machine(**other)
    with pytest.raises(BundleMismatch, match=r"tensorrt-float32\.plan: made on GPU Orin.*build it again here"):
        open_runtime(bundle, "tensorrt-float32")


@pytest.mark.parametrize("memory", [15.1, 15.4])
def test_a_board_whose_system_leaves_more_memory_is_the_same_one(machine, directory, memory):
    machine()
    bundle = add_engine(Bundle.load(directory), "onnx-float32-gpu")
    machine(memory=int(memory * 2**30))
    open_runtime(bundle, "tensorrt-float32")


def test_a_plan_of_another_version_or_no_plan_is_refused(machine, models, tmp_path):
    machine()
    plan = to_tensorrt(models["float32"], tmp_path / "a.plan")
    machine("10.13.3")
    with pytest.raises(BundleMismatch, match=r"a\.plan: TensorRTRuntime cannot open"):
        ENGINES["tensorrt"](plan)


def test_an_engine_that_computes_something_else_does_not_join(machine, directory, monkeypatch):
    machine()
    bundle = add_engine(Bundle.load(directory), "onnx-float32-gpu")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    engine = type(sys.modules["tensorrt"].Runtime(None).deserialize_cuda_engine(b"PLAN10.3.0\0" + _onnx(directory)))
    exact = engine.create_execution_context

    def wrong(self):
        context = exact(self)
        run = self.session.run
        self.session = types.SimpleNamespace(run=lambda *arguments: [value * 0.5 for value in run(*arguments)])
        return context

    monkeypatch.setattr(engine, "create_execution_context", wrong)
    with pytest.raises(BundleMismatch, match=r"tensorrt-float32\.plan: probabilities differ"):
        add_engine(bundle, "onnx-float32-gpu")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    monkeypatch.setattr(engine, "create_execution_context", exact)
    self_check(Bundle.load(directory), open_runtime(bundle, "tensorrt-float32"), "tensorrt-float32")


def _onnx(directory):
    return (directory / "onnx-float32-gpu.onnx").read_bytes()


def test_without_the_packages_or_with_old_ones_the_message_says_so(models, monkeypatch, tmp_path, machine):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RealMNetError, match=r"need the package tensorrt.*docs/jetson\.md"):
        to_tensorrt(models["float32"], tmp_path / "a.plan")
    machine("8.5.2")
    with pytest.raises(RealMNetError, match=r"TensorRT 10 or newer.*8\.5\.2"):
        to_tensorrt(models["float32"], tmp_path / "a.plan")
