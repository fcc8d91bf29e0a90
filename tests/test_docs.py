"""What README and docs name exists: links, files and folders, commands with their options, recipes, tests, functions.

Commands are parsed by the application they belong to, as far as no file is needed; nothing is run.
"""

import ast
import functools
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_app", "export", "keras_realmnet", "training")
MADE_BY_READERS = ("bundles/mine",)  # paths of examples that look like the project's
BY_NAME_ONLY = {"arm64.py", "drift.py"}  # proofs that `make soak` leaves out, as docs/proofs.md says

DOCUMENTS = sorted(
    file
    for file in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("samples/*.md"), *ROOT.glob("tests/**/*.md"))
    if "pytest_cache" not in str(file)
)
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def fenced(text: str, *languages: str) -> list[str]:
    return [body for _, language, body in FENCE.findall(text) if language in languages]


def inline(text: str) -> Iterator[str]:
    """What stands in backticks; it may go on in the next line."""
    for paragraph in FENCE.sub("", text).split("\n\n"):
        yield from (" ".join(code.split()) for code in CODE.findall(paragraph))


@functools.cache
def files_of_the_project() -> tuple[str, ...]:
    """All files but those that git ignores, relative to the root; without git, all that lie there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    found = listed or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in str(path)]
    return tuple(name for name in found if (ROOT / name).is_file())


# ---- links ----


def broken_links(document: Path) -> list[str]:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_document
def test_links_lead_somewhere(document):
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "page.md").write_text(
        "# A page\n[here](#a-page), [there](no.md), ![picture](no.png)\n[anchor](#nothing), [web](https://x.example)\n"
    )
    assert broken_links(tmp_path / "page.md") == ["no.md", "no.png", "#nothing"]


# ---- files and folders ----


def missing_paths(text: str) -> list[str]:
    """Names in backticks, and arguments in shell blocks, that look like paths of the project and lead nowhere."""
    arguments = [word for line in shell_lines(text) for word in line]
    return sorted(
        name for name in {*inline(text), *arguments} if not name.startswith(MADE_BY_READERS) and not exists(name)
    )


def exists(name: str) -> bool:
    """Whether there is such a path; true of what does not look like one of the project."""
    if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*/?", name):
        return True
    first, _, rest = name.partition("/")
    if rest and (ROOT / first).is_dir() and first not in (".venv", ".venv-edge", "data", "runs", "reports", "results"):
        return (ROOT / name).exists()
    if name.endswith(".py"):  # a module of the part that a page is about
        return any(f"/{file}".endswith(f"/{name}") for file in files_of_the_project())
    return True


@every_document
def test_paths_exist(document):
    assert missing_paths(document.read_text(encoding="utf-8")) == []


def test_a_missing_path_is_found():
    text = (
        "`edge_app/nothing.py`, `no_such.py`, `samples/`, `serve.py`, `a word`\n```sh\npython tests/proofs/no.py\n```"
    )
    assert missing_paths(text) == ["edge_app/nothing.py", "no_such.py", "tests/proofs/no.py"]


@pytest.mark.parametrize("package", ["edge_app", "keras_realmnet/screening", "keras_realmnet/tasks"])
def test_the_page_about_the_box_names_every_module(package):
    named = set(inline((ROOT / "docs" / "box.md").read_text(encoding="utf-8")))
    modules = {file.name for file in (ROOT / package).rglob("*.py") if not file.name.startswith("__")}
    assert {name for name in modules if not any(fnmatch(name, pattern) for pattern in named)} == set()


# ---- commands ----


def shell_lines(text: str) -> list[list[str]]:
    """The commands of shell blocks, each as its words: continued lines joined, comments and joints left out."""
    return [words for body in fenced(text, "sh", "") for words in commands_of(body)]


def commands_of(body: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in re.sub(r"\\\n", " ", body).splitlines():
        try:
            lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "X", line), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:  # no shell: a drawing, or output
            continue
        found.append([])
        for word in words:
            if re.fullmatch(r"[;&|()<>]+", word):
                found.append([])
            else:
                found[-1].append(word)
    return [words for words in found if words]


def invocation(words: list[str]) -> tuple[str, list[str]] | None:
    """(module of ours, its arguments) of `… python -m MODULE …`, or None."""
    for at, word in enumerate(words[:-2] if len(words) > 2 else []):
        if re.fullmatch(r"(.*/)?python3?", word) and words[at + 1] == "-m":
            module = words[at + 2]
            return (module, words[at + 3 :]) if module.partition(".")[0] in PACKAGES else None
    return None


@functools.cache
def application(module: str):
    """What `python -m module` parses its arguments with."""
    if (ROOT / module.replace(".", "/")).is_dir():
        module += ".__main__"
    found = importlib.import_module(module)
    if hasattr(found, "app"):
        return typer.main.get_command(found.app)
    app = typer.Typer(add_completion=False)  # as typer.run does
    app.command()(found.main)
    return typer.main.get_command(app)


def complaint(module: str, arguments: list[str], whole: bool) -> str | None:
    """Why the command would be refused, or None. Required arguments and values are asked of whole commands only."""
    try:
        command = application(module)
    except ImportError as error:
        return f"{module}: {error}"
    words, name = list(arguments), module
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-") or words[0] == "…":
            return None if not whole or words in (["--help"], ["--version"]) else f"{name}: no command"
        if words[0] not in command.commands:
            return f"{name}: no command {words[0]!r}"
        name = f"{name} {words[0]}"
        command = command.commands[words.pop(0)]
    if not whole and words and words[-1].startswith("-"):
        words.append("VALUE")
    context = command.context_class(command, info_name=name)
    try:
        given, _, _ = command.make_parser(context).parse_args(args=words)
    except Exception as error:  # typer's own usage errors
        if not hasattr(error, "format_message"):
            raise
        return f"{name}: {error.format_message()}"
    if "recipe" in given:
        recipes = given["recipe"] if isinstance(given["recipe"], list) else [given["recipe"]]
        for recipe in recipes:
            if not recipe.isupper() and not any((ROOT / "training" / "recipes").rglob(f"{recipe}.py")):
                return f"{name}: no recipe {recipe!r}"
    if whole:
        for parameter in command.get_params(context):
            value = given.get(parameter.name)
            if parameter.required and not value:
                return f"{name}: {parameter.name} is missing"
            checkable = parameter.name in given and "$" not in str(value)
            if checkable and "Path" not in str(parameter.type_descriptor.annotation):  # files need not be there
                try:
                    parameter.process_value(context, value)
                except Exception as error:
                    if not hasattr(error, "format_message"):
                        raise
                    return f"{name}: {error.format_message()}"
    return None


def refused_commands(text: str) -> list[str]:
    found = [(invocation(words), True) for words in shell_lines(text)]
    for code in inline(text):
        words = code.split()
        found.append((invocation(words), False))
        if words[0] in ("edge_app", "training", "export") and len(words) > 1:  # in prose the beginning is left out
            found.append(((words[0], words[1:]), False))
    return [reason for command, whole in found if command and (reason := complaint(*command, whole))]


@every_document
def test_commands_exist_with_their_options(document):
    assert refused_commands(document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("python -m edge_app scren samples", "edge_app: no command 'scren'"),
        ("a=1 .venv/bin/python -m edge_app screen samples --fast && true", "No such option: --fast"),
        ("python -m edge_app screen  # nothing to screen", "edge_app screen: paths is missing"),
        ("python -m edge_app screen samples \\\n  --threads many", "Invalid value for '--threads'"),
        ("sudo -u x python -m edge_app user ad eva", "edge_app user: no command 'ad'"),
        ("python -m training fit --recipe nobodys", "training fit: no recipe 'nobodys'"),
        ("python -m export.benchmarks.nothing", "No module named 'export.benchmarks.nothing'"),
    ],
)
def test_a_wrong_command_is_found(line, reason):
    (found,) = refused_commands(f"```sh\n{line}\n```")
    assert reason in found


@pytest.mark.parametrize("code", ["`python -m export verfy`", "`export verify --imges A`", "`training\nno`"])
def test_a_wrong_command_in_prose_is_found(code):
    assert len(refused_commands(code)) == 1


# ---- proofs and make ----


def options_of(program: Path) -> set[str]:
    """The options of a program that uses argparse, read from its source: importing all proofs would take long."""
    calls = [node for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    return {arg.value for call in added for arg in call.args if isinstance(arg, ast.Constant)}


def proofs() -> dict[str, Path]:
    """The programs, by their file's name."""
    files = (ROOT / "tests" / "proofs").rglob("*.py")
    return {file.name: file for file in files if "ArgumentParser" in file.read_text("utf-8")}


