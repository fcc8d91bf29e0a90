"""How well the gate of quality tells faults: phantoms with graded degradations, and each verdict's margin.

    python -m training.benchmarks.gradability --out docs/figures/gradability.jpg

A picture counts as lost from an amount on that `training.phantoms.degradations` names. For each degradation and kind of
picture it prints the area under the ROC curve of the margin (see `quality.margin`) against that, with a 95 % interval
by bootstrap over phantoms; in how many phantoms a stronger fault passed where a weaker one was refused; and how many
pictures were refused at each strength. The picture shows one phantom and these shares.

    python -m training.benchmarks.gradability --pictures PICTURES --modality colour_fundus --needs macula

counts the verdicts on the pictures of folders instead, and what they were refused for.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from sklearn.metrics import roc_auc_score

from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.causes import cause
from keras_realmnet.screening.image_io import may_be_image, read_image
from keras_realmnet.screening.quality import MODALITIES, MODALITY_NAMES, REDUCED_SIZE, assess, margin
from training.phantoms.degradations import DEGRADATIONS, STRENGTHS, degraded

__all__ = ["Graded", "gradability", "rows_of", "verdicts"]

RESAMPLES = 200


@dataclass(frozen=True)
class Graded:
    """One degradation on phantoms of a kind of picture, at strengths 0 to 10.

    margins: float (phantoms, 11). refused: bool (phantoms, 11).
    """

    modality: str
    kind: str
    margins: np.ndarray
    refused: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """Which strengths count as lost, bool (11,)."""
        return np.array([DEGRADATIONS[self.kind].is_lost(strength) for strength in (0, *STRENGTHS)])

    def auroc(self, phantoms: np.ndarray | None = None) -> float:
        """Of the margin against what is lost; `phantoms`: which, as indices."""
        margins = self.margins if phantoms is None else self.margins[phantoms]
        return float(roc_auc_score(np.tile(self.lost, len(margins)), -margins.ravel()))

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 %, by bootstrap over phantoms."""
        rng, count = np.random.default_rng(seed), len(self.margins)
        drawn = [self.auroc(rng.integers(count, size=count)) for _ in range(RESAMPLES)]
        return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))

    @property
    def not_monotone(self) -> int:
        """Phantoms that pass at some strength and are refused at a weaker one."""
        return int((self.refused[:, :-1] & ~self.refused[:, 1:]).any(axis=1).sum())


def rows_of(
    kind: str, modality: str, phantoms: int, width: int, strengths: tuple[int, ...] = (0, *STRENGTHS)
) -> Graded:
    """Phantoms of seeds from 1000 on, none of which set a limit, judged at each strength."""
    needs = ("macula",) if kind == "decentred" else ()
    margins, refused = [], []
    for seed in range(1000, 1000 + phantoms):
        judged = [
            assess(degraded(kind, each, seed, modality, width), None, modality, needs) for each in (0, *STRENGTHS)
        ]
        margins.append([margin(each.measures, modality) for each in judged])
        refused.append([each.verdict != "gradable" for each in judged])
    return Graded(modality, kind, np.array(margins), np.array(refused))


def gradability(phantoms: int, width: int) -> list[Graded]:
    """All degradations on all kinds of pictures; only a photograph can be decentred."""
    pairs = [(kind, modality) for modality in MODALITIES for kind in DEGRADATIONS]
    return [rows_of(*each, phantoms, width) for each in pairs if each != ("decentred", "uwf_red_green")]


def verdicts(folder: Path, modality: str, needs: Sequence[str] = ()) -> tuple[Counter[str], Counter[str]]:
    """How often each verdict was on the pictures of a folder, and each cause of a refusal. Raises as `read_image`."""
    said, causes = Counter[str](), Counter[str]()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and may_be_image(path)):
        image = read_image(file, min_side=REDUCED_SIZE)
        quality = assess(image.pixels, image.source, modality, needs)
        said[quality.verdict] += 1
        causes.update(cause(reason) for reason in quality.reasons)
    return said, causes


