"""The figure of points: how many pictures have them within a distance."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_realmnet.tasks.outputs import Points
from training.report.gallery import Gallery, Item
from training.report.plots.predictions import distance_curves
from training.report.plots.style import Look
from training.scoring.evaluated_runs import EvaluatedRun

__all__ = ["distances_figure"]


def distances_figure(
    gallery: Gallery, runs: Sequence[EvaluatedRun], name: str, output: Points, looks: Mapping[str, Look]
) -> Item:
    """The share of the test images within each distance, a panel for each point."""
    title = f"{name}: distances"
    panels = {}
    for label in output.labels.labels:
        of_runs = {}
        for run in runs:
            known = np.array([float(value or "nan") for value in run.column(name, f"{label.code}_distance")])
            of_runs[run.name] = np.sort(known[~np.isnan(known)])
        panels[f"{label.code} {label.name}"] = of_runs
    if not any(len(values) for of_runs in panels.values() for values in of_runs.values()):
        return Item(title, "Not shown: no place of a point in a test image is known.")
    rows = [[run, panel, value] for panel, found in panels.items() for run, values in found.items() for value in values]
    caption = (
        "The share of the test images whose point, where its place is known, lies within a distance, in shares of the "
        "side of the network's square; the number is the median."
    )
    figure = distance_curves(panels, looks)
    return gallery.add(f"distances_{name}", title, caption, figure, ["run", "point", "distance"], rows)
