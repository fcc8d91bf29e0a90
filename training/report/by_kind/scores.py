"""Tables of the scores of grades, masks and points."""

from collections.abc import Mapping, Sequence

from keras_realmnet.tasks.guidance import is_marked
from keras_realmnet.tasks.outputs import Grades, Masks, Output, Points
from training.report.tables import Table, interval_text
from training.scoring.evaluated_runs import EvaluatedRun

__all__ = ["SCORE_NAMES", "form_of", "score_tables"]

MARKED = "marked regions"  # masks, of another meaning and with other scores

# {kind: {score: title}}, in the order in which they are shown; where a label has one, too, its code stands behind.
SCORE_NAMES: Mapping[str, Mapping[str, str]] = {
    "grades": {
        "kappa": "κ (quadratic)",
        "accuracy": "Accuracy",
        "macro_f1": "F1 (macro)",
        "macro_auroc": "AUROC (macro)",
        "f1": "F1",
        "auroc": "AUROC",
    },
    "masks": {
        "aupr": "AUPR",
        "pixel_auroc": "Pixel AUROC",
        "pixel_f1": "Pixel F1",
        "pixel_accuracy": "Pixel accuracy",
        "pixel_iou": "Pixel IoU (mIoU)",
        "pixel_iou_two": "Pixel IoU, labelled or not",
        "dice": "Dice",
        "iou": "IoU",
        "image_f1": "Image F1",
        "image_auroc": "Image AUROC",
    },
    MARKED: {
        "air_tp": "AIR, found",
        "air_fn": "AIR, missed",
        "air": "AIR, all marked",
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
    },
    "points": {
        "mean_picture_distance": "Mean distance, of the picture's side ↓",
        "mean_pixels": "Mean distance, in pixels of the picture ↓",
        "mean_distance": "Mean distance, of the square's side ↓",
        "median_distance": "Median distance, of the square's side ↓",
        "mean_diameters": "Mean distance, in disc diameters ↓",
        "missed": "Missed ↓",
        "spurious": "Found where there is none ↓",
    },
}
NOTES = {
    "grades": "F1 and AUROC are of one grade against the rest.",
    "masks": (
        "AUPR: average precision of all pixels of all test images in one ranking, pixel AUROC of the same; pixels of "
        "which nothing is known, as outside of the field of view, are left out. Pixel F1: of all these pixels, at "
        "the network's threshold. Dice, IoU: means over the images that have the label. Image F1, AUROC: whether an "
        "image has the label at all, by its highest pixel, from .5 on. Pixel accuracy and IoU, of masks that exclude "
        "each other: of all pixels together, those without a label as a class of their own. Means are over the labels "
        "that some test image has."
    ),
    MARKED: (
        "AIR, activation in region: the share of the activation map's sum that lies in the regions in which the "
        "finding was marked, a mean over images: with the finding and found, with it and missed, all in which it was "
        "marked and agreed on. Found, sensitivity and specificity: at the threshold with the best harmonic mean of the "
        "latter two, chosen on these images."
    ),
    "points": "Distances are of all points whose place is known, found or not.",
}

ERROR = "mean_error_"  # of a measure of masks, with its code behind


def form_of(output: Output) -> str:
    """By what `SCORE_NAMES` and `NOTES` know an output."""
    return MARKED if is_marked(output) else output.kind


def score_tables(runs: Sequence[EvaluatedRun], name: str, output: Grades | Masks | Points) -> list[Table]:
    """The scores of an output: those of all labels together, and those of each."""
    scores = {run.name: run.scores(name) for run in runs}
    errors = [score for score in scores[runs[0].name] if score.startswith(ERROR)]
    titles = {score: f"Mean absolute error, {score.removeprefix(ERROR)} ↓" for score in errors}
    form = form_of(output)
    names = {**SCORE_NAMES[form], **titles}
    bootstrap = runs[0].scored.get("bootstrap", {})
    drawn = f"{bootstrap.get('replicates', 0):,} bootstrap resamples of whole patients"
    note = f"Value (95 % percentile interval; {drawn}). {NOTES[form]}"
    together = [
        [title, *(interval_text(scores[run.name][score]) for run in runs)]
        for score, title in names.items()
        if all(score in scores[run.name] for run in runs)
    ]
    header = ["score", *(run.name for run in runs)]
    tables = [Table(f"{name}: scores on the test images", header, together, note)]
    of_each = {
        score: title
        for score, title in names.items()
        if all(f"{score}_{code}" in scores[run.name] for run in runs for code in output.labels.codes)
    }
    if len(output.labels) > 1 and of_each:
        rows = [
            [
                f"{label.code} {label.name}",
                run.name,
                _images_with(run, name, output, label.code),
                *(interval_text(scores[run.name][f"{score}_{label.code}"], digits=3) for score in of_each),
            ]
            for label in output.labels.labels
            for run in runs
        ]
        header = ["label", "run", "test images with it", *of_each.values()]
        tables.append(Table(f"{name}: scores of each label", header, rows, by_run=True))
    return tables


def _images_with(run: EvaluatedRun, name: str, output: Grades | Masks | Points, code: str) -> str:
    counts = run.scored["outputs"][name]["counts"]
    if isinstance(output, Grades):
        return f"{sum(counts['confusion'][output.labels.codes.index(code)]):,}"
    return f"{counts[code]['with' if isinstance(output, Masks) else 'visible']:,}"
