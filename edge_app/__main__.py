"""`python -m edge_app`: the commands of the screening box."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from keras_realmnet.screening.process_memory import start_again

if __name__ == "__main__" and sys.argv[1:2] == ["screen"]:  # before all that takes time to import
    start_again()

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edge_app.analysis.intake import find_images
from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import run as screen_files
from edge_app.config import SHIPPED_BUNDLES, InstalledBundle
from edge_app.present.report import write_report
from edge_app.present.terms import OUTCOME_STYLES, SHOWN_NAMES, local_time
from edge_app.present.visits import worst_first
from keras_realmnet.command_line import ShowVersion, run
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord

if TYPE_CHECKING:
    from edge_app.store.backup import Manifest
    from edge_app.store.store import Store

__all__ = ["app", "main"]

LISTED = 40  # results shown in the terminal; the report shows all

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Engine(str, Enum):
    local = "local"
    ray = "ray"


@app.callback()
def commands(version: ShowVersion = False) -> None:
    """Screens fundus images for pathologic myopia on this machine: no network, no TensorFlow.

    Research use only, not for clinical use.
    """


@app.command()
def screen(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Image files, folders (with their subfolders), quoted globs.")
    ],
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with a model and all that belongs to it; may be given again. Default: all shipped."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for records, overlays and report.")] = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout, one record per line.")] = False,
    artifact: Annotated[
        str | None, typer.Option(help="Which model file of the bundle; with one --bundle. Default: its own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to compute on; default: all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Screen again what already has a record.")] = False,
    regions: Annotated[
        bool, typer.Option("--regions", help="Draw the eight regions around disc and fovea where both were found.")
    ] = False,
    engine: Annotated[Engine, typer.Option(help="Screen here, or on a Ray cluster.")] = Engine.local,
    workers: Annotated[int, typer.Option(min=1, help="With --engine ray: processes that screen.")] = 2,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster (auto); default: this machine.")] = None,
) -> int:
    """Screen images: JPEG, PNG, TIFF, BMP and DICOM, told apart by content.

    Each image becomes refer, uncertain (a person must look, as at a referral), negative, insufficient (quality) or not
    analysed, with its reason, or described where a bundle decides on nothing; an image without a result is never shown
    as negative. An image that already has a record of the same contents and model is not screened again.

    With several bundles an image goes to each that is for its kind of picture, and has a result of each. One that is of
    no bundle's kind has one record, which says so. A bundle that fails its self-check is named, its results are shown
    as missing, and the others go on.

    **Writes** to the folder given by --out:

    - records.jsonl: one JSON record per picture and bundle, appended as it goes

    - overlays/: each image beside its class map

    - report.html: everything on one page, worst first, to read or to print

    **Exit status**: 0 every image was analysed; 1 at least one was not (insufficient, not analysed, broken), or one of
    several bundles fails its self-check; 2 wrong usage, or a bundle that is refused, or none that works.

    **Examples**

    - python -m edge_app screen samples

    - python -m edge_app screen "export/*.dcm" left.jpg --out today

    - python -m edge_app screen samples --json | jq .outcome

    - python -m edge_app screen photographs --bundle bundles/mine --bundle bundles/other

    - python -m edge_app screen photographs --bundle bundles/fundus-structures --regions --overwrite

    - python -m edge_app screen /archive --engine ray --workers 8 --address auto --out /archive-results
    """
    intake = find_images(paths, out)
    bundles = bundle or SHIPPED_BUNDLES
    if artifact is not None and len(bundles) > 1:
        folders = ", ".join(map(str, bundles))
        raise RealMNetError(
            f"--artifact names a model file of one bundle, give one --bundle with it. Bundles: {folders}"
        )
    installed = [InstalledBundle(path=each.absolute(), artifact=artifact) for each in bundles]
    models = Models.open(installed, threads, regions)
    errors = Console(stderr=True)
    for name, reason in models.out_of_order.items():
        line = f"the bundle {name} is out of order, its results are missing: {' '.join(reason.split())}"
        print(f"edge_app: {line}", file=sys.stderr)
    with Results(out, models.described) as results:
        if engine is Engine.ray:
            from edge_app.analysis.archive import screen_archive

            records = screen_archive(
                models, intake.files, results, overwrite, workers=workers, threads=threads or 1, address=address
            )
        else:
            records = screen_files(models, intake.files, results, overwrite)
        screened = _follow(records, len(intake.files), errors, json)
        report = out / "report.html"
        write_report(
            report,
            results.records,
            models.described,
            results.overlays,
            skipped=intake.skipped,
            others=results.others,
            out_of_order=models.out_of_order,
        )
    output = errors if json else Console(width=None if sys.stdout.isatty() else 120)
    several = len(models.names) > 1
    if not json:
        _print_table(output, screened, several)
    _print_counts(output, screened, len(intake.skipped), report, several)
    return 0 if all(record.analysed for record in screened) and not models.out_of_order else 1


def _follow(records: Iterator[list[ScreeningRecord]], files: int, errors: Console, json: bool) -> list[ScreeningRecord]:
    """All records of the files, whose progress is shown; with `json` each is printed as it comes."""
    screened: list[ScreeningRecord] = []
    with _progress(errors) as progress:
        for of_file in progress.track(records, files, description="Screening"):
            screened += of_file
            if json:
                print("\n".join(record.to_json() for record in of_file), flush=True)
    return screened


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", exists=True, dir_okay=False, help="TOML file; edge_app/deploy/box.toml shows all of it."),
]


@app.command()
def serve(config: ConfigFile = None) -> int:
    """Run the box: receive images by DICOM and from folders, screen them, deliver the results, show a web page.

    Settings come from the environment (REALMNET_BOX__SECTION__KEY), then from the file, then from defaults. SIGTERM
    finishes the image at hand and stops; whatever else happens, every image that was acknowledged is screened once.

    **Exit status**: 0 stopped as told; 2 a setting, the bundle or the data is refused.

    **Examples**

    - python -m edge_app serve --config box.toml

    - REALMNET_BOX__DATA_DIR=/var/lib/realmnet python -m edge_app serve
    """
    from edge_app.config import load_config
    from edge_app.processes.serve import serve as run_box

    return run_box(load_config(config))


@app.command()
def status(
    config: ConfigFile = None,
    patients: Annotated[bool, typer.Option("--patients", help="Also show patient numbers.")] = False,
) -> int:
    """Show what a box is doing: queue, last results, outbox, disk, and what is wrong.

    **Exit status**: 0 healthy; 1 something is wrong; 2 a setting is refused, or no box has run there.
    """
    from edge_app.config import load_config
    from edge_app.health import status as box_status

    return box_status.show(load_config(config), Console(width=None if sys.stdout.isatty() else 120), patients)


@app.command()
def rescreen(
    bundle: Annotated[str, typer.Option(help="Name of a bundle of the settings.")],
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only what was received on that day or later.")
    ] = None,
    config: ConfigFile = None,
) -> int:
    """Bring what was screened before a bundle was added to it. The box may go on running, or screens it when it starts.

    A bundle that is added to the settings takes by itself only what is not screened yet. Pictures that are not of its
    kind are left as they are. Until the bundle has answered, the eyes of older visits show that a result is missing.

    **Exit status**: 0 done; 2 there is no such bundle, or no box has run there.

    **Examples**

    - python -m edge_app rescreen --bundle fundus --config box.toml

    - python -m edge_app rescreen --bundle fundus --since 2026-01-01 --config box.toml
    """
    from edge_app.analysis.models import described
    from edge_app.config import load_config
    from edge_app.store.database import timestamp
    from edge_app.store.store import Store

    settings = load_config(config)
    names = [each.name for each in described(settings.installed)]
    if bundle not in names:
        raise RealMNetError(f"--bundle must be one of {', '.join(names)}. Received: {bundle!r}")
    if not (settings.data_dir / "box.sqlite").is_file():
        raise RealMNetError(f"{settings.data_dir}: no box has run here yet")
    begin = "" if since is None else timestamp(since.astimezone())
    pictures = Store(settings.data_dir, names).rescreen(bundle, begin, "command")
    print(f"{pictures:,} picture{'' if pictures == 1 else 's'} will be looked at by {bundle}")
    return 0


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="Folder to make, on another disk; must not exist.")],
    config: ConfigFile = None,
) -> int:
    """Back up all that a box keeps: data base, received images, results. The box may go on running.

    The folder is there only once it is whole: an interrupted backup leaves none. It is as confidential as the box:
    everything about patients is in it. Settings, keys and the model are not.

    **Exit status**: 0 done; 1 done, but files were missing or damaged at the box itself, which are named; 2 refused.
    """
    from edge_app.config import load_config
    from edge_app.store import backup as box_backup

    os.umask(0o077)
    with _progress(Console(stderr=True)) as progress:
        manifest = box_backup.back_up(load_config(config).data_dir, out, _bytes_on(progress, "Backing up"))
    _print_backup(out, manifest)
    return 1 if manifest.missing else 0


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that the command backup made.")],
    config: ConfigFile = None,
    check: Annotated[bool, typer.Option("--check", help="Only read the backup and compare it with itself.")] = False,
) -> int:
    """Put a backup into the empty data_dir of the settings, where no box runs.

    Every file is compared with its SHA-256. A box that is started there goes on from the state of the backup: what
    waited is screened and delivered, what was done is not done again.

    **Exit status**: 0 done; 1 done, but files were missing at the box when the backup was made; 2 refused.
    """
    from edge_app.config import load_config
    from edge_app.store import backup as box_backup

    os.umask(0o077)
    with _progress(Console(stderr=True)) as progress:
        if check:
            manifest = box_backup.verify(backup, _bytes_on(progress, "Reading"))
        else:
            manifest = box_backup.restore(backup, load_config(config).data_dir, _bytes_on(progress, "Restoring"))
    _print_backup(backup, manifest)
    return 1 if manifest.missing else 0


def _bytes_on(progress: Progress, description: str) -> Callable[[int, int], None]:
    task = progress.add_task(description)
    return lambda done, total: progress.update(task, completed=done >> 20, total=max(1, total >> 20))  # MB


def _print_backup(folder: Path, manifest: "Manifest") -> None:
    counts = manifest.counts
    images = sum(number for name, number in counts.items() if name.startswith("items "))
    waiting = counts.get("items pending", 0) + counts.get("items screening", 0)
    print(
        f"{folder}: {len(manifest.files):,} files, {manifest.bytes >> 20:,} MB; {images:,} images ({waiting:,} not "
        f"screened yet), {counts['records']:,} results, {counts.get('deliveries pending', 0):,} waiting to be sent; "
        f"made {local_time(manifest.made_at)} by version {manifest.software}, schema {manifest.schema}"
    )
    for path in manifest.missing:
        print(f"missing or damaged at the box: {path}", file=sys.stderr)


user = typer.Typer(help="People who may log in to the web page: add, list, remove, set a password.")
app.add_typer(user, name="user")
UserName = Annotated[str, typer.Argument(metavar="NAME")]


@user.command("add")
def user_add(
    name: UserName,
    role: Annotated[str, typer.Option(help="operator, clinician or admin; docs/web.md tells who may do what.")],
    config: ConfigFile = None,
) -> None:
    """Let somebody log in; asks for a password of at least 12 characters."""
    from edge_app.web import auth as web_auth

    web_auth.add_user(_store(config), name, role, _ask_password())


@user.command("password")
def user_password(name: UserName, config: ConfigFile = None) -> None:
    """Set a new password; ends the person's sessions."""
    from edge_app.web import auth as web_auth

    web_auth.set_password(_store(config), name, _ask_password())


