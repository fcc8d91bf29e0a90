"""What the commands share: errors in one line, exit codes, and the `realmnet` command itself."""

import runpy
import sys
from typing import Annotated

import typer

from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError

__all__ = ["ShowVersion", "main", "run"]

PARTS = {
    "edge_app": "screen images on the box: files, folders, DICOM in; decisions and a report out",
    "training": "make phantoms, fit and evaluate networks (full environment)",
    "export": "turn trained weights into a deployable bundle and verify it (full environment)",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
SHORTCUTS = {"screen": ("edge_app", "screen")}
SOFTWARE = f"keras-realmnet {__version__}"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(SOFTWARE)
        raise typer.Exit


# The option of every part's callback; what the callback is handed is always False.
ShowVersion = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Tell the version and exit.")
]


def run(app: typer.Typer, prog: str, args: list[str] | None = None) -> int:
    """Runs a typer application and gives its exit status.

    A usage error, a `RealMNetError` or a package that is not installed becomes the one line `prog: error: …` on stderr
    and status 2; an interrupt gives 130. Anything else is a bug and keeps its traceback.

    Args:
        app: the commands.
        prog: the name shown in help and errors.
        args: the arguments; those of the process where `None`.
    """
    command = typer.main.get_command(app)
    try:
        status = command.main(args=args, prog_name=prog, standalone_mode=False)
    except RealMNetError as error:
        return _fail(prog, str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except typer.Exit as error:  # typer itself makes one of an interrupt
        status = error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in (*PARTS, "keras_realmnet"):
            raise
        needed = "pip install -r requirements.txt, or an extra of pyproject.toml"
        return _fail(prog, f"the package {package} is missing: this needs {needed}")
    except Exception as error:
        # typer's usage errors carry the exit code 2 and know how to say themselves in one line.
        if hasattr(error, "format_message"):
            return _fail(prog, f"{error.format_message()} (try --help)")
        raise
    if status == INTERRUPTED:
        print(f"{prog}: interrupted", file=sys.stderr)
    return status if isinstance(status, int) else 0


def _fail(prog: str, message: str) -> int:
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def main() -> None:
    """`realmnet PART …`: the same as `python -m PART …`, with `realmnet screen` for the most wanted one."""
    args = sys.argv[1:]
    if not args or args[0] in ("-h", "--help"):
        print("Usage: realmnet PART [ARGUMENTS]…\n\nScreening of pathologic myopia in ultra-widefield fundus images.")
        print("Research software: not for clinical use.\n")
        print("  screen       short for: edge_app screen")
        for part, purpose in PARTS.items():
            print(f"  {part:<12} {purpose}")
        print("\nrealmnet PART --help tells more.")
        sys.exit(0)
    if args[0] == "--version":
        print(SOFTWARE)
        sys.exit(0)
    part, *before = SHORTCUTS.get(args[0], (args[0],))
    if part not in PARTS:
        sys.exit(_fail("realmnet", f"there is no part {args[0]!r}: expected screen, {', '.join(PARTS)}"))
    sys.argv = [f"realmnet {part}", *before, *args[1:]]
    runpy.run_module(part, run_name="__main__", alter_sys=True)
