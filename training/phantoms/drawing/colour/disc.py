"""The optic disc of a photograph, with its cup, and the atrophy around it."""

import math
from dataclasses import dataclass

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture, smoothstep
from training.phantoms.drawing.colour.atrophy import bare

__all__ = ["OpticDisc", "draw_disc", "paint_disc"]


@dataclass(frozen=True)
class OpticDisc:
    """The shape of a disc and of its surroundings: lengths in retina units, or in radii of the disc where said so.

    Its outline is an ellipse, `tall` times as long as it is wide, with small waves, turned by `tilt`.
    """

    about: np.ndarray  # where the ellipse has its centre
    radius: float
    tall: float
    tilt: float
    waves: np.ndarray  # (4, 2) height and phase of the waves 2 to 5 along the outline
    cup: tuple[float, float, float]  # size (share of the disc's), its own stretch, shift to the temporal side
    atrophy: float  # how far the atrophy reaches beyond the disc at most, in radii; 0 where there is none
    atrophy_turn: float  # direction of that, from the temporal side
    atrophy_breadth: float  # from a narrow crescent, 0.3, to a ring, 3

    def wave(self, phi: np.ndarray) -> np.ndarray:
        """Radius of the outline in all directions, 1 without waves."""
        radius = np.ones_like(phi)
        for k, (height, phase) in enumerate(self.waves.tolist(), start=2):
            radius += height * np.cos(k * phi + phi.dtype.type(phase))
        return radius

    @property
    def centre(self) -> np.ndarray:
        """Centre of gravity of the area within the outline."""
        phi = np.linspace(0, 2 * math.pi, 1440, endpoint=False)
        r = self.wave(phi)
        # Of a star-shaped area: the integral of r^3 e(phi) / 3 by that of r^2 / 2; the ellipse only stretches it.
        shift = (r**3 * np.stack([np.cos(phi), np.sin(phi)])).sum(axis=1) / 3 / ((r**2).sum() / 2)
        u, v = shift * self.radius * np.array([1, self.tall])
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        return self.about + np.array([c * u - s * v, s * u + c * v])


def draw_disc(rng: np.random.Generator, about: np.ndarray, label: str) -> OpticDisc:
    """A disc as eyes of a class of PALM have it."""
    radius, tall, tilt = rng.uniform(0.020, 0.0265), rng.uniform(0.98, 1.2), rng.uniform(-0.3, 0.3)
    tilted, narrow, turned = rng.random(), rng.uniform(1.2, 1.65), rng.uniform(-0.8, 0.8)
    if tilted < {"N": 0.06, "H": 0.5, "P": 0.6}[label]:
        radius, tall, tilt = radius / math.sqrt(narrow / 1.1), narrow, turned
    heights = rng.normal(0, 1, 4) * np.array([0.0, 0.02, 0.012, 0.008])
    cup = rng.uniform(0.2, 0.65) if rng.random() < 0.75 else rng.uniform(0.6, 0.88)
    chance, size = rng.random(), rng.random()
    reach = {"N": 0.12 + 0.3 * size, "H": 0.2 + 0.9 * size, "P": 0.4 + 1.9 * size**1.5}[label]
    return OpticDisc(
        about=about,
        radius=radius,
        tall=tall,
        tilt=tilt,
        waves=np.stack([heights, rng.uniform(0, 2 * math.pi, 4)], axis=-1),
        cup=(cup, rng.uniform(0.88, 1.18), rng.uniform(-0.05, 0.2)),
        atrophy=reach if chance < {"N": 0.2, "H": 0.85, "P": 0.95}[label] else 0.0,
        atrophy_turn=rng.normal(0, 0.4),
        atrophy_breadth=math.exp(rng.uniform(math.log(0.35), math.log(3.0))),
    )


