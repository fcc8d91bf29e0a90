"""The figures of the page: each is written in its formats, and the page keeps what it needs of it."""

import base64
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from matplotlib.figure import Figure

from training.report.plots.files import jpeg, png, svg

__all__ = ["Gallery", "Item"]


@dataclass(frozen=True)
class Item:
    """A figure of the page, or, without `picture`, why there is none. `files`: links relative to the page."""

    title: str
    caption: str
    picture: str | None = None
    photographs: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


class Gallery:
    """Writes each figure in its formats and keeps what the page needs of it."""

    def __init__(self, out: Path):
        self.out = out
        (out / "figures").mkdir(parents=True, exist_ok=True)

    def add(
        self,
        key: str,
        title: str,
        caption: str,
        figure: Figure | go.Figure,
        header: Sequence[str],
        rows: Iterable[Sequence[Any]],
        photographs: bool = False,
    ) -> Item:
        drawn = svg(figure)
        (self.out / "figures" / f"{key}.svg").write_bytes(drawn)
        (self.out / "figures" / f"{key}.png").write_bytes(png(figure))
        with (self.out / "figures" / f"{key}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        kind, shown = ("jpeg", jpeg(figure)) if photographs else ("svg+xml", drawn)
        picture = f"data:image/{kind};base64,{base64.b64encode(shown).decode()}"
        return Item(
            title,
            caption,
            picture,
            photographs,
            {ending: f"figures/{key}.{ending}" for ending in ("svg", "png", "csv")},
        )
