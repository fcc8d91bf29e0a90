"""The figures of the page about where a guided network looks: its activation maps beside the marked regions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.guidance import guided_labels
from training.report.gallery import Gallery, Item
from training.report.plots.activation_maps import Mapped, activation_maps
from training.report.run_images import network_of, scored_images
from training.scoring.evaluated_runs import Run

__all__ = ["activation_map_figures", "found_and_missed"]

Array = NDArray[Any]


def activation_map_figures(gallery: Gallery, run: Run, data: str | None, cache: Path) -> list[Item]:
    """For each output of marked regions and each of its labels examples that are found, and one that is missed."""
    assert run.task is not None
    items = []
    for name, labels in guided_labels(run.task.outputs).items():
        for k, code in enumerate(run.task.trained[name].labels.codes):
            title = f"Activation maps of {run.name}: {code}"
            threshold = run.scored["outputs"][name]["counts"][code].get("threshold")
            air = np.array([float(value or "nan") for value in run.column(name, f"{code}_air")])
            true, score = ([float(v or "nan") for v in run.column(labels, column)] for column in (f"true_{code}", code))
            chosen = found_and_missed(np.array(true), np.array(score), air, threshold)
            if not chosen:
                items.append(Item(title, "Not shown: no test image with the finding has marked regions."))
                continue
            try:
                drawn = _drawn(run, name, k, chosen, air, data, cache)
            except RealMNetError as error:
                items.append(Item(title, f"Not shown: {error}."))
                continue
            rows = [[what, str(run.names[row]), f"{score[row]:.6f}", f"{air[row]:.6f}"] for what, row in chosen.items()]
            caption = (
                "Of the test images with the finding that are found those with the largest, median and smallest "
                "activation in region (AIR), the share of the map's sum that lies in the regions in which annotators "
                "marked it; and the one that is missed by most. Found: by the threshold with the best harmonic mean of "
                "sensitivity and specificity. The map is enlarged bilinearly, blurred, and drawn from its smallest "
                "value to its largest."
            )
            key = f"activation_maps_{code}_{run.name.replace('/', '_')}"
            header = ["example", "filename", "probability", "AIR"]
            items.append(gallery.add(key, title, caption, activation_maps(drawn), header, rows, photographs=True))
    return items


def found_and_missed(true: Array, score: Array, air: Array, threshold: float | None) -> dict[str, int]:
    """{"found, largest AIR", "found, median", "found, smallest", "missed": row}, each only where there is one.

    Args:
        true, score, air: (n,), NaN where not known. threshold: from which the finding is found; None: there is none.
    """
    with_regions = (true == 1) & ~np.isnan(air)
    found = np.flatnonzero(with_regions & (score >= (np.inf if threshold is None else threshold)))
    missed = np.flatnonzero(with_regions & (score < (-np.inf if threshold is None else threshold)))
    order = found[np.argsort(-air[found], kind="stable")]
    chosen: dict[int, str] = {}
    if len(order):
        places = {"found, largest AIR": 0, "found, median": (len(order) - 1) // 2, "found, smallest": len(order) - 1}
        for what, place in places.items():
            chosen.setdefault(int(order[place]), what)
    if len(missed):
        chosen[int(missed[np.argmin(score[missed])])] = "missed"
    return {what: row for row, what in chosen.items()}


def _drawn(
    run: Run, name: str, label: int, chosen: Mapping[str, int], air: Array, data: str | None, cache: Path
) -> dict[str, Mapped]:
    """What `activation_maps` draws of each example.

    Raises:
        RealMNetError: the run holds no network, or its test images are not at hand.
    """
    model, recipe = network_of(run)
    images = scored_images(run, recipe, data, cache)
    from training.runs import predict  # Keras, which the rest does without

    some = images.select(np.array(list(chosen.values())))
    said = predict(model, some, recipe.batch_size)[name][..., label]
    truth = some.truth_of(name)[..., label]
    return {
        f"{what}\nAIR {air[row]:.3f}\n{run.names[row]}": Mapped(np.array(some.image(k)), truth[k] == 1, said[k])
        for k, (what, row) in enumerate(chosen.items())
    }
