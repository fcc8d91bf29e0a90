"""The tables of the page, and the notes on what to keep in mind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.recipe import Recipe
from training.report.score_names import CLASS_SCORES, NAMES
from training.scoring.evaluated_runs import EvaluatedRun, Run
from training.scoring.statistics.bootstrap import Interval
from training.scoring.statistics.scores import HEADLINE, LOSSES, thinned, undefined
from training.scoring.statistics.significance import Difference, paired_difference

__all__ = [
    "Table",
    "about_the_runs",
    "changed_settings",
    "class_scores",
    "differences",
    "headline_scores",
    "interval_text",
    "missing_files",
    "notes",
    "other_images",
]

Scores = Mapping[str, Mapping[str, Interval]]  # by run and name of the score


@dataclass(frozen=True)
class Table:
    """Header cells, and rows whose first cell names them and, if `by_run`, the second the run."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    by_run: bool = False


def about_the_runs(runs: Sequence[EvaluatedRun]) -> Table:
    """What was trained on what, how long and with which versions."""

    def shown(value: Any) -> str:
        return "not recorded" if value in (None, "", {}) else f"{value:,}" if isinstance(value, int) else str(value)

    def duration(run: EvaluatedRun) -> str | None:
        seconds = None if run.history is None else run.history.get("seconds")
        if seconds is None or not np.isfinite(seconds).all():
            return None
        minutes = round(float(seconds.sum()) / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"

    def versions(run: EvaluatedRun) -> str:
        backend, known = run.facts.get("backend"), run.facts.get("versions", {})
        names = [name for name in ("keras", backend) if name in known]
        return ", ".join(f"{name} {known[name]}" for name in names) or str(backend or "")

    lines = {
        "recipe": lambda run: run.recipe.get("name"),
        "network": lambda run: run.recipe.get("preset"),
        "trained on": lambda run: run.facts.get("training_data"),
        "training images": lambda run: run.facts.get("images", {}).get("train"),
        "test images": lambda run: len(run.names),
        "test patients": lambda run: len(set(run.patients.tolist())),
        "input": lambda run: f"{size} px" if (size := run.scored.get("image_size")) else None,
        "seed": lambda run: str(run.facts.get("seed", "")),
        "backend": versions,
        "training time": duration,
        "commit": lambda run: (run.facts.get("git_commit") or "")[:12],
        "test data (SHA-256)": lambda run: run.scored.get("data_sha256", {}).get("test", "")[:16],
    }
    rows = [[title, *(shown(value(run)) for run in runs)] for title, value in lines.items()]
    return Table("The runs", ["", *(run.name for run in runs)], rows)


def changed_settings(runs: Sequence[EvaluatedRun]) -> Table:
    """The settings in which a run differs from the published ones or from another run."""
    standard = Recipe("")
    published = _flattened(json.loads(json.dumps(standard.resolved(standard.data.task).to_dict())))
    recipes = [_flattened(run.recipe) for run in runs]
    names = dict.fromkeys(name for recipe in (published, *recipes) for name in recipe if name != "name")
    rows = []
    for name in names:
        recorded = {recipe.get(name, "–") for recipe in recipes if recipe}
        if recorded not in (set(), {"–"}, {published.get(name, "–")}):
            values = [recipe.get(name, "–") if recipe else "not recorded" for recipe in recipes]
            rows.append([name, published.get(name, "–"), *values])
    header = ["setting", "published", *(run.name for run in runs)]
    return Table("Settings that differ from the published ones or between the runs", header, rows)


def _flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flattened(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = _setting_text(name, value)
    return flat


def _setting_text(name: str, value: Any) -> str:
    if name == "phases":
        return ", ".join(f"{phase['epochs']} × {phase['size']} px" for phase in value)
    if value is None or value == {}:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def headline_scores(runs: Sequence[Run], scores: Scores, replicates: int) -> Table:
    """The scores on all test images, a row each."""
    rows = [
        [
            f"{NAMES[name]}{' ↓' if name in LOSSES else ''}",
            *(
                interval_text(scores[run.name][name]) if name in scores[run.name] else "no operating point"
                for run in runs
            ),
        ]
        for name in HEADLINE
        if any(name in scores[run.name] for run in runs)
    ]
    counts = [f"{len(run.names):,} / {len(set(run.cases.patients.tolist())):,}" for run in runs]
    note = (
        f"Value (95 % percentile interval; {replicates:,} bootstrap resamples of whole patients). ↓: lower is better; "
        "elsewhere higher is. Labels count as predicted from a probability of .5 on; coverage counts how far down the "
        "ranking the last true label stands, so that the number of true labels (2 in PSMM) is perfect. Sensitivity and "
        "specificity are those of the rule “any pathologic label at its threshold”."
    )
    optimistic = [run.name for run in runs if run.scored.get("thresholds_chosen_on_test")]
    if optimistic:
        note += f" Thresholds of {', '.join(optimistic)} were chosen on the test images: these rates are optimistic."
    header = ["score", *(run.name for run in runs)]
    return Table("Scores on the test images", header, [["images / patients", *counts], *rows], note)


def class_scores(runs: Sequence[Run], scores: Scores) -> Table:
    """The scores of each label, a row per label and run."""
    rows = []
    for k, label in enumerate(runs[0].cases.label_set.labels):
        for run in runs:
            positives = int((run.cases.y_true[:, k] == 1).sum())
            cells = [interval_text(scores[run.name][f"{name}_{label.code}"], digits=3) for name in CLASS_SCORES]
            rows.append([f"{label.code} {label.name}", run.name, f"{positives:,}", *cells])
    header = ["label", "run", "positive images", *CLASS_SCORES.values()]
    return Table("Scores of each label", header, rows, by_run=True)


def interval_text(interval: Interval, digits: int = 4) -> str:
    if interval.value is None:
        return "not defined"
    text = f"{interval.value:.{digits}f}"
    return text if interval.low is None else f"{text} ({interval.low:.{digits}f}–{interval.high:.{digits}f})"


def differences(runs: Sequence[Run], replicates: int) -> Table | None:
    """Each run against the first, where they scored the same images; None for a single run."""
    if len(runs) == 1:
        return None
    first = runs[0]
    columns: dict[str, Mapping[str, Difference] | None] = {}
    for run in runs[1:]:
        same = run.images == first.images
        same = same and np.array_equal(run.cases.y_true, first.cases.y_true, equal_nan=True)
        a, b = first.cases, run.cases
        if a.refers is None or b.refers is None:  # what a rule refers is compared where both have one
            a, b = replace(a, refers=None), replace(b, refers=None)
        columns[run.name] = paired_difference(a, b, replicates) if same else None
    rows = []
    for name in (name for name in HEADLINE if any(found and name in found for found in columns.values())):
        cells = []
        for found in columns.values():
            item = found.get(name) if found else None
            if item is None or item.difference is None or item.p is None:
                cells.append("–")
            else:
                text = f"{item.difference:+.4f} ({item.low:+.4f} to {item.high:+.4f}), p = {item.p:.3f}"
                cells.append(text.replace("-", "−"))
        rows.append([f"{NAMES[name]}{' ↓' if name in LOSSES else ''}", *cells])
    note = (
        "Difference (95 % interval) and two-sided p of a paired bootstrap in which both runs are scored on the same "
        "resampled patients. The p-values are not adjusted for the number of comparisons, and speak of these test "
        "images, not of another seed's training."
    )
    others = [name for name, found in columns.items() if found is None]
    if others:
        note = f"{', '.join(others)} scored other images than {first.name}: not compared. " + note
    return Table(f"Differences from {first.name}", ["score", *columns], rows, note)


def notes(runs: Sequence[Run], scores: Scores, replicates: int) -> list[str]:
    """What is missing, unknown, undefined or not comparable, a sentence each."""
    notes = []
    for run in runs:
        notes += missing_files(run)
        unknown = int(np.isnan(run.cases.y_true).any(axis=1).sum())
        if unknown:
            notes.append(
                f"{run.name}: {unknown:,} of {len(run.names):,} images have labels that are not known; each score uses "
                "the images whose truth it needs."
            )
        notes += [f"{run.name}, {note}." for note in (*undefined(run.cases), *thinned(scores[run.name], replicates))]
    return notes + other_images(runs)


def missing_files(run: EvaluatedRun) -> list[str]:
    """That a run lacks files that describe it, as a sentence; nothing where it does not."""
    missing = [name for name, there in (("recipe.json", run.recipe), ("run.json", run.facts)) if not there]
    if not missing:
        return []
    return [f"{run.name}: no {' and no '.join(missing)}, so that part of its description is missing."]


def other_images(runs: Sequence[EvaluatedRun]) -> list[str]:
    """That runs were scored on different images, as a sentence; nothing where they were not."""
    different = len({tuple(run.names.tolist()) for run in runs}) > 1
    return ["The runs were scored on different images: compare their numbers with care."] if different else []
