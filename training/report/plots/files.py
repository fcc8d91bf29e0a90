"""A figure as the bytes of a file; `svg` gives the same bytes for the same figure."""

import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import plotly.graph_objects as go
from matplotlib.figure import Figure

from training.report.plots.style import DPI, STYLE

__all__ = ["jpeg", "png", "svg"]


@mpl.rc_context(STYLE)
def svg(figure: Figure | go.Figure) -> bytes:
    """The figure as SVG, text as paths (of a Plotly figure: as text); the same bytes for the same figure."""
    if isinstance(figure, go.Figure):
        # Plotly puts random numbers into ids, and its renderer attributes into any order.
        drawn = re.sub(r'"((?:top)?defs)-[0-9a-z]+"', r'"\1"', figure.to_image("svg").decode())
        return ElementTree.canonicalize(drawn).encode()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def png(figure: Figure | go.Figure) -> bytes:
    """The figure as PNG at 200 dots per inch."""
    if isinstance(figure, go.Figure):
        rendered: bytes = figure.to_image("png", scale=2)
        return rendered
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def jpeg(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as JPEG: for photographs, a tenth of the size of an SVG that holds them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": 85})
    return buffer.getvalue()
