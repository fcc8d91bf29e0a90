"""The report of one or several runs: `figures/` (SVG, PNG and the numbers as csv) and one page, `report.html`.

The page holds its figures and makes no request; it may be mailed. All scores are computed here from the runs' tables of
predictions, by `training.scoring.scores`, so that every run is scored alike. What a run lacks is said in its place.
"""

import base64
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LABEL_SETS, LabelSet
from training.data.label_table import LabelTable, concatenate, read_label_table
from training.data.psmm import is_synthetic
from training.recipe import Recipe
from training.report import figures
from training.report.figures import Bins, Example, Look
from training.scoring.bootstrap import Bootstrap, Interval
from training.scoring.cases import Cases
from training.scoring.scores import HEADLINE, LOSSES, score_cases, thinned, undefined
from training.scoring.significance import Difference, paired_difference

if TYPE_CHECKING:
    from keras_realmnet.models.map_offset import MapOffset

__all__ = ["Run", "calibration", "confusion_counts", "examples", "read_run", "write_report"]

Array = NDArray[Any]

BINS = 10  # of the reliability diagram, equally wide
THRESHOLD = 0.5  # RealMNet: at or above it a label counts as predicted
OFFSET_IMAGES = 256  # of the test set, from which the offset of class maps is measured
NAMES = {
    "macro_f1": "F1 (macro)",
    "macro_precision": "Precision (macro)",
    "macro_recall": "Recall (macro)",
    "micro_f1": "F1 (micro)",
    "map": "mAP",
    "macro_auroc": "AUROC (macro)",
    "micro_auroc": "AUROC (micro)",
    "hamming_loss": "Hamming loss",
    "coverage_error": "Coverage",
    "ranking_loss": "Ranking loss",
    "brier": "Brier (mean)",
    "exact_match": "Exact match",
    "pathologic_auroc": "AUROC, pathologic",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
CLASS_SCORES = {"f1": "F1", "ap": "Average precision", "auroc": "AUROC"}
KINDS = ("found", "missed", "false positive")
SIX = ("macro_f1", "map", "macro_auroc", "hamming_loss", "coverage_error", "ranking_loss")  # RealMNet, Table 1


# -------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Run:
    """A run folder as read; `recipe`, `facts` (run.json) and `scored` (scores.json) are empty where it lacks them.

    `history`: columns of history.csv as float (epochs,), NaN where empty; None without one. `names`, `patients`: (n,)
    str, of the test images. `cases`: their truth and probabilities.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    scored: Mapping[str, Any]
    history: Mapping[str, Array] | None
    names: Array
    cases: Cases

    @property
    def synthetic(self) -> bool:
        """Whether the images are phantoms: drawn for the run, or a phantom study, laid out and read as PSMM."""
        data = self.recipe.get("data", {})
        if str(data.get("kind", self.scored.get("data", ""))).startswith("phantom"):
            return True
        folder = data.get("folder")
        stamped = folder is not None and is_synthetic(folder)
        return stamped or "synthetic" in str(self.facts.get("training_data", ""))


def read_run(folder: Path, name: str | None = None) -> Run:
    """Reads the folder of an evaluated run; only `test_scores.csv` must be there.

    Raises:
        RealMNetError: there is none, or a file is not what `fit` and `evaluate` write.
    """
    table = folder / "test_scores.csv"
    if not table.is_file():
        raise RealMNetError(
            f"{table}: no such file; expected the folder of a finished run (python -m training evaluate writes it)"
        )
    scored = _read_json(folder / "scores.json")
    rows = _read_csv(table)
    columns = list(rows[0]) if rows else []
    fitting = [
        known for known in LABEL_SETS.values() if {*known.codes, *(f"true_{c}" for c in known.codes)} <= {*columns}
    ]
    label_set = LABEL_SETS.get(scored.get("label_set", ""), fitting[0] if fitting else None)
    if label_set not in fitting or label_set is None:
        raise RealMNetError(
            f"{table}: expected rows with the columns filename, patient, true_LABEL and LABEL for each label of "
            f"{' or '.join(LABEL_SETS)}. Found: {', '.join(columns) or 'no row'}"
        )
    try:
        y_true = np.array([[float(row[f"true_{code}"] or "nan") for code in label_set.codes] for row in rows])
        y_score = np.array([[float(row[code]) for code in label_set.codes] for row in rows])
        patients = [row["patient"] for row in rows]
        names = np.array([row["filename"] for row in rows], np.str_)
        history = _read_history(folder / "history.csv")
    except (ValueError, KeyError) as error:
        raise RealMNetError(f"{folder}: a table is not what fit and evaluate write ({error})") from error
    point = OperatingPoint.from_dict(scored["operating_point"]) if scored.get("operating_point") else None
    return Run(
        name=name or folder.resolve().name,
        folder=folder,
        recipe=_read_json(folder / "recipe.json"),
        facts=_read_json(folder / "run.json"),
        scored=scored,
        history=history,
        names=names,
        cases=Cases.of_images(y_true, y_score, label_set, point, patients),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RealMNetError(f"{path}: not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _read_history(path: Path) -> dict[str, Array] | None:
    rows = _read_csv(path) if path.is_file() else []
    if not rows:
        return None
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def _read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs under short names that tell them apart."""
    ends = [folder.resolve().parts for folder in folders]
    if len(set(ends)) < len(ends):
        raise RealMNetError(f"a run is given twice: {', '.join(map(str, folders))}")
    length = next(k for k in range(1, max(map(len, ends)) + 1) if len({end[-k:] for end in ends}) == len(ends))
    runs = [read_run(folder, "/".join(end[-length:])) for folder, end in zip(folders, ends, strict=True)]
    label_sets = {run.cases.label_set.name for run in runs}
    if len(label_sets) > 1:
        raise RealMNetError(f"the runs have different labels ({', '.join(sorted(label_sets))}): report them separately")
    return runs


# ------------------------------------------------------------------------------------------------- what figures show


def calibration(y_true: Array, y_score: Array) -> tuple[Bins, float | None]:
    """Ten equally wide bins of predicted probability, and the expected calibration error.

    ECE = Σ n_b/n · |mean probability − share of positives| over the bins (Guo et al., ICML 2017, for one label). For
    probabilities .1, .1, .9, .9 with truth 0, 1, 1, 1: ½·|.1 − .5| + ½·|.9 − 1| = .25.

    Args:
        y_true: of shape (n,); 1, 0 or NaN (left out).
        y_score: of shape (n,), 0 to 1.

    Returns:
        The bins, with an empty summary, and the ECE; `None` without a known truth.
    """
    known = ~np.isnan(y_true)
    truth, score = y_true[known], y_score[known].astype(np.float64)
    which = np.minimum((score * BINS).astype(int), BINS - 1)  # bin b holds b/10 ≤ p < (b + 1)/10, the last one 1 too
    counts = np.bincount(which, minlength=BINS)
    nothing = np.full(BINS, np.nan)
    predicted = np.divide(np.bincount(which, score, BINS), counts, out=nothing.copy(), where=counts > 0)
    observed = np.divide(np.bincount(which, truth, BINS), counts, out=nothing.copy(), where=counts > 0)
    error = float(np.nansum(counts * np.abs(predicted - observed)) / counts.sum()) if counts.sum() else None
    return Bins(predicted, observed, counts, ""), error


def confusion_counts(y_true: Array, y_score: Array, columns: Sequence[int]) -> Array:
    """int (grades, grades), rows true, columns predicted: the grade with the highest score.

    Images of which not exactly one grade is known to be present are left out.

    Args:
        columns: of the grades, which exclude each other.
    """
    truth, score = y_true[:, columns] == 1, y_score[:, columns]
    graded = truth.sum(axis=1) == 1
    counts = np.zeros((len(columns), len(columns)), int)
    np.add.at(counts, (truth[graded].argmax(axis=1), score[graded].argmax(axis=1)), 1)
    return counts


def examples(y_true: Array, y_score: Array) -> dict[str, int | None]:
    """Per kind (found, missed, false positive) of one label the image with the most extreme score; None without one.

    Args:
        y_true: of shape (n,); 1, 0 or NaN.
        y_score: of shape (n,); at or above .5 the label counts as predicted.
    """
    predicted = y_score >= THRESHOLD
    kinds = {
        "found": ((y_true == 1) & predicted, y_score),
        "missed": ((y_true == 1) & ~predicted, -y_score),
        "false positive": ((y_true == 0) & predicted, y_score),
    }
    chosen: dict[str, int | None] = {}
    for kind, (rows, extreme) in kinds.items():
        chosen[kind] = int(np.argmax(np.where(rows, extreme, -np.inf))) if rows.any() else None
    return chosen


# -------------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class Item:
    """A figure of the page, or, without `picture`, why there is none. `files`: links relative to the page."""

    title: str
    caption: str
    picture: str | None = None
    photographs: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Header cells, and rows whose first cell names them and, if `by_run`, the second the run."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    by_run: bool = False


class _Gallery:
    """Writes each figure in its formats and keeps what the page needs of it."""

    def __init__(self, out: Path):
        self.out = out
        (out / "figures").mkdir(parents=True, exist_ok=True)

    def add(
        self,
        key: str,
        title: str,
        caption: str,
        figure: Figure | go.Figure,
        header: Sequence[str],
        rows: Iterable[Sequence[Any]],
        photographs: bool = False,
    ) -> Item:
        drawn = figures.svg(figure)
        (self.out / "figures" / f"{key}.svg").write_bytes(drawn)
        (self.out / "figures" / f"{key}.png").write_bytes(figures.png(figure))
        with (self.out / "figures" / f"{key}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        kind, shown = ("jpeg", figures.jpeg(figure)) if photographs else ("svg+xml", drawn)
        picture = f"data:image/{kind};base64,{base64.b64encode(shown).decode()}"
        return Item(
            title,
            caption,
            picture,
            photographs,
            {ending: f"figures/{key}.{ending}" for ending in ("svg", "png", "csv")},
        )


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
    from rich.console import Console
    from rich.progress import Progress

    runs = _read_runs(folders)
    label_set = runs[0].cases.label_set
    tables = _label_lists(labels, label_set)
    gallery = _Gallery(out)
    looks = figures.looks([run.name for run in runs])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scores", total=len(runs) + 3)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=what)

        scores = {}
        for run in runs:
            scores[run.name] = score_cases(run.cases, Bootstrap("patient", replicates))
            step(f"scores of {run.name}")
        differences = _differences(runs, replicates)
        step("figures of the data")
        sections = {"Data": _data_figures(gallery, runs, tables)}
        step("figures of the results")
        sections["Results"] = _result_figures(gallery, runs, scores, looks)
        step("learning curves")
        sections["Training"] = [_learning_figure(gallery, runs, looks)]
    sections["Where the networks look"] = [
        item for run in runs for item in _evidence_figures(gallery, run, data, cache)
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=f"Report: {runs[0].name}" if len(runs) == 1 else f"Report: {len(runs)} runs compared",
        runs=runs,
        looks=looks,
        label_set=label_set,
        synthetic=[run.name for run in runs if run.synthetic],
        about=_about(runs),
        settings=_settings(runs),
        headline=_headline(runs, scores, replicates),
        classwise=_classwise(runs, scores),
        differences=differences,
        notes=_notes(runs, scores, replicates),
        sections=sections,
    )
    path = out / "report.html"
    temporary = path.with_suffix(".part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def _label_lists(paths: Sequence[Path], label_set: LabelSet) -> dict[str, LabelTable]:
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in paths]
    return {name: read_label_table(path, label_set) for name, path in zip(names, paths, strict=True)}


# ------------------------------------------------------------------------------------------------------------ tables


def _about(runs: Sequence[Run]) -> Table:
    def shown(value: Any) -> str:
        return "not recorded" if value in (None, "", {}) else f"{value:,}" if isinstance(value, int) else str(value)

    def duration(run: Run) -> str | None:
        seconds = None if run.history is None else run.history.get("seconds")
        if seconds is None or not np.isfinite(seconds).all():
            return None
        minutes = round(float(seconds.sum()) / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"

    def versions(run: Run) -> str:
        backend, known = run.facts.get("backend"), run.facts.get("versions", {})
        names = [name for name in ("keras", backend) if name in known]
        return ", ".join(f"{name} {known[name]}" for name in names) or str(backend or "")

    lines = {
        "recipe": lambda run: run.recipe.get("name"),
        "network": lambda run: run.recipe.get("preset"),
        "trained on": lambda run: run.facts.get("training_data"),
        "training images": lambda run: run.facts.get("images", {}).get("train"),
        "test images": lambda run: len(run.names),
        "test patients": lambda run: len(set(run.cases.patients.tolist())),
        "input": lambda run: f"{size} px" if (size := run.scored.get("image_size")) else None,
        "seed": lambda run: str(run.facts.get("seed", "")),
        "backend": versions,
        "training time": duration,
        "commit": lambda run: (run.facts.get("git_commit") or "")[:12],
        "test data (SHA-256)": lambda run: run.scored.get("data_sha256", {}).get("test", "")[:16],
    }
    rows = [[title, *(shown(value(run)) for run in runs)] for title, value in lines.items()]
    return Table("The runs", ["", *(run.name for run in runs)], rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = _setting(name, value)
    return flat


def _setting(name: str, value: Any) -> str:
    if name == "phases":
        return ", ".join(f"{phase['epochs']} × {phase['size']} px" for phase in value)
    if value is None or value == {}:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _settings(runs: Sequence[Run]) -> Table:
    """The settings in which a run differs from the published ones or from another run."""
    published = _flat(json.loads(json.dumps(Recipe("").to_dict())))
    recipes = [_flat(run.recipe) for run in runs]
    names = dict.fromkeys(name for recipe in (published, *recipes) for name in recipe if name != "name")
    rows = []
    for name in names:
        recorded = {recipe.get(name, "–") for recipe in recipes if recipe}
        if recorded not in (set(), {"–"}, {published.get(name, "–")}):
            values = [recipe.get(name, "–") if recipe else "not recorded" for recipe in recipes]
            rows.append([name, published.get(name, "–"), *values])
    header = ["setting", "published", *(run.name for run in runs)]
    return Table("Settings that differ from the published ones or between the runs", header, rows)


def _headline(runs: Sequence[Run], scores: Mapping[str, Mapping[str, Interval]], replicates: int) -> Table:
    rows = [
        [
            f"{NAMES[name]}{' ↓' if name in LOSSES else ''}",
            *(_cell(scores[run.name][name]) if name in scores[run.name] else "no operating point" for run in runs),
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


def _cell(interval: Interval, digits: int = 4) -> str:
    if interval.value is None:
        return "not defined"
    text = f"{interval.value:.{digits}f}"
    return text if interval.low is None else f"{text} ({interval.low:.{digits}f}–{interval.high:.{digits}f})"


def _classwise(runs: Sequence[Run], scores: Mapping[str, Mapping[str, Interval]]) -> Table:
    rows = []
    for k, label in enumerate(runs[0].cases.label_set.labels):
        for run in runs:
            positives = int((run.cases.y_true[:, k] == 1).sum())
            cells = [_cell(scores[run.name][f"{name}_{label.code}"], digits=3) for name in CLASS_SCORES]
            rows.append([f"{label.code} {label.name}", run.name, f"{positives:,}", *cells])
    header = ["label", "run", "positive images", *CLASS_SCORES.values()]
    return Table("Scores of each label", header, rows, by_run=True)


def _differences(runs: Sequence[Run], replicates: int) -> Table | None:
    """Each run against the first, where they scored the same images; None for a single run."""
    if len(runs) == 1:
        return None
    first = runs[0]
    columns: dict[str, Mapping[str, Difference] | None] = {}
    for run in runs[1:]:
        same = np.array_equal(run.names, first.names)
        same = same and np.array_equal(run.cases.y_true, first.cases.y_true, equal_nan=True)
        columns[run.name] = paired_difference(first.cases, run.cases, replicates) if same else None
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


def _notes(runs: Sequence[Run], scores: Mapping[str, Mapping[str, Interval]], replicates: int) -> list[str]:
    notes = []
    for run in runs:
        missing = [name for name, there in (("recipe.json", run.recipe), ("run.json", run.facts)) if not there]
        if missing:
            notes.append(f"{run.name}: no {' and no '.join(missing)}, so that part of its description is missing.")
        unknown = int(np.isnan(run.cases.y_true).any(axis=1).sum())
        if unknown:
            notes.append(
                f"{run.name}: {unknown:,} of {len(run.names):,} images have labels that are not known; each score uses "
                "the images whose truth it needs."
            )
        notes += [f"{run.name}, {note}." for note in (*undefined(run.cases), *thinned(scores[run.name], replicates))]
    if len({tuple(run.names.tolist()) for run in runs}) > 1:
        notes.append("The runs were scored on different images: compare their numbers with care.")
    return notes


# ----------------------------------------------------------------------------------------------------------- figures


def _data_figures(gallery: _Gallery, runs: Sequence[Run], tables: Mapping[str, LabelTable]) -> list[Item]:
    label_set = runs[0].cases.label_set
    if tables:
        sets = {name: (len(table), table.labels.sum(axis=0, dtype=int)) for name, table in tables.items()}
        everything = concatenate(tables.values())
        everything = everything.take(np.unique(everything.names, return_index=True)[1])  # lists may overlap
        all_labels, which = everything.labels.astype(int), f"the {len(everything):,} images of the label lists"
    else:
        everything = None
        all_labels = (runs[0].cases.y_true == 1).astype(int)
        which = f"the {len(all_labels):,} test images of {runs[0].name}"
        recorded = runs[0].facts.get("label_counts", {})  # of the sets it was trained and validated on
        sets = {
            name: (runs[0].facts["images"][name], np.array([counts[code] for code in label_set.codes]))
            for name, counts in recorded.items()
        }
        sets["test"] = len(all_labels), all_labels.sum(axis=0)
    items = [_counts_figure(gallery, "label_counts", "Label counts", sets, label_set)]
    if everything is not None and len(set(everything.sources.tolist())) > 1:
        members = {name: everything.labels[everything.sources == name] for name in _by_size(everything.sources)}
        sources = {name: (len(labels), labels.sum(axis=0, dtype=int)) for name, labels in members.items()}
        items.append(_counts_figure(gallery, "source_counts", "Label counts of each source", sources, label_set))

    together = all_labels.T @ all_labels
    header = ["label", *label_set.codes]
    rows = [[code, *row] for code, row in zip(label_set.codes, together.tolist(), strict=True)]
    how = f"Labels that occur together in {which}; the wider a band, the more images carry both labels at its ends."
    pairs = np.triu(together, 1).any()
    if len(label_set.exclusive) == 2 and pairs:
        items.append(
            gallery.add("sankey", "Co-occurrence", how, figures.label_sankey(together, label_set), header, rows)
        )
    else:
        why = f"No Sankey diagram: it needs labels in two exclusive groups, which {label_set.name} has not, or images."
        items.append(Item("Co-occurrence", why))
    if pairs:
        caption = how + " An arc's length counts these pairs, the number beside it the images with the label."
        chord = figures.label_chord(together, label_set)
        items.append(gallery.add("chord", "Co-occurrence as a chord diagram", caption, chord, header, rows))
    else:
        items.append(Item("Co-occurrence as a chord diagram", "No chord diagram: no two labels occur together."))
    items.append(_age_figure(gallery, everything))
    return items


def _by_size(values: Array) -> list[str]:
    names, counts = np.unique(values, return_counts=True)
    return names[np.argsort(-counts, kind="stable")].tolist()


def _counts_figure(
    gallery: _Gallery, key: str, title: str, sets: Mapping[str, tuple[int, Array]], label_set: LabelSet
) -> Item:
    """`sets`: per set the number of its images and of those with each label."""
    sizes = {name: size for name, (size, _) in sets.items()}
    counts = {name: count for name, (_, count) in sets.items()}
    return gallery.add(
        key,
        title,
        "Images that carry each label and their share of the set. " + _how_labels_add_up(label_set),
        figures.label_counts(counts, sizes, label_set),
        ["set", "images", *label_set.codes],
        [[name, sizes[name], *counts[name].tolist()] for name in counts],
    )


def _how_labels_add_up(label_set: LabelSet) -> str:
    grouped = {code for group in label_set.exclusive for code in group}
    if grouped != set(label_set.codes):
        return "An image may carry several labels, or none: the shares need not add up to 100 %."
    if len(label_set.exclusive) == 1:
        return "An image carries exactly one of them."
    return "An image carries several labels, one of each exclusive group: the shares add up to more than 100 %."


def _age_figure(gallery: _Gallery, table: LabelTable | None) -> Item:
    columns = {} if table is None else {name.lower(): values for name, values in table.extra.items()}
    if table is None or not {"age", "sex"} & set(columns):
        return Item("Age and sex", "Not shown: it needs label lists (--labels) with a column age or sex.")
    first = np.unique(table.patients, return_index=True)[1]
    empty = np.full(len(table), "", np.str_)
    ages = np.array([_age(text) for text in columns.get("age", empty)[first].tolist()])
    sexes = np.char.strip(columns.get("sex", empty)[first])
    unknown = int(np.isnan(ages).sum())
    caption = f"{len(first):,} patients, each counted once, at the first of their images in the lists."
    if unknown and "age" in columns:
        caption += f" The age of {unknown:,} is not given."
    patients = zip(table.patients[first].tolist(), ages.tolist(), sexes.tolist(), strict=True)
    return gallery.add(
        "age_sex", "Age and sex", caption, figures.age_and_sex(ages, sexes), ["patient", "age", "sex"], patients
    )


def _age(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        return np.nan
    return age if 0 <= age < 130 else np.nan


def _result_figures(
    gallery: _Gallery, runs: Sequence[Run], scores: Mapping[str, Mapping[str, Interval]], looks: Mapping[str, Look]
) -> list[Item]:
    label_set = runs[0].cases.label_set
    titles = [f"{label.code} {label.name}" for label in label_set.labels]
    items = []

    named = {run.name: {NAMES[name]: scores[run.name][name] for name in SIX} for run in runs}
    groups = [
        ("higher is better", [NAMES[name] for name in SIX if name not in LOSSES]),
        ("lower is better", [NAMES[name] for name in SIX if name in LOSSES and name != "coverage_error"]),
        ("lower is better", [NAMES["coverage_error"]]),
    ]
    header = ["run", "score", "value", "low", "high"]
    items.append(
        gallery.add(
            "scores",
            "Overall scores",
            "Bars are the scores on all test images, whiskers their 95 % intervals."
            + (" Where intervals overlap, runs may still differ: see the table of differences." if runs[1:] else ""),
            figures.metric_bars(named, groups, looks),
            header,
            [[run, name, i.value, i.low, i.high] for run, found in named.items() for name, i in found.items()],
        )
    )
    by_class = {
        run.name: {title: [scores[run.name][f"{n}_{c}"] for c in label_set.codes] for n, title in CLASS_SCORES.items()}
        for run in runs
    }
    class_rows = [
        [run, name, code, i.value, i.low, i.high]
        for run, found in by_class.items()
        for name, intervals in found.items()
        for code, i in zip(label_set.codes, intervals, strict=True)
    ]
    class_header = ["run", "score", "label", "value", "low", "high"]
    items.append(
        gallery.add(
            "class_scores",
            "Scores of each label",
            "As above, label by label. “n/a”: the score does not exist, because the test images have none with or "
            "none without the label. Rare labels have wide intervals.",
            figures.class_bars(by_class, label_set, looks),
            class_header,
            class_rows,
        )
    )
    around = {
        title: {
            run.name: np.array([np.nan if i.value is None else i.value for i in by_class[run.name][title]])
            for run in runs
        }
        for title in ("F1", "AUROC")
    }
    items.append(
        gallery.add(
            "radar",
            "Profile over the labels",
            "The farther out, the better. AUROC starts in the centre at .5, that of guessing; what is below lies there "
            "too. The enclosed area depends on the order of the labels: compare spoke by spoke.",
            figures.radar(around, label_set, looks),
            class_header,
            [row for row in class_rows if row[1] in around],
        )
    )
    columns = {title: (k, f"_{code}") for k, (title, code) in enumerate(zip(titles, label_set.codes, strict=True))}

    def truth_and_score(run: Run, k: int) -> tuple[Array, Array]:
        return run.cases.y_true[:, k], run.cases.y_score[:, k]

    roc = {
        title: {run.name: (*truth_and_score(run, k), scores[run.name][f"auroc{end}"]) for run in runs}
        for title, (k, end) in columns.items()
    }
    roc["Pathologic"] = {
        run.name: (run.cases.pathologic_true, run.cases.pathologic_score, scores[run.name]["pathologic_auroc"])
        for run in runs
    }
    precision = {
        title: {run.name: (*truth_and_score(run, k), scores[run.name][f"ap{end}"]) for run in runs}
        for title, (k, end) in columns.items()
    }
    table = ["run", "panel", "area", "low", "high"]
    for key, title, caption, panels, figure in (
        (
            "roc",
            "ROC curves",
            "Share of the images with the label that are found against the share of the others that are wrongly "
            "reported, at every threshold; numbers are the AUROC with its 95 % interval. “Pathologic” takes the "
            f"highest score of {', '.join(label_set.pathologic)}.",
            roc,
            figures.roc_curves(roc, looks),
        ),
        (
            "precision_recall",
            "Precision–recall curves",
            "Share of reported images that have the label against the share of images with the label that are "
            "reported; numbers are the average precision with its 95 % interval. The dashed line is the label's share "
            "of the test images, where guessing lies.",
            precision,
            figures.precision_recall_curves(precision, looks),
        ),
    ):
        rows = [
            [run, panel, area.value, area.low, area.high]
            for panel, found in panels.items()
            for run, (_, _, area) in found.items()
        ]
        items.append(gallery.add(key, title, caption, figure, table, rows))
    items.append(_reliability_figure(gallery, runs, scores, looks))
    items.append(_confusion_figure(gallery, runs))
    return items


def _reliability_figure(
    gallery: _Gallery, runs: Sequence[Run], scores: Mapping[str, Mapping[str, Interval]], looks: Mapping[str, Look]
) -> Item:
    panels: dict[str, dict[str, Bins]] = {}
    rows = []
    for k, label in enumerate(runs[0].cases.label_set.labels):
        found = panels.setdefault(f"{label.code} {label.name}", {})
        for run in runs:
            bins, error = calibration(run.cases.y_true[:, k], run.cases.y_score[:, k])
            brier = scores[run.name][f"brier_{label.code}"].value
            summary = "no known truth" if error is None or brier is None else f"ECE {error:.3f}, Brier {brier:.3f}"
            found[run.name] = Bins(bins.predicted, bins.observed, bins.counts, summary)
            values = zip(bins.predicted.tolist(), bins.observed.tolist(), bins.counts.tolist(), strict=True)
            rows += [[run.name, label.code, b / BINS, (b + 1) / BINS, *value] for b, value in enumerate(values)]
    return gallery.add(
        "reliability",
        "Reliability diagrams",
        "Of the images given a probability, the share that has the label: on the dashed line probabilities can be "
        "taken at their word, below it they are too high. Beneath: images in each bin, logarithmic; points of few "
        "images scatter. ECE is the mean distance from the line, weighted by images, Brier the mean squared error.",
        figures.reliability(panels, looks),
        ["run", "label", "from", "to", "mean probability", "share of positives", "images"],
        rows,
    )


def _confusion_figure(gallery: _Gallery, runs: Sequence[Run]) -> Item:
    label_set = runs[0].cases.label_set
    title = "Confusion of the grades"
    if not label_set.exclusive:
        return Item(title, f"Not shown: the labels of {label_set.name} do not exclude each other.")
    codes = max(label_set.exclusive, key=len)
    columns = [label_set.codes.index(code) for code in codes]
    counts = {run.name: confusion_counts(run.cases.y_true, run.cases.y_score, columns) for run in runs}
    if not any(found.any() for found in counts.values()):
        return Item(title, f"Not shown: no image is known to have one of {', '.join(codes)}.")
    left_out = max(len(run.names) - int(counts[run.name].sum()) for run in runs)
    caption = (
        f"Images by true grade (row) and predicted one (column), the one of {codes[0]}–{codes[-1]} with the highest "
        "score; in brackets and as colour the share of the row. Right is the diagonal."
    )
    if left_out:
        caption += f" {left_out:,} images whose grade is not known are left out."
    rows = [[run, code, *row] for run, found in counts.items() for code, row in zip(codes, found.tolist(), strict=True)]
    return gallery.add(
        "confusion", title, caption, figures.confusion(counts, codes, label_set), ["run", "true", *codes], rows
    )


def _learning_figure(gallery: _Gallery, runs: Sequence[Run], looks: Mapping[str, Look]) -> Item:
    histories = {run.name: run.history for run in runs if run.history is not None and "epoch" in run.history}
    without = [run.name for run in runs if run.name not in histories]
    missing = f"No history.csv in {', '.join(without)}." if without else ""
    if not histories:
        return Item("Learning curves", f"Not shown. {missing}")
    shown = [name for name in figures.CURVES if any(name in history for history in histories.values())]
    if not shown:
        return Item("Learning curves", "Not shown: the histories hold none of " + ", ".join(figures.CURVES) + ".")
    rows = [
        [run, *(history.get(name, np.full(len(history["epoch"]), np.nan))[k] for name in ("epoch", *shown))]
        for run, history in histories.items()
        for k in range(len(history["epoch"]))
    ]
    return gallery.add(
        "learning_curves",
        "Learning curves",
        "By epoch. A dotted line marks a change of the input's size, after which loss and scores may jump. Losses of "
        f"different loss functions cannot be compared. {missing}".strip(),
        figures.learning_curves(histories, looks),
        ["run", "epoch", *shown],
        rows,
    )


def _evidence_figures(gallery: _Gallery, run: Run, data: str | None, cache: Path) -> list[Item]:
    """What the box shows, and the publication's Grad-CAM++, of the same images."""
    title = f"Class maps of {run.name}"
    try:
        rows, chosen, offset = _evidence(run, data, cache)
    except RealMNetError as error:
        return [Item(title, f"Not shown: {error}.")]
    table = [
        [code, kind, run.names[index], f"{run.cases.y_score[index, k]:.6f}"]
        for k, code in enumerate(run.cases.label_set.codes)
        for kind, index in chosen[code].items()
        if index is not None
    ]
    moved = f"{offset.describe()}, as flipping images tells"
    texts = {
        "grad_cam": (
            f"class_maps_{run.name.replace('/', '_')}",
            title,
            "Per label the test image found with the highest probability p, the one missed with the lowest and the "
            "false alarm with the highest: extremes, not typical images. Lines are drawn at half and three quarters of "
            f"the maximum of the label's map, Grad-CAM {moved}; the image is dimmed outside. This is what the network "
            "used, which need not be the lesion. No line: no place in the image speaks for the label.",
        ),
        "grad_cam_plus_plus": (
            f"grad_cam_plus_plus_{run.name.replace('/', '_')}",
            f"Grad-CAM++ of {run.name}",
            f"The same images with the publication's maps, {moved}. They leave out what speaks against a label and lie "
            "on the lesion less often (docs/explanations.md): for comparison with other work.",
        ),
    }
    columns = ["label", "kind", "filename", "probability"]
    return [
        gallery.add(*text, figures.evidence(rows[explanation]), columns, table, photographs=True)
        for explanation, text in texts.items()
    ]


def _evidence(
    run: Run, data: str | None, cache: Path
) -> tuple[dict[str, dict[str, dict[str, Example | None]]], dict[str, dict[str, int | None]], "MapOffset"]:
    """By explanation, class and kind the example with its map; its row among the test images; the maps' offset.

    Raises:
        RealMNetError: the run holds no network with class maps, or its test images are not at hand.
    """
    for name in ("recipe.json", "weights.weights.h5"):
        if not (run.folder / name).is_file():
            raise RealMNetError(f"the run has no {name}")
    from keras_realmnet.models.heads import EXPLANATIONS  # Keras, which the rest does without
    from keras_realmnet.models.map_offset import measure_map_offset
    from training.recipe import with_data
    from training.runs import load_run

    model, recipe = load_run(run.folder)
    if not hasattr(model, "inference_model"):
        raise RealMNetError(f"{recipe.preset} has no class maps; RealMNet has")
    if data is not None:
        recipe = with_data(recipe, data)
    images = recipe.data.load("test", recipe.spec(), cache)
    recorded = run.scored.get("data_sha256", {}).get("test")
    if images is None or images.names != tuple(run.names.tolist()) or recorded not in (None, images.sha256):
        raise DataSetError("the test images at hand are not those that the run was scored on")
    labels = run.cases.label_set.labels
    chosen = {label.code: examples(run.cases.y_true[:, k], run.cases.y_score[:, k]) for k, label in enumerate(labels)}
    needed = sorted({index for kinds in chosen.values() for index in kinds.values() if index is not None})
    pixels = {index: np.array(images.image(index)) for index in needed}
    few = images.pixels[images.rows[:: -(-len(images.rows) // OFFSET_IMAGES)]]
    offset = measure_map_offset(model, few, run.cases.label_set.pathologic_columns)
    model.map_offset = offset.rows, offset.columns
    batch = np.array([pixels[index] for index in needed], np.float32)
    rows: dict[str, dict[str, dict[str, Example | None]]] = {}
    for explanation in EXPLANATIONS:
        maps: dict[int, Array] = {}
        if needed:
            predicted = model.inference_model(explanation).predict(batch, batch_size=8, verbose=0)
            maps = dict(zip(needed, np.asarray(predicted["class_maps"]), strict=True))
        rows[explanation] = {
            f"{label.code}\n" + label.name.replace(" ", "\n"): {
                kind: None
                if index is None
                else Example(pixels[index], maps[index][..., k], float(run.cases.y_score[index, k]))
                for kind, index in chosen[label.code].items()
            }
            for k, label in enumerate(labels)
        }
    return rows, chosen, offset
