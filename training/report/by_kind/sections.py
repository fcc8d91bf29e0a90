"""The parts of the page about the outputs that are no labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_realmnet.tasks.guidance import is_marked
from keras_realmnet.tasks.outputs import Grades, Masks, Points
from keras_realmnet.tasks.task import Task
from training.report.by_kind.grades import confusion_figure
from training.report.by_kind.masks import curves_figure, examples_figure
from training.report.by_kind.points import distances_figure
from training.report.by_kind.scores import SCORE_NAMES, form_of, score_tables
from training.report.gallery import Gallery, Item
from training.report.plots.style import Look
from training.report.tables import Table
from training.scoring.evaluated_runs import EvaluatedRun
from training.tasks.figures import VALIDATION_LOSS, figure_column
from training.tasks.kinds import kind_of

__all__ = ["figures_of_outputs", "learning_curves_of", "notes_of_outputs", "tables_of_outputs"]


def tables_of_outputs(runs: Sequence[EvaluatedRun]) -> list[Table]:
    """The scores of each output."""
    return [table for name, output in runs[0].others.items() for table in score_tables(runs, name, output)]


def figures_of_outputs(
    gallery: Gallery, runs: Sequence[EvaluatedRun], looks: Mapping[str, Look], data: str | None, cache: Path
) -> list[Item]:
    """The figures of each output; see `page.write_report` for `data` and `cache`."""
    items = []
    for name, output in runs[0].others.items():
        if is_marked(output):
            continue  # what the network's map does in them is shown where the networks look
        if isinstance(output, Grades):
            items.append(confusion_figure(gallery, runs, name, output))
        elif isinstance(output, Masks):
            items.append(curves_figure(gallery, runs, name, output, looks))
            own = [(run, run.others[name]) for run in runs]  # each finds by its own thresholds
            items += [
                examples_figure(gallery, run, name, each, data, cache) for run, each in own if isinstance(each, Masks)
            ]
        elif isinstance(output, Points):
            items.append(distances_figure(gallery, runs, name, output, looks))
    return items


def notes_of_outputs(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Of which labels nothing is known in test images, a sentence for each run and output."""
    notes = []
    for run in runs:
        for name, output in run.others.items():
            counts = run.scored["outputs"][name]["counts"]
            if isinstance(output, Grades):
                unknown = {"the grade": len(run.names) - counts["known"]}
            else:
                unknown = {code: counts[code]["unknown"] for code in output.labels.codes}
            told = [f"{code} in {number:,}" for code, number in unknown.items() if number]
            if told:
                notes.append(f"{run.name}, {name}: not known of the {len(run.names):,} test images: {', '.join(told)}.")
    return notes


def learning_curves_of(task: Task) -> dict[str, str]:
    """{column of history.csv: title} of what is shown of the training of such a network."""
    curves = {"loss": "training loss", VALIDATION_LOSS: "validation loss"}
    for name, output in task.trained.items():
        for figure in kind_of(output).figures:
            title = SCORE_NAMES.get(form_of(output), {}).get(figure, figure.replace("_", " ")).removesuffix(" ↓")
            of_output = f" of {name}" if len(task.trained) > 1 else ""
            curves[figure_column(task, name, figure)] = f"validation: {title}{of_output}"
    return {**curves, "learning_rate": "learning rate"}
