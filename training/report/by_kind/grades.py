"""The figure of grades: the confusion matrix with κ."""

from collections.abc import Sequence

import numpy as np

from keras_realmnet.tasks.outputs import Grades
from training.report.by_kind.scores import SCORE_NAMES
from training.report.gallery import Gallery, Item
from training.report.plots.predictions import confusion
from training.report.tables import interval_text
from training.scoring.evaluated_runs import EvaluatedRun

__all__ = ["confusion_figure"]


def confusion_figure(gallery: Gallery, runs: Sequence[EvaluatedRun], name: str, output: Grades) -> Item:
    """True against predicted grades, a panel for each run with its κ."""
    title, codes = f"{name}: confusion of the grades", output.labels.codes
    counts, rows = {}, []
    for run in runs:
        found = np.array(run.scored["outputs"][name]["counts"]["confusion"], int)
        kappa = interval_text(run.scores(name)["kappa"], digits=3)
        counts[f"{run.name}\n{SCORE_NAMES['grades']['kappa']} {kappa}"] = found
        rows += [[run.name, code, *row] for code, row in zip(codes, found.tolist(), strict=True)]
    if not any(found.any() for found in counts.values()):
        return Item(title, "Not shown: no grade of a test image is known.")
    caption = (
        "Images by true grade (row) and predicted one (column), the most probable; in brackets and as colour the share "
        "of the row. Right is the diagonal; κ weighs a mistake by the square of its distance from it, and its interval "
        "is of bootstrap resamples of whole patients."
    )
    figure = confusion(counts, codes, output.labels)
    return gallery.add(f"confusion_{name}", title, caption, figure, ["run", "true", *codes], rows)
