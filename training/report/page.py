"""The report of one or several runs: `figures/` (SVG, PNG and the numbers as csv) and one page, `report.html`.

The page holds its figures and makes no request; it may be mailed. Scores of labels are computed here from the runs'
tables of predictions, by `training.scoring.statistics.scores`, so that every run is scored alike; those of other
outputs are what `evaluate` found. What a run lacks is said in its place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.console import Console
from rich.progress import Progress

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.label_table import LabelTable, read_label_table
from training.report import tables
from training.report.by_kind.sections import (
    figures_of_outputs,
    learning_curves_of,
    notes_of_outputs,
    tables_of_outputs,
)
from training.report.class_map_section import class_map_figures
from training.report.data_section import data_figures
from training.report.gallery import Gallery, Item
from training.report.plots.learning import CURVES
from training.report.plots.style import Look, looks_of
from training.report.result_section import learning_figure, result_figures
from training.scoring.evaluated_runs import EvaluatedRun, Run, read_runs
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.scores import score_cases

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
        data: another place of the data set, for the images of class maps and of examples.
        cache: of prepared images, as for `fit`.
        replicates: of the bootstrap, of labels.

    Returns:
        The page's path.

    Raises:
        RealMNetError: a run that cannot be read, or runs that answer other questions; DataSetError for a label list.
    """
    runs = read_runs(folders)
    labelled = [run for run in runs if isinstance(run, Run)]
    if labels and not labelled:
        raise RealMNetError("label lists describe the data of networks that answer labels; these answer none")
    lists = _label_lists(labels, labelled[0].cases.label_set) if labelled else {}
    gallery, looks = Gallery(out), looks_of([run.name for run in runs])
    content = _Content()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scores", total=len(labelled) + 3)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=what)

        if labelled:
            _add_labels(content, gallery, labelled, lists, looks, replicates, step)
        if runs[0].others:
            _add_others(content, gallery, runs, looks, data, cache)
            step("figures of the results")
        curves = CURVES if runs[0].task is None or not runs[0].others else learning_curves_of(runs[0].task)
        content.sections["Training"] = [learning_figure(gallery, runs, looks, curves)]
        step("learning curves")
    if labelled:
        content.sections["Where the networks look"] = [
            item for run in labelled for item in class_map_figures(gallery, run, data, cache)
        ]
    page = _template().render(
        title=f"Report: {runs[0].name}" if len(runs) == 1 else f"Report: {len(runs)} runs compared",
        runs=runs,
        looks=looks,
        asked=content.asked,
        label_sets=content.label_sets,
        synthetic=[run.name for run in runs if run.synthetic],
        about=tables.about_the_runs(runs),
        settings=tables.changed_settings(runs),
        scores=content.scores,
        notes=content.notes,
        sections=content.sections,
    )
    path = out / "report.html"
    temporary = path.with_suffix(".part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


@dataclass
class _Content:
    """What the page says of the runs: what they were asked, in words, their scores, notes, and figures by section."""

    asked: list[str] = field(default_factory=list)
    label_sets: list[LabelSet] = field(default_factory=list)
    scores: list[tables.Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sections: dict[str, list[Item]] = field(default_factory=dict)

    def ask(self, what: str, label_set: LabelSet) -> None:
        self.asked.append(f"{what} {', '.join(label_set.codes)} ({label_set.name})")
        self.label_sets.append(label_set)


def _add_labels(
    content: _Content,
    gallery: Gallery,
    runs: Sequence[Run],
    lists: Mapping[str, LabelTable],
    looks: Mapping[str, Look],
    replicates: int,
    step: Callable[[str], None],
) -> None:
    content.ask("labels", runs[0].cases.label_set)
    scores = {}
    for run in runs:
        scores[run.name] = score_cases(run.cases, Bootstrap("patient", replicates))
        step(f"scores of {run.name}")
    differences = tables.differences(runs, replicates)
    content.scores.append(tables.headline_scores(runs, scores, replicates))
    content.scores += [] if differences is None else [differences]
    content.scores.append(tables.class_scores(runs, scores))
    content.notes += tables.notes(runs, scores, replicates)
    step("figures of the data")
    content.sections["Data"] = data_figures(gallery, runs, lists)
    step("figures of the results")
    content.sections["Results"] = result_figures(gallery, runs, scores, looks)


def _add_others(
    content: _Content,
    gallery: Gallery,
    runs: Sequence[EvaluatedRun],
    looks: Mapping[str, Look],
    data: str | None,
    cache: Path,
) -> None:
    if not content.notes:
        content.notes += [note for run in runs for note in tables.missing_files(run)] + tables.other_images(runs)
    for name, output in runs[0].others.items():
        content.ask(name, output.labels)
    content.scores += tables_of_outputs(runs)
    content.notes += notes_of_outputs(runs)
    content.sections.setdefault("Results", []).extend(figures_of_outputs(gallery, runs, looks, data, cache))


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
