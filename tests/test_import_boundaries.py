"""The box runs without Keras, and imports point one way:

edge_app → keras_realmnet.{tasks, screening} ← keras_realmnet.models ← training ← export
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import keras_realmnet
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
# processes are forks of one that has the libraries but not `keras` itself: the order of our modules is what is tested.
EACH_FIRST = """
import importlib, os, sys, traceback

def fork(run, *arguments):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(*arguments)
            status = 0
        except BaseException:
            print(*arguments, traceback.format_exc(limit=-3), file=sys.stderr, flush=True)
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0

def name_libraries():
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            pass  # its own process shows it
    ours = {name.partition(".")[0] for name in names}
    print(*(name for name in sys.modules if name.partition(".")[0] not in ours), sep="\\n", file=open(listed, "w"))

def import_first(name):
    importlib.import_module(name)
    if "keras" in sys.modules:
        import keras
        for known in ("FocalLoss", "WarmupCosine", "RealMNet", "Baseline"):
            assert keras.saving.get_registered_object("keras_realmnet>" + known), known

listed, compiled, *names = sys.argv[1:]
import keras, keras_hub
assert fork(name_libraries)
for library in open(listed).read().split():
    importlib.import_module(library)
del sys.modules["keras"]
sys.dont_write_bytecode, sys.pycache_prefix = False, compiled  # our modules are compiled once for all processes
print("failed:", *(name for name in names if not fork(import_first, name)))
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
    shared = ("__version__", "command_line", "errors", "screening", "tasks")
    allowed = ("edge_app", *(f"keras_realmnet.{name}" for name in shared))
    assert [(str(f), m) for f, m in ours if not within(m, allowed)] == []
    assert [(str(f), m) for f, m in imported("edge_app") if within(m, FORBIDDEN)] == []


@pytest.mark.parametrize("part", ["screening", "tasks"])
def test_what_the_box_shares_imports_only_itself_and_errors(part):
    found = imported(f"keras_realmnet/{part}")
    ours = [(str(f), m) for f, m in found if within(m, ("keras_realmnet", "training", "export", "edge_app"))]
    shared = tuple(f"keras_realmnet.{name}" for name in ("screening", "tasks", "errors"))
    assert ours
    assert [(f, m) for f, m in ours if not within(m, shared)] == []
    assert [(str(f), m) for f, m in found if within(m, FORBIDDEN)] == []