@user.command("remove")
def user_remove(name: UserName, config: ConfigFile = None) -> None:
    """Let somebody no longer log in, at once; what they did stays in the audit trail."""
    from edge_app.web import auth as web_auth

    web_auth.remove_user(_store(config), name)


@user.command("list")
def user_list(config: ConfigFile = None) -> None:
    """Show who may log in."""
    from edge_app.web import auth as web_auth

    for person in web_auth.users(_store(config)):
        print(f"{person.name}\t{person.role}")


def _store(config: Path | None) -> "Store":
    from edge_app.config import load_config
    from edge_app.store.store import Store

    return Store(load_config(config).data_dir)


def _ask_password() -> str:
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print_table(console: Console, records: Sequence[ScreeningRecord], several: bool) -> None:
    """`several`: bundles; the table tells of which one each result is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Result", *(["Bundle"] if several else []), "File", "Eye", "Why"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "Result")
    for record in worst_first(records)[:LISTED]:
        table.add_row(
            Text(SHOWN_NAMES[record.shown], OUTCOME_STYLES[record.outcome]),
            *([Text(record.bundle_name)] if several else []),
            Text(record.title),
            record.eye or "?",
            Text("\n".join((*record.reasons, *record.warnings))),
        )
    if records:
        console.print(table)
    if len(records) > LISTED:
        console.print(f"… and {len(records) - LISTED} more in the report")


def _print_counts(
    console: Console, records: Sequence[ScreeningRecord], skipped: int, report: Path, several: bool
) -> None:
    counts = Counter(record.shown for record in records)
    told = [
        shown for shown in SHOWN_NAMES if counts[shown] or shown not in ("uncertain", "described", "missing")
    ]  # these are rare
    parts = [f"{counts[shown]} {SHOWN_NAMES[shown].lower()}" for shown in told]
    images = len({(record.folder, record.file, record.frame) for record in records})
    total = f"{images} image{'s' * (images != 1)}"
    total += f", {len(records)} result{'s' * (len(records) != 1)}" if several else ""
    note = f"; {skipped} other file{'s' * (skipped != 1)} skipped" if skipped else ""
    console.print(f"\n{total}: {', '.join(parts)}{note}", highlight=False, soft_wrap=True)
    console.print("Research use only, not for clinical use.", highlight=False)
    console.print(Text(f"Report: {report}"), soft_wrap=True)


def main(args: list[str] | None = None) -> int:
    try:
        return run(app, "edge_app", args)
    except BrokenPipeError:  # whoever read stdout has left (`--json | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
