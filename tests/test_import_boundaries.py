"""The box runs without Keras, and imports point one way: edge_app → keras_realmnet.screening ← everything else."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.phantoms.phantom import render

ROOT = Path(__file__).resolve().parents[1]


FORBIDDEN = ("keras", "tensorflow", "jax", "torch", "training", "export", "keras_realmnet.models")

SCREENING = """
import json, sys
from edge_app.__main__ import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules)}))
"""


# Each module of ours is the first to be imported in a process of its own, which then knows all classes of ours. The
# processes are forks of one that has Keras' parts but not `keras` itself: the order of our modules is what is tested.
EACH_FIRST = """
import importlib, os, sys, traceback
import keras, keras_hub, cv2, sklearn.model_selection
del sys.modules["keras"]
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            importlib.import_module(name)
            if "keras" in sys.modules:
                import keras
                for known in ("FocalLoss", "WarmupCosine", "RealMNet", "Baseline"):
                    assert keras.saving.get_registered_object("keras_realmnet>" + known), known
            status = 0
        except BaseException:
            print(name, traceback.format_exc(limit=-3), file=sys.stderr, flush=True)
        os._exit(status)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print("failed:", *failed)
"""


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def imported(package: str) -> list[tuple[Path, str]]:
    """(file, absolute name) of every import statement in the package, those inside of functions included."""
    found = []
    for file in sorted((ROOT / package).rglob("*.py")):
        here = file.relative_to(ROOT).with_suffix("").parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(file, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(here[: len(here) - node.level]) if node.level else ""
                module = ".".join(part for part in (base, node.module) if part)
                found += [(file, f"{module}.{alias.name}") for alias in node.names]
    return found


def test_screening_a_real_image_loads_no_training_framework(tiny_bundle, tmp_path):
    image = render(1, width=640, staphyloma=False, grade=1).image
    cv2.imwrite(str(tmp_path / "7_OD_2025-01-31_1.png"), np.ascontiguousarray(image[..., ::-1]))
    arguments = ["screen", str(tmp_path / "7_OD_2025-01-31_1.png"), "--bundle", str(tiny_bundle)]
    done = subprocess.run(
        [sys.executable, "-c", SCREENING, *arguments, "--out", str(tmp_path / "results")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == 0, done.stdout
    assert "ai_edge_litert.interpreter" in result["modules"]
    assert [module for module in result["modules"] if within(module, FORBIDDEN)] == []


def test_edge_app_imports_only_the_shared_part():
    ours = [(f, m) for f, m in imported("edge_app") if within(m, ("keras_realmnet", "training", "export"))]
    assert ours, "no import found: the test looks in the wrong place"
    shared = ("__version__", "command_line", "errors", "screening")
    allowed = ("edge_app", *(f"keras_realmnet.{name}" for name in shared))
    assert [(str(f), m) for f, m in ours if not within(m, allowed)] == []
    assert [(str(f), m) for f, m in imported("edge_app") if within(m, FORBIDDEN)] == []


def test_screening_imports_only_itself_and_errors():
    found = imported("keras_realmnet/screening")
    ours = [(str(f), m) for f, m in found if within(m, ("keras_realmnet", "training", "export", "edge_app"))]
    assert [(f, m) for f, m in ours if not within(m, ("keras_realmnet.screening", "keras_realmnet.errors"))] == []
    assert [(str(f), m) for f, m in found if within(m, FORBIDDEN)] == []


def test_each_module_can_be_the_first_that_is_imported():
    files = [file for package in ("keras_realmnet", "training", "export") for file in (ROOT / package).rglob("*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert {
        "keras_realmnet",
        "keras_realmnet.models.heads",
        "training.report.page",
        "export.conversion.to_onnx",
    } <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, *sorted(names)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "failed:\n", done.stderr[-5000:]


@pytest.mark.parametrize("package", ["keras_realmnet", "training", "export"])
def test_nothing_imports_edge_app(package):
    assert [(str(f), m) for f, m in imported(package) if within(m, ("edge_app",))] == []


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("data", ("phantoms", "datasets", "input", "runs", "scoring", "fitting", "studies", "report", "commands")),
        ("phantoms", ("datasets", "input", "runs", "scoring", "fitting", "studies", "report", "commands")),
        ("datasets", ("input", "runs", "scoring", "fitting", "studies", "report", "commands")),
        ("scoring", ("fitting", "studies", "report", "commands")),
        ("fitting", ("studies", "report", "commands")),
    ],
)
def test_the_rooms_of_training_import_downwards(room, above):
    """Imports inside of functions count, too: a circle that is hidden there is one."""
    found = imported(f"training/{room}")
    assert found, "no import found: the test looks in the wrong place"
    assert [(str(f), m) for f, m in found if within(m, tuple(f"training.{name}" for name in above))] == []
