"""The inside of libraries is touched in the modules called `compat` alone, where a test watches each part.

Private is a name that begins with one underscore, a module path with one (or Keras' `src`), and what holds an
association of pynetdicom together (INTERNALS). Whose a name is cannot be told from the source; so it is ours where the
same file defines it, or, of `self`, where any file of ours does. That misses a private name of a library that we have
given, too, names that are made while a program runs, and public parts that are replaced.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_app", "export", "keras_realmnet", "training")
TESTS = {
    "edge_app/dicom/compat.py": "tests/edge_app/dicom/test_compat.py",
    "export/compat.py": "tests/export/test_compat.py",
    "keras_realmnet/compat.py": "tests/test_keras_compat.py",
}
BY_NAME = {"getattr", "hasattr", "setattr"}
INTERNALS = {"acse", "dimse", "dul"}  # of pynetdicom's Association
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}  # of os, and of named tuples


def files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def defined(tree: ast.Module) -> set[str]:
    """Names that a file gives to functions, classes, variables and attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            found.add(node.attr)
    return found


def is_own(value: ast.expr) -> bool:
    """Whether it is `self`, `cls` or `super()`."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def foreign_parts(tree: ast.Module, ours: set[str]) -> list[tuple[int, str]]:
    """(line, source) of what looks like a private part of a library; `ours`: names that any file of ours defines."""
    here, found = defined(tree), []
    for node in ast.walk(tree):
        private = False
        match node:
            case ast.Import(names=names):
                private = any(foreign_path(alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                private = any(foreign_path(f"{module}.{alias.name}") for alias in names)
            case ast.Attribute(value=value, attr=name):
                allowed = here | DOCUMENTED | (ours if is_own(value) else set())
                private = name in INTERNALS or (is_private(name) and name not in allowed)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                private = name in INTERNALS or (is_private(name) and name not in here)
        if private:
            found.append((node.lineno, ast.unparse(node)))
    return found


def foreign_path(path: str) -> bool:
    first, *rest = path.split(".")
    return first not in PACKAGES and (is_private(first) or any(is_private(part) or part == "src" for part in rest))


def test_private_parts_of_libraries_are_touched_in_compat_alone():
    ours = {name for file in files() for name in defined(parsed(file))}
    found = {
        f"{file.relative_to(ROOT)}:{line}: {source}"
        for file in files()
        if file.name != "compat.py"
        for line, source in foreign_parts(parsed(file), ours)
    }
    assert found == set(), "move these behind a function of a compat module, with a test of what it relies on"


def test_each_part_of_a_compat_module_is_needed_and_tested():
    assert {str(file.relative_to(ROOT)) for file in files() if file.name == "compat.py"} == set(TESTS)
    for module, test in TESTS.items():
        tree, tested = parsed(ROOT / module), (ROOT / test).read_text(encoding="utf-8")
        assert foreign_parts(tree, set()), f"{module} touches nothing private: it can go"
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name for name in functions if f"compat.{name}(" not in tested} == set(), f"{test} lacks them"


@pytest.mark.parametrize(
    "line",
    [
        "import keras.src.layers",
        "from keras.src import backend",
        "from pynetdicom import _config",
        "from pynetdicom._globals import MODE_ACCEPTOR",
        "import _thread",
        "layers = model._layers",
        "model._layers = []",
        "optimizer._iterations.assign(3)",
        "count = event.assoc.dimse.msg_queue.qsize()",
        "connection = association.dul.socket",
        "getattr(model, '_layers')",
        "setattr(association, 'dul', None)",
        "class Ours(Layer):\n    def call(self):\n        return self._losses",
    ],
)
def test_a_private_part_is_found(line):
    assert len(foreign_parts(ast.parse(line), set())) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from keras_realmnet import __version__",
        "from keras_realmnet.screening.bundle import _digest",
        "import os\nos._exit(3)",
        "row = row._replace(name='x')",
        "for _ in range(3): pass",
        "class Ours:\n    def __init__(self, other):\n        self._name = other._name",
        "class Ours:\n    def call(self):\n        return self._of_a_base",
        "kind = type(x).__name__",
    ],
)
def test_what_is_ours_is_not_taken_for_one(line):
    assert foreign_parts(ast.parse(line), {"_of_a_base"}) == []
