"""The ablations and parameter studies of the paper: each a named list of variants that state only what differs.

`run_sweep` trains every variant of a base recipe that is not finished yet, one after the other, and tabulates what is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_realmnet.errors import RealMNetError
from training.data.psmm import ORIGINAL_TRAIN
from training.data.resampling import METHODS, Resampling
from training.datasets.data_set import DataSet
from training.datasets.found.psmm import PsmmDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.studies.score_rows import write_rows

__all__ = ["SWEEPS", "Sweep", "run_sweep", "variants"]

Differences = Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """`question`: what it answers. `variants`: name → fields of `Recipe` that differ from the base recipe.

    A value that is a function gets the base recipe's value and gives the variant's.
    """

    question: str
    variants: Mapping[str, Differences]


def _asymmetric(gamma_pos: float, gamma_neg: float, margin: float = 0.0) -> Differences:
    options = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "margin": margin}
    return {"loss": "AsymmetricLoss", "loss_options": options}


def _two_way(positive: float, negative: float) -> Differences:
    options = {"positive_temperature": positive, "negative_temperature": negative}
    return {"loss": "TwoWayLoss", "loss_options": options}


def _without(*operations: str) -> Callable[[Augmentation], Augmentation]:
    off: dict[str, Any] = dict.fromkeys(operations, 0.0)
    return lambda augmentation: replace(augmentation, **off)


def _sized(size: int) -> Callable[[tuple[Phase, ...]], tuple[Phase, ...]]:
    """The phases with the last one at another size; those before it grow or shrink along, in steps of 32."""
    return lambda phases: tuple(
        replace(phase, size=max(32, round(phase.size * size / phases[-1].size / 32) * 32)) for phase in phases
    )


def _not_resampled(data: DataSet) -> DataSet:
    """The training list that the public, resampled one was made from."""
    return replace(data, train_list=ORIGINAL_TRAIN) if isinstance(data, PsmmDataSet) else data


def _frozen(stages: int) -> Differences:
    return {"model_options": lambda options: {**options, "frozen_stages": stages}}


_GEOMETRY = ("affine", "horizontal_flip", "vertical_flip")
_COLOUR = ("blur", "jitter", "noise")

# RealMNet (npj Digital Medicine 2025), supplementary tables; values as far as SPECS of the paper give them.
SWEEPS: dict[str, Sweep] = {
    "loss": Sweep(
        "Which loss?",
        {
            "bce": {"loss": "BinaryCrossentropy", "loss_options": {"alpha": 0.5}},
            "focal": {"loss": "FocalLoss", "loss_options": {"alpha": 0.5, "gamma": 2.0}},
            "two_way": _two_way(4.0, 1.0),
            "asymmetric": _asymmetric(3.0, 4.0),
        },
    ),
    "alpha": Sweep(
        "How much weight for the positives in the balanced cross-entropy?",
        {
            f"{a:g}": {"loss": "BinaryCrossentropy", "loss_options": {"alpha": a}}
            for a in (0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
        },
    ),
    "gamma": Sweep(
        "How much focusing in the focal loss?",
        {
            f"{g:g}": {"loss": "FocalLoss", "loss_options": {"alpha": 0.5, "gamma": g}}
            for g in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
        },
    ),
    "asymmetric_gammas": Sweep(
        "How much focusing on positives and negatives in the asymmetric loss?",
        {
            f"{p:g}-{n:g}": _asymmetric(p, n)
            for p, n in ((0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (2, 3), (2, 4), (3, 4), (4, 4))
        },
    ),
    "margin": Sweep(
        "Which negatives cost nothing in the asymmetric loss?",
        {f"{m:g}": _asymmetric(3.0, 4.0, m) for m in (0.0, 0.05, 0.1, 0.2)},
    ),
    "temperatures": Sweep(
        "Which temperatures in the two-way loss?",
        {f"{p:g}-{n:g}": _two_way(p, n) for p in (1.0, 2.0, 4.0) for n in (1.0, 2.0, 4.0)},
    ),
    "head": Sweep(
        "Residual attention or pooling?",
        {"residual_attention": {"head": "residual_attention"}, "linear": {"head": "linear", "head_options": {}}},
    ),
    "lam": Sweep(
        "How strong a residual attention?",
        {f"{lam:g}": {"head_options": {"num_heads": 2, "lam": lam}} for lam in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)},
    ),
    "num_heads": Sweep(
        "How many attention heads?",
        {str(heads): {"head_options": {"num_heads": heads, "lam": 1.2}} for heads in (1, 2, 4, 6, 8)},
    ),
    "resampling": Sweep(
        "Which resampling of the training images?",
        {
            method: {"data": _not_resampled, "resampling": None if method == "none" else Resampling(method)}
            for method in ("none", *METHODS)
        },
    ),
    "augmentation": Sweep(
        "What does each part of the augmentation bring?",
        {
            "all": {},
            "none": {"augmentation": lambda _: Augmentation.none()},
            "without_geometry": {"augmentation": _without(*_GEOMETRY)},
            "without_colour": {"augmentation": _without(*_COLOUR)},
            "without_erasing": {"augmentation": _without("erase")},
            "without_mixing": {"augmentation": _without("mixup", "cutmix")},
        },
    ),
    "drop_path": Sweep(
        "How much stochastic depth?", {f"{rate:g}": {"drop_path_rate": rate} for rate in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}
    ),
    "frozen_stages": Sweep(
        "How many stages can keep their first weights?", {str(stages): _frozen(stages) for stages in range(5)}
    ),
    "resolution": Sweep("Which input size?", {str(size): {"phases": _sized(size)} for size in (224, 384, 512)}),
    "scratch": Sweep("Does pretraining matter?", {"pretrained": {}, "scratch": {"weights": None}}),
    "label_efficiency": Sweep(
        "How many patients does it take?",
        {f"{share:g}": {"train_share": share} for share in (0.2, 0.4, 0.6, 0.8, 1.0)},
    ),
}


def variants(name: str, base: Recipe) -> dict[str, Recipe]:
    """The recipes of a sweep: variant → `base` with its differences. Raises ValueError that lists the sweeps."""
    if name not in SWEEPS:
        raise ValueError(f"sweep must be one of {', '.join(SWEEPS)}. Received: {name!r}")
    recipes = {}
    for variant, differences in SWEEPS[name].variants.items():
        values = {key: value(getattr(base, key)) if callable(value) else value for key, value in differences.items()}
        recipes[variant] = replace(base, name=f"{base.name}-{name}-{variant}", **values)
    return recipes


def run_sweep(
    name: str,
    base: Recipe,
    out: Path,
    train: Callable[[Recipe, Path], object],
    only: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Trains the variants of a sweep that have no scores yet and writes `out/sweep.csv` after each of them.

    Args:
        train: what trains a recipe into a folder and leaves scores.json there; `training.fitting.fit.fit`.
        only: the variants wanted; none: all.

    Raises:
        RealMNetError: a variant of `only` that does not exist.
    """
    recipes = variants(name, base)
    unknown = [variant for variant in only if variant not in recipes]
    if unknown:
        raise RealMNetError(f"variants of {name} are {', '.join(recipes)}. Received: {', '.join(unknown)}")
    for variant in only or recipes:
        folder = out / variant
        if (folder / "scores.json").is_file():
            print(f"{name} {variant}: done before ({folder})")
            continue
        print(f"{name} {variant}: training into {folder}")
        train(recipes[variant], folder)
        tabulate(out, list(recipes))
    return tabulate(out, list(recipes))


def tabulate(out: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per finished run in the folders `out/name`, written to `out/sweep.csv`: scores with their intervals."""
    rows = []
    for name in names:
        file = out / name / "scores.json"
        if file.is_file():
            row: dict[str, Any] = {"variant": name}
            for score, interval in json.loads(file.read_text())["scores"].items():
                row |= {score: interval["value"], f"{score}_low": interval["low"], f"{score}_high": interval["high"]}
            rows.append(row)
    write_rows(out / "sweep.csv", rows)
    return rows
