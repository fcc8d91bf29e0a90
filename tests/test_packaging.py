"""What is installed: dependencies, the wheel, and what a checkout weighs."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path, PurePath

import pytest
import tomllib
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edge_app.config import SHIPPED_BUNDLES
from keras_realmnet import __version__
from keras_realmnet.screening.bundle.bundle import Bundle

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_app", "export", "keras_realmnet", "training")
OURS = "keras-realmnet"
PARTS = ("bundle.json", "golden.npz", "README.md", "sbom.cdx.json")  # of a bundle, in the wheel; and its default model


# ---- dependencies ----

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
BOARD = {"cuda", "tensorrt"}  # packages of NVIDIA's, which come with the board
# {part of the code: extras that it needs, all of them or for an option}
NEEDS = {
    "edge_app": {"archive"},
    "keras_realmnet/screening": {"export"},  # engines for ONNX models
    "keras_realmnet": {"export", "torch"},  # torch: reads .pth files
    "training": {"training", "jax", "torch", "wandb", "peers"},  # peers: timm, beside which steps are timed
    "export": {"export", "peers", "torch"},
    "tests": {"test"},
}


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, for the box or for extras and those that they name."""
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]] or PROJECT["dependencies"]
    found = []
    for requirement in map(Requirement, lines):
        found += declared(*requirement.extras) if requirement.name == OURS else [requirement]
    return found


def pinned(file: str) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text("utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def on(requirements: list[Requirement], python: str, machine: str) -> dict[str, Requirement]:
    """{name: requirement} of those that count there."""
    place = {**default_environment(), "python_version": python, "platform_machine": machine}
    counting = [r for r in requirements if r.marker is None or r.marker.evaluate(place)]
    return {canonicalize_name(requirement.name): requirement for requirement in counting}


PINNED_BY = {  # {file: what it pins beside what the files that it needs do}
    "requirements-edge.txt": declared(),
    "requirements.txt": declared("test"),
    "requirements-peers.txt": [r for r in declared("peers") if r.name in ("onnxscript", "timm", "torchvision")],
}


@pytest.mark.parametrize("file", PINNED_BY)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.14"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_is_declared_is_pinned_inside_of_its_range_and_nothing_else_is(file, python, machine):
    wanted, pins = on(PINNED_BY[file], python, machine), on(pinned(file), python, machine)
    assert pins.keys() == wanted.keys()
    for name, pin in pins.items():
        (version,) = pin.specifier
        assert version.operator == "=="
        assert wanted[name].specifier.contains(version.version), f"{pin}: {wanted[name]} is declared"
        assert pin.extras == wanted[name].extras


def test_peers_are_the_full_environment_and_three_packages():
    peers = {r.name for r in declared("peers")} - {r.name for r in declared("test")}
    assert peers == {r.name for r in pinned("requirements-peers.txt")}


def imported(files: list[Path]) -> set[str]:
    """Modules of others, by their first name, that are imported anywhere in `files`."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    ours = {*PACKAGES, "tests", *(file.stem for file in (ROOT / "tests").rglob("*.py"))}
    return found - ours - sys.stdlib_module_names - BOARD


@pytest.mark.parametrize("part", NEEDS)
def test_what_is_imported_is_declared(part):
    files = list((ROOT / part).rglob("*.py"))
    if part == "keras_realmnet":
        files = [file for file in files if "screening" not in file.parts]
    installed = packages_distributions()
    names = {canonicalize_name(r.name) for r in declared() + declared(*sorted(NEEDS[part]))}
    names.add("pydantic-core")  # pydantic comes with exactly one
    names |= {canonicalize_name(r.name) for r in pinned("requirements-imagenet.txt")}  # no extra: not with their needs
    distributions = {name: installed.get(name, [name]) for name in imported(files)}
    assert {
        name: found for name, found in distributions.items() if not names.intersection(map(canonicalize_name, found))
    } == {}


# ---- the wheel ----


@pytest.fixture(scope="module")
def tracked() -> list[PurePath]:
    """What git keeps of this checkout."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"git does not tell which files are tracked: {error}")
    return [PurePath(name) for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory) -> Path:
    """Built from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked:
        if name.parts[0] in (*PACKAGES, "bundles", "samples") or len(name.parts) == 1:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", folder, folder / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = folder.glob("*.whl")
    return made


def default_model(folder: PurePath) -> str:
    return Bundle.load(ROOT / folder).artifact().file


def test_the_wheel_has_all_files_of_the_packages_the_samples_and_the_box_s_part_of_the_bundle(wheel, tracked):
    names = {PurePath(name) for name in zipfile.ZipFile(wheel).namelist()}
    received = {name for name in names if not name.parts[0].endswith(".dist-info")}
    folders = {name.parent for name in tracked if name.parts[0] == "bundles"}
    bundle = {folder / name for folder in folders for name in (*PARTS, default_model(folder))}
    images = {name for name in tracked if name.parts[0] == "samples" and name.suffix != ".md"}
    assert received == {name for name in tracked if name.parts[0] in PACKAGES} | images | bundle


def test_screen_takes_every_bundle_that_ships_where_none_is_named(tracked):
    folders = {name.parent for name in tracked if name.parts[0] == "bundles" and name.name == "bundle.json"}
    assert {PurePath(bundle.relative_to(ROOT)) for bundle in SHIPPED_BUNDLES} == folders


def test_the_wheel_states_the_version_and_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as files:
        metadata = files.read(f"keras_realmnet-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    lines = metadata.splitlines()
    needed = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]
    assert {r.name for r in needed if "extra" not in str(r.marker)} == {r.name for r in declared()}
    assert {line for line in lines if line.startswith("Provides-Extra")} == {
        f"Provides-Extra: {extra}" for extra in PROJECT["optional-dependencies"]
    }


@pytest.mark.slow
def test_what_is_installed_screens_from_anywhere(wheel, samples, tmp_path):
    """With nothing of the checkout: the wheel alone is unpacked, and its dependencies are those of this environment."""
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "edge_app", "screen", samples / "PHANTOM-0003_OD_2026-03-02_1.jpg"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 image, 1 result: 1 refer", done.stdout, re.MULTILINE)
    assert "Posterior staphyloma" in (tmp_path / "results" / "report.html").read_text("utf-8")


# ---- the checkout ----


def test_the_tracked_files_are_not_large(tracked):
    assert sum((ROOT / name).stat().st_size for name in tracked) < 58 * 2**20
