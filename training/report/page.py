"""The report of one or several runs: `figures/` (SVG, PNG and the numbers as csv) and one page, `report.html`.

The page holds its figures and makes no request; it may be mailed. All scores are computed here from the runs' tables of
predictions, by `training.scoring.scores`, so that every run is scored alike. What a run lacks is said in its place.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.console import Console
from rich.progress import Progress

from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.label_table import LabelTable, read_label_table
from training.report import tables
from training.report.class_map_section import class_map_figures
from training.report.data_section import data_figures
from training.report.evaluated_runs import read_runs
from training.report.gallery import Gallery
from training.report.plots.style import looks_of
from training.report.result_section import learning_figure, result_figures
from training.scoring.bootstrap import Bootstrap
from training.scoring.scores import score_cases

__all__ = ["write_report"]


def write_report(
    folders: Sequence[Path],
    out: Path,
    labels: Sequence[Path] = (),
    data: str | None = None,
    cache: Path = Path("data/cache"),
    replicates: int = 1000,
) -> Path:
    """Writes the report of the runs in `folders` into `out`, where all of it is made anew.

    Args:
        labels: label lists of the data (train, validation, test, …), to describe it; without them the figures about
            the data describe the test images.
        data: another place of the data set, for the images of the class maps.
        cache: of prepared images, as for `fit`.
        replicates: of the bootstrap.

    Returns:
        The page's path.

    Raises:
        RealMNetError: a run that cannot be read, or runs with different labels; DataSetError for a label list.
    """
    runs = read_runs(folders)
    lists = _label_lists(labels, runs[0].cases.label_set)
    gallery = Gallery(out)
    looks = looks_of([run.name for run in runs])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scores", total=len(runs) + 3)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=what)

        scores = {}
        for run in runs:
            scores[run.name] = score_cases(run.cases, Bootstrap("patient", replicates))
            step(f"scores of {run.name}")
        differences = tables.differences(runs, replicates)
        step("figures of the data")
        sections = {"Data": data_figures(gallery, runs, lists)}
        step("figures of the results")
        sections["Results"] = result_figures(gallery, runs, scores, looks)
        step("learning curves")
        sections["Training"] = [learning_figure(gallery, runs, looks)]
    sections["Where the networks look"] = [
        item for run in runs for item in class_map_figures(gallery, run, data, cache)
    ]
    page = _template().render(
        title=f"Report: {runs[0].name}" if len(runs) == 1 else f"Report: {len(runs)} runs compared",
        runs=runs,
        looks=looks,
        label_set=runs[0].cases.label_set,
        synthetic=[run.name for run in runs if run.synthetic],
        about=tables.about_the_runs(runs),
        settings=tables.changed_settings(runs),
        headline=tables.headline_scores(runs, scores, replicates),
        classwise=tables.class_scores(runs, scores),
        differences=differences,
        notes=tables.notes(runs, scores, replicates),
        sections=sections,
    )
    path = out / "report.html"
    temporary = path.with_suffix(".part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _label_lists(paths: Sequence[Path], label_set: LabelSet) -> dict[str, LabelTable]:
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in paths]
    return {name: read_label_table(path, label_set) for name, path in zip(names, paths, strict=True)}