def test_proofs_are_listed_with_options_that_they_have():
    rows = re.findall(r"^\| `(\w+\.py)` \|(.*)$", (ROOT / "docs" / "proofs.md").read_text("utf-8"), re.MULTILINE)
    assert {name for name, _ in rows} == proofs().keys() - BY_NAME_ONLY
    for name, row in rows:
        for option in re.findall(r"--[\w-]+", row):
            assert option in options_of(proofs()[name]), f"{name} {option}"


def test_commands_of_proofs_have_their_options():
    lines = [words for file in DOCUMENTS for words in shell_lines(file.read_text("utf-8"))]
    lines += commands_of((ROOT / "Makefile").read_text("utf-8"))
    seen = 0
    for words in lines:
        for at, word in enumerate(words):
            if re.fullmatch(r"tests\.proofs\.[\w.]+", word):
                seen += 1
                program = ROOT / f"{word.replace('.', '/')}.py"
                unknown = {w for w in words[at + 1 :] if w.startswith("--")} - options_of(program)
                assert not unknown, f"{word}: {unknown}"
    assert seen > len(proofs())


def test_make_soak_runs_every_proof():
    recipe = re.search(r"^soak:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert recipe is not None
    assert {f"{name.rpartition('.')[2]}.py" for name in re.findall(r"-m (tests\.proofs\.[\w.]+)", recipe[1])} == (
        proofs().keys() - BY_NAME_ONLY
    )


@every_document
def test_targets_of_make_exist(document):
    text = document.read_text(encoding="utf-8")
    known = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    commands = [words for body in (*inline(text), *fenced(text, "sh", "")) for words in commands_of(body)]
    for command, *words in commands:
        if command == "make":
            assert {word for word in words if "=" not in word} <= known, words


# ---- names in the code ----


def names_in(module: Path) -> set[str]:
    """What a module defines or imports, and the methods of its classes."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def unknown_names(text: str) -> list[str]:
    """Names like `export.conversion.to_onnx.to_onnx` or `keras_realmnet.RealMNet` that no module of the project has."""
    code = " ".join((*inline(text), *fenced(text, "python")))
    unknown = []
    for name in re.findall(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+", code):
        place, parts = ROOT, name.split(".")
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        if parts and (place / f"{parts[0]}.py").is_file():
            module = place / f"{parts.pop(0)}.py"
        else:
            module = place / "__init__.py"
        if parts and parts[0] not in names_in(module):
            unknown.append(name)
    return unknown


@every_document
def test_functions_and_classes_exist(document):
    assert unknown_names(document.read_text(encoding="utf-8")) == []


def test_an_unknown_name_is_found():
    text = (
        "`export.contract.verify.nothing(x)`, `export.contract.verify.verify`, `keras_realmnet.Nobody`, `edge_app/x.py`"
    )
    assert unknown_names(text) == ["export.contract.verify.nothing", "keras_realmnet.Nobody"]


@every_document
def test_tests_exist(document):
    named = {code for code in inline(document.read_text(encoding="utf-8")) if re.fullmatch(r"test_\w+", code)}
    if named:
        assert named <= all_tests()


@functools.cache
def all_tests() -> set[str]:
    return {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }
