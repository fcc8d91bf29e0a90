"""The report of a benchmark: a table for the terminal, and a folder with JSON, markdown and a picture."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["tables", "write_report"]

Summary = Mapping[str, Any]
COLUMNS = ("engine", "p50", "p90", "p99", "ratio (95 %)", "peak MB", "file MB", "J / image")


def tables(summary: Summary) -> list[Table]:
    """One table per number of threads, and one of the stages."""
    shown = []
    for title, columns, rows in _sections(summary):
        table = Table(title=title)
        for column in columns:
            table.add_column(column, justify="left" if column in ("engine", "operator") else "right")
        for row in rows:
            table.add_row(*row)
        shown.append(table)
    return shown


def write_report(summary: Summary, folder: Path) -> None:
    """Writes `benchmark.json`, `benchmark.md` and `benchmark.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "benchmark.md").write_text(_markdown(summary))
    _picture(summary).savefig(folder / "benchmark.png", dpi=150)


def _sections(summary: Summary) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    """(title, columns, rows): inference by number of threads, and the stages; columns without a figure left out."""
    results = summary["results"]
    for threads in dict.fromkeys(row["threads"] for row in results):
        rows = [row for row in results if row["threads"] == threads]
        reference = next((row["ratio"]["to"] for row in rows if "ratio" in row), "")
        plural = "s" if threads > 1 else ""
        title = f"inference on {threads} thread{plural}, ms; ratios of medians to {reference}"
        yield title, *_filled(COLUMNS, [_cells(row) for row in rows])
    columns, rows = _all_outputs(results)
    if rows:
        yield "what class maps and features cost: time with them / probabilities alone", columns, rows
    columns, rows = _stages(summary)
    if rows:
        yield f"all stages of one image, median ms; {summary['scenario']}", *_filled(columns, rows)
    for row in results:
        if "operators" in row:
            plural = "s" if row["threads"] > 1 else ""
            title = f"operators of {row['name']}, {row['threads']} thread{plural}, as the engine measures them"
            yield title, ("operator", "number", "ms", "share"), _operators(row["operators"])


def _operators(times: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    whole = sum(time["ms"] for time in times)
    return [[t["operator"], str(t["count"]), f"{t['ms']:.2f}", f"{t['ms'] / whole:.1%}"] for t in times]


def _filled(columns: Sequence[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    return [columns[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = row["name"] + (f" [{row['note']}]" if row["note"] else "")
    if "error" in row:
        return [name, "not run", "", "", row["error"], "", "", ""]
    times, ratio = row["inference_ms"], row.get("ratio")
    facts, power = row.get("network facts"), row["power"] or {}
    return [
        name,
        *(f"{times[p]:.1f}" for p in ("p50", "p90", "p99")),
        _interval(ratio) if ratio else "",
        f"{row['peak_memory_mb']:.0f}",
        f"{facts['bytes'] / 1e6:.1f}" if facts else "",
        f"{power['joules_per_image']:.2f}" if "joules_per_image" in power else "",
    ]


def _all_outputs(results: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [f"{cost['of']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}", _interval(cost)]
        for row in results
        if (cost := row.get("all outputs"))
    ]
    return ["engine", "ratio (95 %)"], rows


def _interval(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['value']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})"


def _stages(summary: Summary) -> tuple[list[str], list[list[str]]]:
    measured = [row for row in summary["results"] if "stages_ms" in row or "images_per_second" in row]
    names = [name for row in measured for name in row.get("stages_ms", {}) if name != "count"]
    columns = ["engine", *dict.fromkeys(names), "query", "images / s"]
    rows = []
    for row in measured:
        stages, query = row.get("stages_ms", {}), row.get("query_ms")
        rows.append(
            [
                f"{row['name']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}",
                *(f"{stages[name]['p50']:.1f}" if name in stages else "" for name in columns[1:-2]),
                f"{query['figure']} {query[query['figure']]:.1f}" if query else "",
                f"{row['images_per_second']:.2f}" if "images_per_second" in row else "",
            ]
        )
    return columns, rows


def _markdown(summary: Summary) -> str:
    images = summary["images"]
    lines = ["# Benchmark", "", "Repeat it with", "", f"    {' '.join(map(str, summary['command']))}", ""]
    for title, columns, rows in _sections(summary):
        lines += [f"## {title[0].upper()}{title[1:]}", "", *_grid(columns, rows), ""]
    lines += ["![inference](benchmark.png)", "", "## Networks", ""]
    heads = ("engine", "network", "precision", "G MAC", "M parameters", "SHA-256", "accuracy against Keras")
    once = {row["name"]: row for row in summary["results"]}.values()
    lines += [*_grid(heads, [_network(row) for row in once]), "", "## Machine", ""]
    lines += _grid(("what", "value"), [[k, str(v)] for k, v in {**summary["machine"], **summary["versions"]}.items()])
    lines += ["", "## Images", ""]
    shown = [[i["file"], i["format"], f"{i['width']} × {i['height']}", f"{i['bytes'] / 1e6:.2f}"] for i in images]
    lines += _grid(("file", "format", "pixels", "MB"), shown)
    count = next((row["inference_ms"] for row in summary["results"] if "inference_ms" in row), None)
    if count:
        lines += [
            "",
            f"{count['count']} inferences of the first engine in {count['rounds']} rounds; before each turn one that"
            " does not count, after a warm-up of six. Peak memory is that of the engine's own process, reading of the"
            " images included.",
        ]
    return "\n".join(lines) + "\n"


def _network(row: Mapping[str, Any]) -> list[str]:
    facts, accuracy = row.get("network facts"), row["accuracy against Keras"] or {}
    figures = {"max_probability": "max |Δp|", "mean_probability": "mean |Δp|", "flips": "decisions changed"}
    return [
        row["name"],
        row["network"],
        row["precision"],
        f"{facts['macs'] / 1e9:.2f}" if facts else "",
        f"{facts['parameters'] / 1e6:.2f}" if facts else "",
        (row["sha256"] or "")[:16],
        ", ".join(f"{title} {accuracy[key]}" for key, title in figures.items() if key in accuracy) or row["note"],
    ]


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(heads), line(["---"] * len(heads)), *map(line, rows)]


def _picture(summary: Summary) -> "Figure":
    """Medians of inference with the range from median to p90, an axis per number of threads."""
    from matplotlib.figure import Figure  # not on a box: there the tables must do without it

    groups: dict[int, list[Mapping[str, Any]]] = {}
    for row in summary["results"]:
        if "inference_ms" in row:
            groups.setdefault(row["threads"], []).append(row)
    rows = max((len(group) for group in groups.values()), default=1)
    figure = Figure(figsize=(5 * max(1, len(groups)) + 2, 0.4 * rows + 1.4), layout="constrained")
    axes = figure.subplots(1, max(1, len(groups)), squeeze=False, sharey=True)[0]
    for axis, (threads, group) in zip(axes, groups.items(), strict=False):
        for y, row in enumerate(group):
            times = row["inference_ms"]
            colour = "#5b7288" if row["engine"].startswith("timm") else "#0072B2"
            axis.barh(y, times["p50"], color=colour)
            axis.plot((times["p50"], times["p90"]), (y, y), color="black", linewidth=1)
            ratio = f"   ×{row['ratio']['value']:.2f}" if "ratio" in row else ""
            axis.text(times["p90"], y, f" {times['p50']:.0f} ms{ratio}", va="center", fontsize=8)
        axis.set_yticks(range(len(group)), [row["name"] for row in group])
        axis.set(xlabel="ms for one image; line to p90", title=f"{threads} thread{'s' if threads > 1 else ''}")
        axis.invert_yaxis()
        axis.set_xlim(right=1.3 * max(row["inference_ms"]["p90"] for row in group))
        axis.spines[["top", "right"]].set_visible(False)
    return figure
