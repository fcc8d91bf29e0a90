"""The figures of masks: precision and recall of the pixels of each label, and examples beside their truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.overlay import styled
from keras_realmnet.tasks.findings import MaskFinding
from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.outputs import Masks
from training.report.gallery import Gallery, Item
from training.report.plots.masks import Drawn, Legend, overlays
from training.report.plots.predictions import pixel_curves
from training.report.plots.style import Look
from training.report.run_images import network_of, scored_images
from training.scoring.evaluated_runs import EvaluatedRun

__all__ = ["curves_figure", "example_rows", "examples_figure"]

Array = NDArray[Any]


def curves_figure(
    gallery: Gallery, runs: Sequence[EvaluatedRun], name: str, output: Masks, looks: Mapping[str, Look]
) -> Item:
    """Precision against recall of the pixels of each label, the runs side by side."""
    title = f"{name}: precision and recall of pixels"
    panels: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for label in output.labels.labels:
        for run in runs:
            curve = run.scored["outputs"][name].get("curves", {}).get(label.code)
            if curve is None:
                continue
            area = run.scores(name)[f"aupr_{label.code}"]
            panel = panels.setdefault(f"{label.code} {label.name}", {})
            panel[run.name] = np.array(curve["recall"]), np.array(curve["precision"]), curve["share"], area
            points = zip(curve["recall"], curve["precision"], strict=True)
            rows += [[run.name, label.code, recall, precision] for recall, precision in points]
    if not panels:
        return Item(title, "Not shown: scores.json has no curves; python -m training evaluate writes them.")
    caption = (
        "Of the pixels that are found, the share that is right, against the share of the label's pixels that is found, "
        "at every threshold, all pixels of all test images in one ranking; numbers are the AUPR with its 95 % interval "
        "(whole patients resampled). The dashed line is the label's share of the pixels, where guessing lies."
    )
    missing = [label.code for label in output.labels.labels if f"{label.code} {label.name}" not in panels]
    caption += f" No test image is known to have {', '.join(missing)}." if missing else ""
    header = ["run", "label", "recall", "precision"]
    return gallery.add(f"pixel_curves_{name}", title, caption, pixel_curves(panels, looks), header, rows)


def example_rows(run: EvaluatedRun, name: str, output: Masks) -> dict[str, tuple[int, float]]:
    """{"best", "median", "worst": (row of the test images, its pixel F1)}, of all labels together.

    Of the images that have a label; with one or two of these not all three are there. 2·Σhit / (Σfound + Σtrue) over
    the labels that are known: hits of 30 and 0 pixels of 40 and 10 true ones, 40 and 0 found, are 60 / 90 = .67.
    """
    pixels = {
        what: np.array(
            [[float(v or 0) for v in run.column(name, f"{code}_{what}")] for code in output.labels.codes]
        ).sum(axis=0)
        for what in ("hit", "found", "true")
    }
    rows = np.flatnonzero(pixels["true"] > 0)
    if not len(rows):
        return {}
    f1 = 2 * pixels["hit"][rows] / (pixels["found"][rows] + pixels["true"][rows])
    order = rows[np.argsort(-f1, kind="stable")]
    scores = dict(zip(rows.tolist(), f1.tolist(), strict=True))
    places = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    chosen: dict[int, str] = {}
    for what, place in places.items():
        chosen.setdefault(int(order[place]), what)
    return {what: (row, scores[row]) for row, what in chosen.items()}


def examples_figure(
    gallery: Gallery, run: EvaluatedRun, name: str, output: Masks, data: str | None, cache: Path
) -> Item:
    """The test images with the best, the median and the worst pixel F1: picture, truth, what the network finds."""
    title = f"{name}: examples of {run.name}"
    chosen = example_rows(run, name, output)
    if not chosen:
        return Item(title, "Not shown: no test image is known to have any of the labels.")
    try:
        drawn = _drawn(run, name, output, chosen, data, cache)
    except RealMNetError as error:
        return Item(title, f"Not shown: {error}.")
    masks = [MaskFinding(name, "", label.code, label.name, ()) for label in output.labels.labels]
    legend = [Legend(mask.name, style.colour) for mask, style in styled(masks)]
    at = ", ".join(f"{code} {threshold:.2f}" for code, threshold in output.thresholds.items())
    caption = (
        "Of the test images that have any label those with the best, the median and the worst F1 of their pixels, all "
        f"labels together: the picture, what is true, and what the network finds at its threshold ({at}), on the "
        "picture in grey. Spots of a few pixels are drawn larger than they are; grey hatching: nothing is known there."
    )
    rows = [[what, str(run.names[row]), f"{f1:.6f}"] for what, (row, f1) in chosen.items()]
    key = f"examples_{name}_{run.name.replace('/', '_')}"
    header = ["example", "filename", "pixel F1"]
    return gallery.add(key, title, caption, overlays(drawn, legend), header, rows, photographs=True)


def _drawn(
    run: EvaluatedRun, name: str, output: Masks, chosen: Mapping[str, tuple[int, float]], data: str | None, cache: Path
) -> dict[str, Drawn]:
    """What `overlays` draws of each example.

    Raises:
        RealMNetError: the run holds no network, or its test images are not at hand.
    """
    model, recipe = network_of(run)
    images = scored_images(run, recipe, data, cache)
    from training.runs import predict  # Keras, which the rest does without
    from training.tasks.masks import enlarged, pixels_of_labels

    rows = np.array([row for row, _ in chosen.values()])
    some = images.select(rows)
    said = predict(model, some, recipe.batch_size)[name]
    found = {}
    for k, (what, (row, f1)) in enumerate(chosen.items()):
        truth = some.truth_of(name, slice(k, k + 1))[0]
        known, there = pixels_of_labels(output, truth)
        probability = enlarged(said[k][..., int(output.exclusive) :], truth.shape[0])
        masks = found_masks(output, np.where(known, probability, 0))
        heading = f"{what}\nF1 {f1:.3f}\n{run.names[row]}"
        if unknown := [code for j, code in enumerate(output.labels.codes) if not known[..., j].any()]:
            heading += f"\nnot known: {', '.join(unknown)}"
        found[heading] = Drawn(np.array(some.image(k)), there, masks.astype(np.bool_), np.asarray(known.any(axis=-1)))
    return found
