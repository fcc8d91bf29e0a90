"""All that is measured of a bundle's class maps, and its report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from export.contract.images import images_of_data
from export.explanations.curves import BLUR, ORDERS, STEPS, Curves, Seen, curves
from export.explanations.explained import Found, Network, found_maps, keras_network, other_maps
from export.explanations.means import text
from export.explanations.pictures import drawn_for
from export.explanations.pointing import Pointing, examples, pointing
from export.explanations.randomization import OTHER, Similarity, randomization
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.map_offset import FOUND
from keras_realmnet.screening.bundle.bundle import Bundle
from training.report.plots.class_maps import Example, class_maps
from training.report.plots.files import png
from training.report.plots.style import NEUTRAL, WIDTH, laid_out, legend, looks_of

__all__ = ["Explanations", "explanations", "figure", "tables", "write"]


@dataclass(frozen=True)
class Explanations:
    """What was measured of a bundle's class maps, and on what.

    `pointing` and `curves` by label and "all"; `randomization` by stage, empty where the bundle has no Keras model and
    no run was named. `examples`: maps of median probability, by label and kind, the lesion outlined.
    """

    bundle: str
    artifact: str
    data: str
    curve_data: str
    blur: float
    pointing: dict[str, Pointing]
    curves: dict[str, Curves]
    randomization: dict[str, Similarity]
    examples: dict[str, dict[str, Example | None]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        about = {name: getattr(self, name) for name in ("bundle", "artifact", "data", "curve_data")}
        measured = {
            name: {code: asdict(each) for code, each in getattr(self, name).items()}
            for name in ("pointing", "curves", "randomization")
        }
        return {**about, "curve_steps": STEPS, "blur": self.blur, **measured}


def explanations(
    bundle: Bundle,
    *,
    artifact: str | None = None,
    patients: int = 140,
    curve_maps: int = 60,
    blur: float = BLUR,
    data: Path | None = None,
    run: Path | None = None,
    replicates: int = 1000,
    threads: int | None = None,
) -> Explanations:
    """Measures the class maps of a bundle's engine.

    Args:
        artifact: of the bundle; its default one.
        patients: synthetic ones, whose pictures are drawn.
        curve_maps: so many maps, of each label as many, have insertion and deletion curves and are compared after
            randomization.
        blur: the standard deviation of the Gaussian that takes the label from a picture, of the square's side.
        data: a labelled folder, the test photographs of which have the curves, in the place of drawings.
        run: the finished run of which the bundle was made, where the bundle has no Keras model.
        replicates: for intervals; 0 for none.

    Raises:
        RealMNetError: a bundle without class maps of labels or for other images than are drawn here, a network that
            finds no label that has a lesion, or what `load_run` and `images_of_data` refuse.
    """
    network = Network.of_bundle(bundle, artifact, threads)
    drawn = drawn_for(bundle, patients)
    model = keras_network(bundle, run)
    found = found_maps(network, drawn.drawn(threads), other_maps(model))
    if not found:
        raise RealMNetError(f"{bundle.directory}: no label with a lesion is found on any of {drawn.description}")
    few = _dealt([each.code for each in found], curve_maps)
    chosen = [found[i] for i in few]
    if data is None:
        curve_data, seen = drawn.description, [_seen(each, network) for each in chosen]
    else:
        photographs = images_of_data(data, bundle)
        curve_data, seen = photographs.origin, _found_on(photographs, network, curve_maps)
        if not seen:
            raise RealMNetError(f"{bundle.directory}: no pathologic label is found on any image of {curve_data}")
    return Explanations(
        bundle=f"{bundle.name} {bundle.version}",
        artifact=bundle.artifact(artifact).name,
        data=drawn.description,
        curve_data=curve_data,
        blur=blur,
        pointing=pointing(found, replicates),
        curves=curves(network.answer, seen, replicates, blur),
        randomization={} if model is None else randomization(model, bundle.task, chosen, replicates),
        examples=examples(found),
    )


def _dealt(codes: Sequence[str], number: int) -> list[int]:
    """At most `number` indices, of each code as many as there are, the same for the same codes."""
    rng = np.random.default_rng(0)
    piles = [rng.permutation(np.flatnonzero(np.array(codes) == code)).tolist() for code in sorted(set(codes))]
    taken: list[int] = []
    while len(taken) < number and any(piles):
        taken += [pile.pop() for pile in piles if pile]
    return sorted(taken[:number])


def _seen(found: Found, network: Network) -> Seen:
    column = network.codes.index(found.code)
    return Seen(found.code, column, found.picture.patient, found.picture.square, found.shown)


def _found_on(images: Any, network: Network, number: int) -> list[Seen]:
    """The pathologic labels that are found on images whose lesions nobody outlined."""
    probabilities, maps = network.answer(images.pixels)
    columns = [network.codes.index(code) for code in network.pathologic]
    places = [(i, k) for i in range(len(probabilities)) for k in columns if probabilities[i, k] >= FOUND]
    chosen = (places[each] for each in _dealt([network.codes[k] for _, k in places], number))
    return [Seen(network.codes[k], k, str(images.patients[i]), images.pixels[i], maps[i, ..., k]) for i, k in chosen]


def tables(found: Explanations) -> list[Table]:
    """To print."""
    first = next(iter(found.pointing.values()))
    made = []
    for title, name in (("that point at the lesion", "hits"), ("whose energy lies in the lesion", "energy")):
        table = _table(f"maps {title}, shares: {found.bundle}, {found.data}", "label", "maps", "patients", *first.hits)
        for code, of in found.pointing.items():
            table.add_row(code, f"{of.maps}", f"{of.patients}", *map(text, getattr(of, name).values()))
        made.append(table)
    for name in ("deletion", "insertion"):
        better = "lower" if name == "deletion" else "higher"
        table = _table(
            f"area under the curve of {name} ({better} is better): {found.curve_data}",
            *("label", "maps", "sharp", "blurred", *ORDERS, *(f"map − {other}" for other in ORDERS[1:])),
        )
        for code, each in found.curves.items():
            areas = [*getattr(each, name).values(), *getattr(each, f"{name}_differences").values()]
            ends = (f"{each.maps}", f"{each.sharp:.2f}", f"{each.blurred:.2f}")
            table.add_row(code, *ends, *map(text, areas))
        made.append(table)
    table = _table("maps after the weights were put in disorder", "layers", "maps", "Spearman", "SSIM", "on the lesion")
    for stage, similar in found.randomization.items():
        name = stage if stage == OTHER else f"{stage} ({similar.layers})"
        table.add_row(name, f"{similar.maps}", text(similar.spearman), text(similar.ssim), text(similar.hits))
    return [*made, table] if found.randomization else made


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


@laid_out
def figure(found: Explanations) -> Figure:
    """Deletion and insertion by order, over all maps, and what randomization leaves of the maps."""
    panels = 3 if found.randomization else 2
    drawing = Figure((WIDTH, 2.6), layout="constrained")
    axes = drawing.subplots(1, panels, squeeze=False)[0]
    of_all, looks = found.curves["all"], looks_of(ORDERS)
    changed = np.linspace(0, 1, STEPS + 1)
    for axis, name, done in zip(axes, ("deletion", "insertion"), ("blurred", "sharp again"), strict=False):
        for order, look in looks.items():
            curve = getattr(of_all, f"{name}_curve")[order]
            axis.plot(changed, curve, color=look.colour, marker=look.marker, markersize=2.5, label=order)
        areas = ", ".join(f"{order} {area.value:.2f}" for order, area in getattr(of_all, name).items())
        axis.set(title=name, ylim=(0, 1))
        axis.set_xlabel(f"share of the field {done}\narea: {areas}", fontsize=7)
        axis.grid(axis="y")
    axes[0].set_ylabel("mean probability")
    legend(drawing, axes[0], looks)
    if found.randomization:
        stages = {name: each for name, each in found.randomization.items() if name != OTHER}
        places = range(len(stages))
        measures = (("spearman", "Spearman"), ("ssim", "SSIM"), ("hits", "on the lesion"))
        for (name, title), look in zip(measures, looks_of([n for n, _ in measures]).values(), strict=True):
            values = [getattr(each, name).value for each in stages.values()]
            axes[2].plot(places, values, color=look.colour, marker=look.marker, linestyle=look.dash, label=title)
        if OTHER in found.randomization:
            other = found.randomization[OTHER].spearman.value
            axes[2].axhline(other, color=NEUTRAL, linestyle=":", linewidth=1, label="Spearman, of another picture")
        axes[2].set_xticks(places, list(stages), rotation=35, ha="right")
        axes[2].set(title="weights in disorder", ylim=(min(0.0, axes[2].get_ylim()[0]), 1.05))
        axes[2].grid(axis="y")
        drawing.legend(*axes[2].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=7)
    return drawing


def write(found: Explanations, folder: Path) -> None:
    """explanations.json, curves.png, and examples.png with an example of each label."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explanations.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n")
    (folder / "curves.png").write_bytes(png(figure(found)))
    (folder / "examples.png").write_bytes(png(class_maps(found.examples)))
