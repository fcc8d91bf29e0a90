import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from keras_realmnet import __version__
from keras_realmnet.command_line import run
from keras_realmnet.screening.image_io import UnreadableImage

app = typer.Typer()


@app.command()
def read(path: Annotated[str, typer.Argument()], count: int = 1) -> int:
    """Read a file."""
    if path == "broken":
        raise UnreadableImage("broken: no image\n  at all")
    if path == "bug":
        raise ZeroDivisionError
    if path == "light":
        raise ModuleNotFoundError("No module named 'keras'", name="keras.ops")
    if path == "stop":
        raise KeyboardInterrupt
    if path == "exit":
        raise typer.Exit(3)
    return count - 1


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["fine"], 0, ""),
        (["fine", "--count", "2"], 1, ""),
        (["exit"], 3, ""),
        (["broken"], 2, "prog: error: broken: no image at all\n"),
        (
            ["light"],
            2,
            "prog: error: the package keras is missing: this needs pip install -r requirements.txt, or an extra of "
            "pyproject.toml\n",
        ),
        (["stop"], 130, "prog: interrupted\n"),
    ],
)
def test_status_and_message(capsys, args, status, message):
    assert run(app, "prog", args) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("args", [["fine", "--unknown"], [], ["fine", "--count", "many"]])
def test_a_usage_error_is_one_line(capsys, args):
    assert run(app, "prog", args) == 2
    error = capsys.readouterr().err
    assert error.startswith("prog: error: ")
    assert error.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(app, "prog", ["bug"])


@pytest.mark.parametrize("part", ["edge_app", "training", "export"])
@pytest.mark.parametrize("args", [["--help"], ["--nonsense"]])
def test_every_part_teaches_and_refuses(part, args):
    done = subprocess.run(
        [sys.executable, "-m", part, *args], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    if args == ["--help"]:
        assert done.returncode == 0
        assert "Usage" in done.stdout
    else:
        assert done.returncode == 2
        assert f"{part}: error: " in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "module", ["edge_app.__main__", "training.__main__", "export.__main__", "keras_realmnet.command_line"]
)
def test_every_command_tells_the_one_version(module):
    code = f"import sys; from {module} import main; sys.argv[1:] = ['--version']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert (done.returncode, done.stdout) == (0, f"keras-realmnet {__version__}\n"), done.stderr


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [(["--help"], 0, "not for clinical use"), (["screen", "--help"], 0, "Usage"), (["nothing"], 2, "there is no part")],
)
def test_the_realmnet_command(args, status, text):
    code = f"import sys; sys.argv = ['realmnet', *{args!r}]; from keras_realmnet.command_line import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
