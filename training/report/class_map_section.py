"""The figures of the page about where a network looks: its class maps on extreme examples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.guidance import guided_labels
from training.report.activation_map_section import activation_map_figures
from training.report.gallery import Gallery, Item
from training.report.plots.class_maps import Example, class_maps
from training.report.run_images import network_of, scored_images
from training.scoring.evaluated_runs import Run

if TYPE_CHECKING:
    from keras_realmnet.models.map_offset import MapOffset

__all__ = ["class_map_figures", "examples"]

Array = NDArray[Any]

THRESHOLD = 0.5  # RealMNet: at or above it a label counts as predicted
OFFSET_IMAGES = 256  # of the test set, from which the offset of class maps is measured


def class_map_figures(gallery: Gallery, run: Run, data: str | None, cache: Path) -> list[Item]:
    """What the box shows, and the publication's Grad-CAM++, of the same images; of a guided network its own maps."""
    if run.task is not None and guided_labels(run.task.outputs):
        return activation_map_figures(gallery, run, data, cache)
    title = f"Class maps of {run.name}"
    try:
        rows, chosen, offset = _mapped_examples(run, data, cache)
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
        gallery.add(*text, class_maps(rows[explanation]), columns, table, photographs=True)
        for explanation, text in texts.items()
    ]


def _mapped_examples(
    run: Run, data: str | None, cache: Path
) -> tuple[dict[str, dict[str, dict[str, Example | None]]], dict[str, dict[str, int | None]], "MapOffset"]:
    """By explanation, class and kind the example with its map; its row among the test images; the maps' offset.

    Raises:
        RealMNetError: the run holds no network with class maps, or its test images are not at hand.
    """
    model, recipe = network_of(run)
    if not hasattr(model, "inference_model"):
        raise RealMNetError(f"{model.name} has no class maps; RealMNet has")
    images = scored_images(run, recipe, data, cache)
    from keras_realmnet.models.layers.heads import EXPLANATIONS  # Keras, which the rest does without
    from keras_realmnet.models.map_offset import measure_map_offset

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
