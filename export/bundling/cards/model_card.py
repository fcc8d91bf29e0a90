"""The model card of a bundle: what it says of itself, and the figures of a clinic that are kept beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from export.bundling.cards.sbom import SBOM_FILE
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.quality import MODALITY_NAMES
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.words import costs_of, fitted_words, rule_words
from training.scoring.clinic.figures import MIN_SUBGROUP
from training.scoring.clinic.kept import CLINIC_FILE, decides, read_kept
from training.scoring.clinic.printing import LEVELS, cause_rows, figure_rows, subgroup_rows

__all__ = ["CARD_FILE", "model_card"]

CARD_FILE = "README.md"  # where a model hub looks for it
TEMPLATE = Path(__file__).with_name("model_card.md.j2")
NOT_MEASURED = f"Not measured: the bundle has no `{CLINIC_FILE}`, which `python -m training clinic` writes."


def model_card(bundle: Bundle) -> str:
    """The card as Markdown with its metadata; the same bytes for the same bundle and figures.

    Raises RealMNetError where the figures beside the bundle cannot be read.
    """
    about = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name=bundle.artifact().engine,
        model_name=bundle.name,
        tags=["ophthalmology", "fundus", bundle.task.modality.replace("_", "-"), "research-only"],
    )
    training = {name: value for name, value in bundle.training_data.items() if name != "statement"}
    card = ModelCard.from_template(
        about,
        template_path=str(TEMPLATE),
        bundle=bundle,
        modality=MODALITY_NAMES[bundle.task.modality],
        outputs="\n".join(_outputs(bundle)),
        rule="\n\n".join(_rule(bundle.task)),
        training=_table(("training", ""), _rows(training)),
        scores="\n\n".join(_scores(bundle.scores)) or "Nothing was measured.",
        clinic="\n\n".join(_clinic(bundle)) or NOT_MEASURED,
        files=_files(bundle),
        versions=_table(("made with", ""), _rows(bundle.versions)),
        sbom_file=SBOM_FILE,
    )
    return f"{str(card).rstrip()}\n"


def _outputs(bundle: Bundle) -> Iterator[str]:
    for name, output in bundle.task.trained.items():
        labels = "; ".join(f"{label.code}: {label.name}" for label in output.labels.labels)
        yield f"- `{name}`, {output.kind} of `{output.labels.name}`: {labels}"
    others = [f"`{name}`" for name in bundle.task.outputs if name not in bundle.task.trained]
    if others:
        yield f"- beside them: {', '.join(others)}"


def _rule(task: Task) -> Iterator[str]:
    """Sentences; tables of what the rule has, of its costs, and of how each part was fitted."""
    yield " ".join((rule_words(task), *fitted_words(task)))
    yield _table(("rule", ""), [row for row in _rows(task.rule.to_dict()) if row[0] != "costs"])
    for by_cost in costs_of(task.rule):
        rows = [(true, *costs) for true, costs in zip(by_cost.grades, by_cost.costs, strict=True)]
        yield _table(("cost where it holds ↓ of saying →", *by_cost.grades), rows)
    if task.fitted:
        kinds = [*(f"calibration of {name}" for name in task.fitted.calibration), *(d.kind for d in task.fitted.doubts)]
        yield _table(("between answer and rule", ""), zip(kinds, task.fitted.grounds(), strict=True))


def _files(bundle: Bundle) -> str:
    rows = [
        (f"`{each.file}`", each.engine, each.precision, each.bytes, f"`{each.sha256}`")
        for each in bundle.artifacts.values()
    ]
    return _table(("file", "engine", "precision", "bytes", "SHA-256"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _rows(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """A mapping as lines of two columns; mappings inside of it have their names in front."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f"{before}{name}: ")
        else:
            rows.append((f"{before}{name}", value))
    return rows


def _cell(value: Any) -> str:
    """A value in one line, that does not end the cell of a table."""
    if isinstance(value, list | tuple):
        text = ", ".join(map(_cell, value))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        text = str(value)
    else:
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return " ".join(text.replace("|", "\\|").split())


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    """A table for each part of the scores; what stands alone comes first."""
    alone = {name: value for name, value in scores.items() if not isinstance(value, Mapping)}
    if alone:
        yield _table(("what was measured", ""), _rows(alone))
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield f"### {name[:1].upper()}{name[1:]}"
            yield _table(("score", "value"), _rows(value))


def _clinic(bundle: Bundle) -> Iterator[str]:
    """Headings, sentences and tables of what was measured."""
    path = bundle.directory / CLINIC_FILE
    for data, figures in (read_kept(path) if path.exists() else {}).items():
        intervals = (f"{level}s: {figures[level]['interval']}" for level in LEVELS if figures[level]["cases"])
        yield f"### {data[:1].upper()}{data[1:]}"
        if figures["artifact"] not in bundle.artifacts or figures["decides"] != decides(bundle, figures["artifact"]):
            yield "**Measured on an earlier state of this bundle, which decided otherwise: measure again.**"
        yield (
            f"{figures['pictures']:,} pictures of {figures['patients']:,} patients, by `{figures['artifact']}`. "
            f"Intervals: {'; '.join(intervals)}. Subgroups of fewer than {MIN_SUBGROUP} pictures are not scored."
        )
        for rows in (figure_rows, cause_rows, subgroup_rows):
            head, *others = rows(figures)
            if others:
                yield _table(head, others)