def _counted(folders: Sequence[Path], modality: str, needs: Sequence[str]) -> str:
    lines = [
        "| folder | pictures | gradable | insufficient | not analysed | refused for |",
        "|---|---|---|---|---|---|",
    ]
    for folder in folders:
        if not folder.is_dir():
            raise RealMNetError(f"{folder}: a folder of pictures expected")
        said, causes = verdicts(folder, modality, needs)
        counts = " | ".join(str(said[each]) for each in ("gradable", "insufficient", "not_analysed"))
        reasons = ", ".join(f"{reason} ({count})" for reason, count in causes.most_common())
        lines.append(f"| {folder.name} | {said.total()} | {counts} | {reasons} |")
    return "\n".join(lines)


def _table(found: list[Graded]) -> str:
    lines = [
        "| picture | degradation | lost above | AUROC (95 % interval) | not monotone | refused at 0, 1, … 10, % |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        fault = DEGRADATIONS[each.kind]
        low, high = each.interval()
        shares = " ".join(f"{100 * share:.0f}" for share in each.refused.mean(axis=0))
        lines.append(
            f"| {MODALITY_NAMES[each.modality]} | {each.kind} | {fault.lost:g} {fault.unit} | "
            f"{each.auroc():.3f} ({low:.3f}–{high:.3f}) | {each.not_monotone} of {len(each.margins)} | {shares} |"
        )
    return "\n".join(lines)


def _figure(found: list[Graded], path: Path, width: int) -> None:
    from matplotlib.figure import Figure

    shown = (0, 2, 4, 6, 8, 10)
    figure = Figure(figsize=(11, 1.3 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), len(shown) + 1, width_ratios=[1] * len(shown) + [1.6])
    for row, each in zip(axes, found, strict=True):
        for axis, strength in zip(row, shown, strict=False):
            image = degraded(each.kind, strength, 1000, each.modality, width)
            axis.imshow(cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set(color="firebrick" if each.refused[0, strength] else "seagreen", linewidth=3)
        row[0].set_ylabel(f"{each.kind}\n{'UWF' if each.modality == MODALITIES[0] else 'photograph'}")
        row[-1].plot((0, *STRENGTHS), 100 * each.refused.mean(axis=0), "o-", color="black", markersize=3)
        row[-1].axvspan(np.flatnonzero(each.lost)[0] - 0.5, 10, color="firebrick", alpha=0.12)
        row[-1].set(ylim=(-5, 105), xlim=(0, 10), yticks=(0, 50, 100))
        row[-1].tick_params(labelsize=7)
    for axis, strength in zip(axes[0], shown, strict=False):
        axis.set_title(f"strength {strength}", fontsize=9)
    axes[0][-1].set_title("refused, %; shaded: lost", fontsize=9)
    figure.savefig(path, dpi=80)


app = typer.Typer(help="How well the gate of quality tells faults.", rich_markup_mode="rich")


@app.command()
def main(
    phantoms: Annotated[int, typer.Option(min=1, help="Phantoms for each degradation and kind of picture.")] = 24,
    width: Annotated[int, typer.Option(min=200, help="Of a picture, in pixels.")] = 512,
    out: Annotated[Path | None, typer.Option(help="Where the picture goes; none is drawn without.")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option(help="Folder of pictures to judge instead; repeatable.")
    ] = None,
    modality: Annotated[str, typer.Option(help=f"Of these pictures: {', '.join(MODALITIES)}.")] = "colour_fundus",
    needs: Annotated[list[str] | None, typer.Option(help="What these pictures must show: macula.")] = None,
) -> None:
    """Degrade phantoms and print how well the gate's margin tells what is lost; or count verdicts on pictures."""
    if pictures:
        print(_counted(pictures, modality, needs or ()))
        return
    found = gradability(phantoms, width)
    print(_table(found))
    if out is not None:
        _figure(found, out, width)


if __name__ == "__main__":
    sys.exit(run(app, "python -m training.benchmarks.gradability"))