def test_each_module_can_be_the_first_that_is_imported(tmp_path):
    files = [file for package in ("keras_realmnet", "training", "export") for file in (ROOT / package).rglob("*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert {
        "keras_realmnet",
        "keras_realmnet.models.layers.heads",
        "training.report.page",
        "export.conversion.to_onnx",
    } <= set(names)
    done = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, tmp_path / "libraries", tmp_path / "compiled", *sorted(names)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "failed:\n", done.stderr[-5000:]


@pytest.mark.parametrize("package", ["keras_realmnet", "training", "export"])
def test_nothing_imports_edge_app(package):
    assert [(str(f), m) for f, m in imported(package) if within(m, ("edge_app",))] == []


# ---- rooms

# Every file is in one room: a folder or a file of the project, the longest name here that its own begins with. It
# imports from its room and from rooms above it in this list, at the top of the file as well as inside of functions.
ROOMS = """
    keras_realmnet.errors                     what went wrong, in words
    keras_realmnet.arguments                  whether values are in their range
    keras_realmnet.presets                    numbers of the published networks
    keras_realmnet.compat                     what is used inside Keras
    keras_realmnet.command_line               how a command ends

    keras_realmnet.screening.process_memory   memory of a process that runs a model
    keras_realmnet.screening.upgrade          documents of earlier releases
    keras_realmnet.screening.arrays           archives of arrays that somebody else wrote
    keras_realmnet.screening.image_io         a file becomes pixels
    keras_realmnet.screening.preprocessing    pixels become the input of a model
    keras_realmnet.screening.quality          whether a picture can be judged
    keras_realmnet.tasks                      what a network is asked, and what its answer means
    keras_realmnet.screening.decision         what follows for a picture, an eye, a patient
    keras_realmnet.screening.causes           why nothing was decided, over many pictures
    keras_realmnet.screening.strokes          lines and names on a picture
    keras_realmnet.screening.overlay          where it lies
    keras_realmnet.screening.record           what is known of a picture
    keras_realmnet.screening.engines          what runs a model
    keras_realmnet.screening.bundle           a model and all that belongs to it
    keras_realmnet.screening.runtimes         a bundle's model, opened and checked

    edge_app.identity                         who the patient is
    edge_app.logs
    edge_app.config
    edge_app.contradictions                   where images disagree on that
    edge_app.dicom                            what receiving and sending share
    edge_app.store                            what the box keeps
    edge_app.analysis                         files become records
    edge_app.present                          records become documents
    edge_app.health                           how the box is
    edge_app.inbox                            ways in
    edge_app.outbox                           ways out
    edge_app.web.auth                         who may see the page
    edge_app.web.words                        what its parts share, up to `site`
    edge_app.web.worklist
    edge_app.web.images
    edge_app.web.site
    edge_app.web.pages                        one file for each
    edge_app.web                              their addresses, and the server
    edge_app.processes                        the box, running
    edge_app.__main__

    keras_realmnet.schedules                  learning rates
    keras_realmnet.losses
    keras_realmnet.weights                    weights of others
    keras_realmnet.models                     the networks
    keras_realmnet.deploy                     the same, for engines

    training.memory                           memory that a step frees is kept
    training.phantoms.drawing                 how a synthetic eye is drawn
    training.data                             label lists, splits, files made ready
    training.phantoms                         synthetic patients
    training.scoring                          how good a network is
    training.tasks                            what training knows of each kind of output
    training.datasets                         what a recipe trains on
    training.input                            images become batches
    training.recipe                           what a run is
    training.recipes                          the runs there are
    training.runs                             a run, read again
    training.prediction                       what one says of any pictures
    training.submission                       what several say, as a challenge takes it
    training.scoring.figures                  how good one is after an epoch
    training.scoring.evaluate                 how good that of a run is
    training.scoring.clinic.run_pictures      what the box would decide on a run's pictures
    training.scoring.pooled                   what those of a cross-validation said
    training.scoring.folds                    how good those of a cross-validation are
    training.scoring.vertical_ratio           how well a ratio tells an eye
    training.calibrating                      what stands between what one says and what follows
    training.fitting                          how it becomes so
    training.report.plots                     figures, which know of no run
    training.report                           the page of finished runs
    training.studies                          runs that belong together
    training.benchmarks
    training.commands
    training.__main__

    export.compat                             what is used inside LiteRT
    export.conversion                         a network becomes files of engines
    export.contract                           whether such a file does what the network does
    export.explanations                       whether its class maps can be trusted
    export.speed.images                       what is timed on
    export.speed.board                        what is told of the machine
    export.speed.network_facts                what is counted in a model file
    export.speed.networks                     what is timed beside our own files
    export.speed.contestants                  who takes part
    export.speed.process                      the process of each
    export.speed                              the comparison, its figures, its report
    export.bundling                           files become a bundle
    export.benchmarks
    export.commands
    export.__main__
"""
ROOM_NAMES = [line.split()[0] for line in ROOMS.splitlines() if line.strip()]

# (importing module, line, imported module)
Import = tuple[str, int, str]


def modules() -> dict[str, Path]:
    """Our modules by name."""
    packages = ("keras_realmnet", "training", "export", "edge_app")
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports_between(known: dict[str, Path]) -> list[Import]:
    """Every import of one of our modules by another, wherever in the file it stands.

    What is imported from the package `keras_realmnet` is imported from the module that has it.
    """
    homes = {f"keras_realmnet.{name}": f"keras_realmnet.{home}" for name, home in keras_realmnet._HOMES.items()}
    found = []
    for importing, file in known.items():
        package = importing if file.name == "__init__.py" else importing.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                module = ".".join(filter(None, (above, node.module)))
                named = [homes.get(f"{module}.{alias.name}", f"{module}.{alias.name}") for alias in node.names]
                targets = [name if name in known else module for name in named]
            else:
                continue
            found += [(importing, node.lineno, target) for target in targets if target in known]
    return found


def room_of(module: str, rooms: list[str]) -> str | None:
    return max((room for room in rooms if within(module, (room,))), key=len, default=None)


def wrong_imports(found: list[Import], known: dict[str, Path], rooms: list[str]) -> list[str]:
    """A line for each import that leads to a later room.

    A package's own `__init__` tells what is in it: it may import all of that. Who imports a package whose `__init__`
    imports nothing has imported nothing.
    """
    silent = {module for module, file in known.items() if file.name == "__init__.py"} - {who for who, _, _ in found}
    said = []
    for importing, line, imported_one in found:
        file = known[importing]
        of_package = file.name == "__init__.py" and within(imported_one, (importing,))
        if of_package or imported_one in silent:
            continue
        here, there = room_of(importing, rooms), room_of(imported_one, rooms)
        if here is not None and there is not None and rooms.index(there) > rooms.index(here):
            said.append(
                f"{file.relative_to(ROOT)}:{line} imports {imported_one}: the room {here} comes before the room "
                f"{there}, so nothing in it may know of that"
            )
    return said


def circle(found: list[Import]) -> list[str]:
    """Modules each of which imports the next, the last one the first; empty where there are none."""
    needs: dict[str, set[str]] = {}
    for importing, _, imported_one in found:
        if imported_one != importing:
            needs.setdefault(importing, set()).add(imported_one)
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for other in sorted(needs.get(module, ())):
            if around := search(other, [*path, module]):
                return around
        done.add(module)
        return []

    return next((around for module in sorted(needs) if (around := search(module, []))), [])


def test_every_file_is_in_a_room_and_every_room_has_a_file():
    known = modules()
    files = [module for module, file in known.items() if file.name != "__init__.py"]
    homeless = [str(known[module].relative_to(ROOT)) for module in files if room_of(module, ROOM_NAMES) is None]
    assert homeless == [], f"no room for {', '.join(homeless)}: add one to ROOMS, below all that it imports"
    empty = set(ROOM_NAMES) - {room_of(module, ROOM_NAMES) for module in files}
    assert empty == set(), f"nothing is in {', '.join(empty)}: take it out of ROOMS"


def test_imports_lead_to_earlier_rooms():
    known = modules()
    wrong = wrong_imports(imports_between(known), known, ROOM_NAMES)
    assert wrong == [], "\n".join(["imports that lead the wrong way (see ROOMS):", *wrong])


def test_no_modules_import_each_other_in_a_circle():
    around = circle(imports_between(modules()))
    assert around == [], f"a circle: {' imports '.join([*around, *around[:1]])}"


def test_a_wrong_import_and_a_circle_are_found():
    """In a function and for type checkers only, too; of the package's names, and relative to the file."""
    known = modules()
    text = "def f():\n    from keras_realmnet import RealMNet\n    from .writing import put_back\n"
    home = known["keras_realmnet.screening.bundle.bundle"]
    changed = {**known, "keras_realmnet.screening.bundle.bundle": Text(text, home)}
    found = imports_between(changed)
    (wrong,) = wrong_imports(found, known, ROOM_NAMES)
    assert wrong.startswith(
        "keras_realmnet/screening/bundle/bundle.py:2 imports keras_realmnet.models.realmnet: the room"
    )
    assert circle(found) == ["keras_realmnet.screening.bundle.bundle", "keras_realmnet.screening.bundle.writing"]


class Text:
    """A file with another text."""

    def __init__(self, text: str, file: Path):
        self.text, self.name = text, file.name

    def read_text(self, encoding: str) -> str:
        return self.text
