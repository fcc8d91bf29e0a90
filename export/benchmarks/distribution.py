"""How well the distance of features tells pictures that a network knows from others.

    python -m export.benchmarks.distribution bundles/palm-lite --same palm224/val --every-second \
        --near idrid=idrid_fovea_dr/images --far uwf=uwf_av_wide/images
    python -m export.benchmarks.distribution bundles/realmnet-demo --recipe phantom_5m_224 --near uwf=uwf_av_wide/images

Of the bundle's reference, with the engine of its default model: the area under the ROC curve, and the share of other
pictures that pass where 95 % of the same do (FPR at 95 % TPR), each with a 95 % percentile interval of 1,000 resamples
of the pictures of both. All are looked at, also those that the box refuses before any network sees them, which are
counted: "gradable" ones alone reach it. To the far ones belong pieces of two photographs that come with scikit-learn,
and printed text.
"""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from export.bundling.reference_pictures import (
    Picture,
    drawn_data,
    drawn_pictures,
    files_in,
    open_with_features,
    read_pictures,
)
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.screening.runtimes import Runtime

__all__ = ["Told", "altered", "distances_of", "other_pictures", "tell_apart"]

RESAMPLES = 1000
TEXTS = 40
# What another camera, its lens or its export does to a picture.
ALTERATIONS = ("less green", "more blue", "blurred", "dark rim", "brighter", "noisy")


@dataclass(frozen=True)
class Told:
    """auroc, fpr: (value, low, high)."""

    auroc: tuple[float, float, float]
    fpr: tuple[float, float, float]


def tell_apart(same: NDArray[np.floating], other: NDArray[np.floating], seed: int = 0) -> Told:
    """How well distances (n,) and (m,) tell pictures apart; a larger one speaks for another."""
    rng = np.random.default_rng(seed)
    larger = (other > same[:, None]) + 0.5 * (other == same[:, None])
    auroc, fpr = [float(larger.mean())], [_passing(same, other)]
    for _ in range(RESAMPLES):
        rows, columns = rng.integers(len(same), size=len(same)), rng.integers(len(other), size=len(other))
        auroc.append(float(larger[rows][:, columns].mean()))
        fpr.append(_passing(same[rows], other[columns]))
    return Told(*((each[0], *np.quantile(each[1:], (0.025, 0.975)).tolist()) for each in (auroc, fpr)))


def _passing(same: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float((other <= np.quantile(same, 0.95)).mean())


def distances_of(pictures: Iterable[Picture], bundle: Bundle, runtime: Runtime) -> tuple[NDArray[np.float64], int]:
    """The distances (n,) of all pictures, and how many of them are gradable. Raises RealMNetError for none."""
    reference = bundle.task.reference
    if reference is None:
        raise RealMNetError(f"{bundle.directory}: no reference; `python -m export reference` makes one")
    features, gradable = [], 0
    for pixels, source in pictures:
        features.append(runtime.predict(preprocess(pixels, bundle.spec)[0][None])[reference.output][0])
        gradable += assess(pixels, source, bundle.task.modality).verdict == "gradable"
    if not features:
        raise RealMNetError("no pictures")
    return reference.distance(np.stack(features)), gradable


def altered(pixels: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """A picture as another camera might show it; `kind`: one of `ALTERATIONS`."""
    height, width = pixels.shape[:2]
    values: NDArray[np.floating] = pixels.astype(np.float32)
    if kind == "less green":
        values *= np.array([1.1, 0.75, 1], np.float32)
    elif kind == "more blue":
        values[..., 2] += 0.08 * values[..., 1]
    elif kind == "blurred":
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), max(height, width) / 250))
    elif kind == "dark rim":
        y, x = np.mgrid[:height, :width]
        values *= (1 - 1.4 * ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2))[..., None]
    elif kind == "brighter":
        values = 255 * (values / 255) ** 0.7
    elif kind == "noisy":
        noise = np.random.default_rng(0).normal(0, 8, values.shape)
        values += noise * (values.max(axis=2, keepdims=True) > 16)
    else:
        raise ValueError(f"`kind` must be one of {', '.join(ALTERATIONS)}. Received: {kind!r}")
    return np.clip(values, 0, 255).astype(np.uint8)


def other_pictures() -> Iterator[Picture]:
    """Pieces of a photograph of a temple and of one of a flower (scikit-learn), and printed text."""
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        yield np.ascontiguousarray(photograph), None
        for side, step in ((300, 150), (200, 200)):
            for y in range(0, height - side + 1, step):
                for x in range(0, width - side + 1, step):
                    yield np.ascontiguousarray(photograph[y : y + side, x : x + side]), None
    lines = textwrap.wrap((Path(__file__).parents[2] / "LICENSE").read_text(), 48)
    for n in range(TEXTS):
        light = n % 2 == 0
        page = np.full((600, 800, 3), (255, 255, 255) if light else (20, 20, 60), np.uint8)
        for k, line in enumerate(lines[5 * n :][:20]):
            ink = (0, 0, 0) if light else (240, 230, 120)
            cv2.putText(page, line, (10, 30 + 28 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ink, 2)
        yield page, None


def main(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    same: Annotated[list[Path] | None, typer.Option(help="Pictures like those of the reference.")] = None,
    every_second: Annotated[bool, typer.Option(help="Of them those that `export reference` holds out.")] = False,
    recipe: Annotated[str | None, typer.Option(help="Or a recipe that draws them: its test split.")] = None,
    near: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of other cameras or diseases.")] = None,
    far: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of other kinds of pictures.")] = None,
) -> None:
    if (same is None) == (recipe is None):
        raise typer.BadParameter("--same or --recipe: one of the two")
    bundle = Bundle.load(directory)
    _, runtime = open_with_features(bundle)
    if recipe is not None:
        known: Iterable[Picture] = drawn_pictures(drawn_data(recipe), "test", 10**6)
    else:
        files = list(files_in(same or []))
        known = read_pictures(files[1::2] if every_second else files, bundle)
    known = list(known)
    usual, gradable = distances_of(known, bundle, runtime)
    reference = bundle.task.reference
    assert reference is not None
    print(f"same: {len(usual)}, {gradable} gradable; {(usual > reference.threshold).mean():.1%} above the threshold")
    for group, named in (("near", near), ("far", far)):
        found: dict[str, tuple[NDArray[np.float64], int]] = {}
        for name, _, folder in (each.partition("=") for each in named or []):
            found[name] = distances_of(read_pictures(files_in([Path(folder)]), bundle), bundle, runtime)
        if group == "far":
            found["photographs of other things, text"] = distances_of(other_pictures(), bundle, runtime)
        if group == "near":
            for kind in ALTERATIONS:
                changed = ((altered(pixels, kind), source) for pixels, source in known)
                found[f"altered: {kind}"] = distances_of(changed, bundle, runtime)
        real = {name: each for name, each in found.items() if not name.startswith("altered")}
        if len(real) > 1:
            together = np.concatenate([each[0] for each in real.values()])
            found[f"{group}, together"] = together, sum(each[1] for each in real.values())
        for name, (distances, passed) in found.items():
            told = tell_apart(usual, distances)
            auroc, fpr = ("{:.3f} ({:.3f}–{:.3f})".format(*values) for values in (told.auroc, told.fpr))
            print(f"{group}: {name}: {len(distances)}, {passed} gradable; AUROC {auroc}, FPR at 95 % {fpr}")


if __name__ == "__main__":
    typer.run(main)
