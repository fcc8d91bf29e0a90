"""Scores and comparisons as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.points import LOWER_IS_BETTER
from training.scoring.statistics.bootstrap import PAPER_SIZE, Interval
from training.scoring.statistics.scores import HEADLINE, LOSSES, PER_LABEL

__all__ = [
    "print_challenge",
    "print_comparison",
    "print_differences",
    "print_level",
    "print_outputs",
    "print_scores",
]


def print_level(title: str, level: Mapping[str, Any], bootstrap: Mapping[str, Any], label_set: LabelSet) -> None:
    """What `score_level` returned, as tables on the terminal: the main scores, then F1, AP and AUROC of each label."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    scores = {name: Interval(**fields) for name, fields in level["scores"].items()}
    if scores:
        paper = bootstrap["unit"] == "paper"
        main = Table(title=title, caption=_caption(bootstrap))
        for column in ("score", "value", "replicates", *(["±, points"] if paper else [])):
            main.add_column(column, justify="right" if column in ("replicates", "±, points") else "left")
        for name in (name for name in HEADLINE if name in scores):
            found = scores[name]
            # RealMNet's tables: standard deviation over √1000, in points.
            error = [f"{100 * found.sd / np.sqrt(PAPER_SIZE):.3f}" if found.sd is not None else ""] if paper else []
            main.add_row(_with_arrow(name), str(found), str(found.replicates), *error)
        console.print(main)
        labels = Table(title="per label")
        for column in ("label", "F1", "AP", "AUROC"):
            labels.add_column(column)
        for code in label_set.codes:
            labels.add_row(code, *(_short(scores[f"{metric}_{code}"]) for metric in PER_LABEL))
        console.print(labels)
    for note in level["notes"]:
        console.print(note)


def print_scores(result: Mapping[str, Any], label_set: LabelSet) -> None:
    """What `evaluate` found, as tables on the terminal; of eyes and patients, one line each."""
    from rich.console import Console

    console = Console()
    title = f"{result['data']}: {result['images']} test images of {result['patients']} patients"
    print_level(title, result["image"], result["bootstrap"], label_set)
    for level in ("eye", "patient"):
        scores = {name: Interval(**fields) for name, fields in result[level]["scores"].items()}
        if scores:
            some = ", ".join(f"{name} {scores[name]}" for name in ("macro_f1", "macro_auroc", "pathologic_auroc"))
            console.print(f"{result[level]['cases']} {level}s: {some}")
    if result["operating_point"]:
        console.print(f"thresholds {result['operating_point']['thresholds']}: {result['operating_point']['chosen']}")
        if result["thresholds_chosen_on_test"]:
            console.print("sensitivity and specificity are optimistic: the thresholds were chosen on the same images")


def print_outputs(result: Mapping[str, Any]) -> None:
    """What `evaluate` found of the outputs of a network, a table each, on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{result['data']}: {result['images']} test images of {result['patients']} patients")
    for name, output in result["outputs"].items():
        table = Table(title=f"{name} ({output['kind']} {output['vocabulary']})", caption=_caption(result["bootstrap"]))
        for column in ("score", "value"):
            table.add_column(column)
        for score, fields in output["scores"].items():
            table.add_row(_with_arrow(score), str(Interval(**fields)))
        console.print(table)
        if (chosen := result.get("mask_thresholds", {}).get(name)) is not None:
            console.print(f"thresholds {chosen['thresholds']}: {chosen['chosen']}")


def print_challenge(result: Mapping[str, Any]) -> None:
    """What `score_refuge` found, as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['pictures']} pictures", caption=_caption(result["bootstrap"]))
    for column in ("score", "value", "pictures"):
        table.add_column(column, justify="right" if column == "pictures" else "left")
    for score, fields in result["scores"].items():
        table.add_row(_with_arrow(score), str(Interval(**fields)), str(result["counts"][score]))
    Console().print(table)


def print_comparison(result: Mapping[str, Any]) -> None:
    """What `compare_tables` or `compare_runs` found, as tables on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{result['images']} images of {result['patients']} patients\nA: {result['a']}\nB: {result['b']}")
    main = Table(
        box=SIMPLE_HEAD, pad_edge=False, caption="p: paired bootstrap; t-test: p as published; ↓: lower is better"
    )
    for column in ("score", "A", "B", "B − A (95 %)", "p", "t-test"):
        main.add_column(column)
    for name, found in result["differences"].items():
        p_values = (_p(found["p"]), _p(result["t_test"][name]))
        main.add_row(_with_arrow(name), _number(found["a"]), _number(found["b"]), _signed(found), *p_values)
    console.print(main)
    delong = Table(box=SIMPLE_HEAD, pad_edge=False, title="DeLong's test of AUROC, images as independent")
    for column in ("label", "A", "B", "B − A (95 %)", "p"):
        delong.add_column(column)
    for code, found in result["delong"].items():
        delong.add_row(code, _number(found["a"]), _number(found["b"]), _signed(found), _p(found["p"]))
    console.print(delong)
    for name, caveat in result["caveats"].items():
        console.print(f"{name}: {caveat}")
    for note in result["notes"]:
        console.print(note)


def print_differences(result: Mapping[str, Any]) -> None:
    """What `compare_pooled` found, a table for each output, on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"A: {result['a']}\nB: {result['b']}")
    for part in result["parts"]:
        for name, output in part["outputs"].items():
            title = f"{name}: {part['images']} images of {part['patients']} patients"
            caption = "p: paired bootstrap over patients; ↓: lower is better"
            table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, caption=caption)
            for column in ("score", "A", "B", "B − A (95 %)", "p"):
                table.add_column(column)
            for score, found in output["differences"].items():
                numbers = (_number(found["a"]), _number(found["b"]), _signed(found), _p(found["p"]))
                table.add_row(_with_arrow(score), *numbers)
            console.print(table)


def _caption(bootstrap: Mapping[str, Any]) -> str:
    drawn = "patients resampled" if bootstrap["unit"] == "patient" else "resampled one by one"
    if bootstrap["unit"] == "paper":
        drawn = f"mean ± 1.96 SD, {PAPER_SIZE} resampled; ±: SD/√1000"
    return f"value (95 % interval: {drawn}); ↓: lower is better" if bootstrap["replicates"] else "↓: lower is better"


def _with_arrow(name: str) -> str:
    return f"{name} ↓" if name in LOSSES or name.startswith(LOWER_IS_BETTER) else name


def _short(found: Interval) -> str:
    interval = f" ({found.low:.3f}–{found.high:.3f})" if found.low is not None else ""
    return f"{_number(found.value)}{interval}"


def _signed(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return "not defined"
    interval = f" ({found['low']:+.3f}, {found['high']:+.3f})" if found["low"] is not None else ""
    return f"{found['difference']:+.3f}{interval}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" if value >= 1e-3 else "<.001"