def paint_disc(
    canvas: Canvas, picture: Picture, rng: np.random.Generator, disc: OpticDisc, choroid: np.ndarray, mottle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The disc and what is around it; masks of disc and cup, bool (h, w). The cup lies within the disc."""
    window = canvas.around(disc.about, disc.radius * (disc.tall + disc.atrophy) * 1.6 + 0.02)
    picture, choroid, mottle = picture.window(window), choroid[window], mottle[window]
    dx, dy = canvas.x[window] - np.float32(disc.about[0]), canvas.y[window] - np.float32(disc.about[1])
    c, s = np.float32(math.cos(disc.tilt)), np.float32(math.sin(disc.tilt))
    u = (c * dx + s * dy) / np.float32(disc.radius)
    v = (c * dy - s * dx) / np.float32(disc.radius * disc.tall)
    phi = np.arctan2(v, u)
    rho = np.hypot(u, v) / disc.wave(phi)
    ragged = canvas.texture(rng, 60)[window]
    if disc.atrophy:
        _paint_atrophy(picture, rng, disc, rho, phi, choroid, mottle, ragged)
    halo, soft = rng.uniform(0, 0.4), rng.uniform(0.02, 0.10)
    bright = np.float32(rng.uniform(0.9, 1.25))  # to pale beyond what a camera can show
    pallor, redness = rng.uniform(0.4, 0.62), rng.uniform(0.84, 1.0)
    picture.blend(np.float32(0.35 * halo) * np.exp(-(np.maximum(rho - 1, 0) ** 2) / np.float32(0.15)), 0.7, 0.45)
    # The nasal rim is redder and fuller; the temporal side, towards the fovea, is paler.
    temporal = np.clip(-u, -1, 1)
    body = 1 - smoothstep(1 - soft, 1 + soft, rho)
    rim = np.float32(pallor) + 0.07 * temporal - 0.05 * rho**4 + 0.012 * mottle
    picture.blend(body, bright * (np.float32(redness) - 0.05 * rho**4 + 0.03 * temporal), bright * rim)
    size, stretch, shift = disc.cup
    cup_rho = np.hypot((u + np.float32(shift * (1 - size))) * np.float32(stretch), v / np.float32(stretch))
    cup_rho /= np.float32(size)
    depth, edge = rng.uniform(0.25, 0.95), rng.uniform(0.1, 0.6)
    inside = 1 - smoothstep(1 - edge, 1 + edge, cup_rho)
    picture.blend(inside * body * np.float32(depth), float(bright), bright * (0.86 + 0.03 * mottle))
    masks = np.zeros((2, canvas.height, canvas.width), bool)
    masks[0][window] = rho < 1
    masks[1][window] = (cup_rho < 1) & (rho < 1)
    return masks[0], masks[1]


def _paint_atrophy(
    picture: Picture,
    rng: np.random.Generator,
    disc: OpticDisc,
    rho: np.ndarray,
    phi: np.ndarray,
    choroid: np.ndarray,
    mottle: np.ndarray,
    ragged: np.ndarray,
) -> None:
    """A crescent or ring of bare sclera beside the disc, and a zone of thinned pigment around that."""
    uneven, line = rng.uniform(0.02, 0.12), rng.uniform(0, 0.7)
    outer, faint = rng.uniform(0.05, 0.5), rng.uniform(0.1, 0.45)
    # The temporal side lies at phi = pi.
    facing = (1 + np.cos(phi - np.float32(math.pi + disc.atrophy_turn))) / 2
    lobe = facing ** np.float32(1 / disc.atrophy_breadth)
    reach = 1 + np.float32(disc.atrophy) * lobe
    ring = (rho - 1) / np.maximum(reach - 1, 1e-3) + np.float32(uneven) * ragged
    zone = rho / (reach + np.float32(outer) * lobe) + np.float32(0.5 * uneven) * ragged
    picture.blend(np.float32(faint) * (1 - smoothstep(0.85, 1.1, zone)) * (lobe > 0.02), 0.66, 0.34)
    extent = (1 - smoothstep(0.9, 1.06, ring)) * smoothstep(0.0, 0.05, reach - 1)
    bare(picture, rng, extent, np.clip(ring, 0, 1), choroid, mottle, ragged)
    border = np.exp(-(((ring - 1.03) / np.float32(0.1)) ** 2)) * smoothstep(0.05, 0.25, reach - 1)
    picture.blend(np.float32(line) * border * smoothstep(-0.5, 1.0, ragged), 0.2, 0.1)
