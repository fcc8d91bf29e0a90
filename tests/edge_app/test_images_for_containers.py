"""The images are built nowhere here: what they copy and install is checked to be what the commands in them import."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What imports where the packages of training are not: everything that the image does not install is made unimportable.
WITHOUT = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"keras", "tensorflow", "torch", "jax", "sklearn", *sys.argv[1].split()}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""
OPTIONAL = {"onnx", "scipy", "onnxruntime"}
BOX = ("edge_app.__main__", "edge_app.processes.serve", "keras_realmnet.screening.runtimes")


@pytest.mark.parametrize(
    ("dockerfile", "modules"),
    [
        ("Dockerfile", BOX),
        (
            "Dockerfile.jetpack",
            (
                *BOX,
                "export.__main__",
                "export.conversion.to_tensorrt",
                "export.contract.verify",
                "export.speed.benchmark",
            ),
        ),
    ],
)
def test_an_image_has_what_its_commands_import(dockerfile, modules, tmp_path):
    text = (ROOT / "edge_app/deploy" / dockerfile).read_text()
    for source in re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE):
        if source != "bundles":
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    installed = {re.split('[=<>"]', word.strip('"'))[0] for word in text.split()}
    command = [sys.executable, "-c", WITHOUT, " ".join(OPTIONAL - installed), *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_cuda_python_is_of_the_cuda_of_jetpack():
    text = (ROOT / "edge_app/deploy/Dockerfile.jetpack").read_text()
    assert "ARG L4T=r36.4.0" in text  # JetPack 6.1
    assert "ARG CUDA=12.6" in text
    assert '"cuda-python==${CUDA}.*"' in text
