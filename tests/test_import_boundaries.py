"""The box runs without Keras, and imports point one way: edge_app → keras_realmnet.screening ← everything else."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.phantom import render

ROOT = Path(__file__).resolve().parents[1]


FORBIDDEN = ("keras", "tensorflow", "jax", "torch", "training", "export", "keras_realmnet.models")

SCREENING = """
import json, sys
from edge_app.__main__ import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "modules": sorted(sys.modules)}))
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
    allowed = ("edge_app", "keras_realmnet.screening", "keras_realmnet.errors", "keras_realmnet.command_line")
    assert [(str(f), m) for f, m in ours if not within(m, allowed)] == []
    assert [(str(f), m) for f, m in imported("edge_app") if within(m, FORBIDDEN)] == []


def test_screening_imports_only_itself_and_errors():
    found = imported("keras_realmnet/screening")
    ours = [(str(f), m) for f, m in found if within(m, ("keras_realmnet", "training", "export", "edge_app"))]
    assert [(f, m) for f, m in ours if not within(m, ("keras_realmnet.screening", "keras_realmnet.errors"))] == []
    assert [(str(f), m) for f, m in found if within(m, FORBIDDEN)] == []


@pytest.mark.parametrize("package", ["keras_realmnet", "training", "export"])
def test_nothing_imports_edge_app(package):
    assert [(str(f), m) for f, m in imported(package) if within(m, ("edge_app",))] == []
