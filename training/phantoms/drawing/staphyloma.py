"""The posterior staphyloma: where it lies, how it bends the vessels, how its edge and its inside look."""

import math
from dataclasses import dataclass

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture, smoothstep
from training.phantoms.drawing.curves import unit

__all__ = ["Staphyloma", "draw_staphyloma", "paint_staphyloma"]


@dataclass(frozen=True)
class Staphyloma:
    """An oval outpouching: centre, half axes and axis angle; how its inside and its edge differ from around it."""

    centre: np.ndarray
    axes: np.ndarray
    angle: float
    inside: float  # relative brightness change inside
    ridge: float  # strength of the light band at the edge
    shadow: float  # strength of the dark band outside it
    wobble: np.ndarray  # phases of the irregular outline

    def radius(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Elliptic radius of retina points: 1 at the edge."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.centre[0].astype(x.dtype), y - self.centre[1].astype(x.dtype)
        u = (c * dx + s * dy) * x.dtype.type(1 / self.axes[0])
        v = (c * dy - s * dx) * x.dtype.type(1 / self.axes[1])
        phi = np.arctan2(v, u)
        wobble = sum(0.032 / (k - 1) * np.cos(k * phi + phase) for k, phase in enumerate(self.wobble, start=2))
        return np.sqrt(u * u + v * v) * (1 + wobble).astype(x.dtype)

    def kink(self, curves: np.ndarray) -> np.ndarray:
        """Vessel curves bent where they cross the edge."""
        rho = self.radius(curves[..., 0], curves[..., 1])[..., None]
        outward = unit(curves - self.centre)
        across = np.stack([-outward[..., 1], outward[..., 0]], axis=-1)
        bend = np.exp(-(((rho - 1) / 0.07) ** 2))
        slope = (rho - 1) / 0.07 * bend
        return curves + 0.007 * bend * across - 0.008 * slope * outward


def draw_staphyloma(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> Staphyloma:
    # Wide macular, narrow macular and peripapillary are the common types of Ohno-Matsui's classification.
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    if kind == 2:
        centre, axes = disc + rng.uniform(-0.012, 0.012, 2), rng.uniform([0.095, 0.09], [0.13, 0.12])
    elif kind == 1:
        centre, axes = 0.5 * (disc + fovea) + rng.uniform(-0.02, 0.02, 2), rng.uniform([0.13, 0.09], [0.17, 0.12])
    else:
        centre, axes = 0.45 * (disc + fovea) + rng.uniform(-0.025, 0.025, 2), rng.uniform([0.17, 0.13], [0.25, 0.2])
    return Staphyloma(
        centre=centre,
        axes=axes,
        angle=rng.uniform(-0.3, 0.3),
        inside=rng.choice([-1, 1], p=[0.5, 0.5]) * rng.uniform(0.14, 0.26),
        ridge=rng.uniform(0.34, 0.58),
        shadow=rng.uniform(0.22, 0.42),
        wobble=rng.uniform(0, 2 * math.pi, 5),
    )


def paint_staphyloma(canvas: Canvas, picture: Picture, pit: Staphyloma) -> np.ndarray:
    window = canvas.around(pit.centre, 1.3 * float(pit.axes.max()) + 0.03)
    x, y = canvas.x[window], canvas.y[window]
    rho = pit.radius(x, y)
    size = float(pit.axes.mean())
    across = (rho - 1) * np.float32(size)  # distance from the edge in image widths, roughly
    inside = 1 - smoothstep(-0.014, 0.010, across)
    # One side of the pit's wall faces the light: a crest there, a shadow on the other, and a step of tone all round.
    turn = np.arctan2(y - np.float32(pit.centre[1]), x - np.float32(pit.centre[0]))
    phases = pit.wobble.astype(np.float32)
    lit = (
        0.62
        + 0.28 * np.cos(turn + phases[0])
        + 0.22 * np.cos(2 * turn + phases[1])
        + 0.1 * np.cos(5 * turn + phases[2])
    )
    breadth = 0.009 * (1 + 0.35 * np.cos(3 * turn + phases[3]))
    ridge = np.exp(-(((across + 0.008) / breadth) ** 2)) * np.clip(lit, 0.1, 1.1)
    shadow = np.exp(-(((across - 0.010) / breadth) ** 2)) * np.clip(1.3 - lit, 0.3, 1.1)
    tone = (1 + np.float32(pit.inside) * inside) * (1 - np.float32(pit.shadow) * shadow)
    picture.window(window).multiply(
        tone * (1 + np.float32(pit.ridge) * ridge), tone * (1 + np.float32(0.8 * pit.ridge) * ridge)
    )
    mask = np.zeros((canvas.height, canvas.width), bool)
    mask[window] = rho < 1
    return mask
