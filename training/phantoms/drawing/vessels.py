"""The vessels of the retina and of the choroid."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture
from training.phantoms.drawing.curves import bezier, rotated, unit, wandering
from training.phantoms.drawing.staphyloma import Staphyloma

__all__ = ["choroidal_vessels", "paint_vessels", "trunk_lines", "vessel_tree"]


def paint_vessels(
    canvas: Canvas,
    picture: Picture,
    rng: np.random.Generator,
    disc: np.ndarray,
    fovea: np.ndarray,
    pit: Staphyloma | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Retinal arteries and veins; their masks."""
    calibre = rng.uniform(0.0042, 0.0056)
    ratio = rng.uniform(0.6, 0.74)
    depth = rng.uniform(0.75, 1.1)
    masks = []
    trunks = trunk_lines(rng, disc, fovea)
    for vein in (True, False):
        sheet = canvas.blank()
        reflex = canvas.blank()
        generations = vessel_tree(rng, trunks, fovea, calibre * (1 if vein else ratio))
        for level, (curves, widths) in reversed(list(enumerate(generations))):
            if pit is not None:
                curves = pit.kink(curves)
            value = np.full(len(curves), (255, 225, 180, 130)[level])
            canvas.strokes(sheet, curves, widths, value, (8, 3, 2, 1)[level])
            if level < 2 and not vein:
                canvas.strokes(reflex, curves, widths * 0.3, value, (4, 1)[level])
        cover = canvas.coverage(sheet)
        weight = cover * np.float32(depth)
        if vein:
            picture.multiply(1 - 0.40 * weight, 1 - 0.58 * weight)
        else:
            picture.multiply(1 - 0.10 * weight, 1 - 0.46 * weight)
            shine = canvas.coverage(reflex) * np.float32(0.22)
            picture.multiply(1 + shine, 1 + 1.4 * shine)
        masks.append(cover > 0.2)
    return masks[1], masks[0]


def trunk_lines(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """Control points (4, 7, 2) of the large vessels: arcades, nasal arcades, up and down, nasal."""
    uniform, trunks = rng.uniform, []

    def disc_at(x: float, y: float) -> np.ndarray:
        return disc + np.array([x, y])

    def fovea_at(x: float, y: float) -> np.ndarray:
        return fovea + np.array([x, y])

    for s in (-1.0, 1.0):
        height = uniform(0.095, 0.14)
        trunks += [
            [  # temporal arcade: around the macula, then on to the periphery
                disc_at(uniform(-0.002, 0.006), s * 0.002),
                disc_at(uniform(0.0, 0.02), s * uniform(0.08, 0.11)),
                fovea_at(uniform(-0.02, 0.04), s * (height + uniform(0.01, 0.06))),
                fovea_at(uniform(-0.4, -0.28), s * uniform(0.0, 0.22)),
            ],
            [  # nasal arcade
                disc_at(uniform(0.0, 0.007), s * 0.002),
                disc_at(uniform(0.02, 0.05), s * uniform(0.04, 0.08)),
                disc_at(uniform(0.1, 0.16), s * uniform(0.08, 0.15)),
                disc_at(uniform(0.25, 0.38), s * uniform(0.1, 0.28)),
            ],
            [  # up, down
                disc_at(uniform(-0.003, 0.005), s * 0.002),
                disc_at(uniform(0.0, 0.04), s * 0.09),
                disc_at(uniform(-0.06, 0.1), s * 0.2),
                disc_at(uniform(-0.16, 0.14), s * uniform(0.3, 0.38)),
            ],
        ]
    bend = rng.normal(0, 0.03, 2)
    trunks.append([disc_at(0.006, 0.0), disc_at(0.06, 0.0), disc_at(0.15, bend[0]), disc_at(0.3, bend[1])])
    return np.array(trunks).transpose(1, 0, 2)


def vessel_tree(
    rng: np.random.Generator, trunks: np.ndarray, fovea: np.ndarray, calibre: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Curves (m, n, 2) and widths (m, n) of one kind of vessel from the disc to the periphery, coarse to fine."""
    beside = rng.normal(0, 1, trunks.shape) * np.array([0.0015, 0.009, 0.018, 0.03])[:, None, None]
    first, second, third, last = trunks + beside
    curves = bezier(first, second, third, last, 64)
    tortuosity = rng.uniform(0.3, 1.2)
    curves = wandering(rng, curves, rng.uniform(0.002, 0.006, len(curves)) * tortuosity)
    strength = np.array([1.0, 0.72, 0.5] * 2 + [0.45]) * rng.uniform(0.85, 1.1, 7)
    widths = calibre * strength[:, None] * (np.linspace(1, 0.4, 64) * np.minimum(1, np.linspace(0.35, 10, 64)))[None]
    generations = [(curves, widths)]
    for children, samples, reach in ((6, 32, 0.45), (3, 20, 0.5), (2, 12, 0.6)):
        parents, parent_widths = generations[-1]
        m, n = parents.shape[:2]
        at = (np.arange(children)[None] + rng.uniform(0.1, 0.9, (m, children))) / children
        at = np.round((0.16 + 0.82 * at) * (n - 1)).astype(int)
        rows = np.arange(m)[:, None]
        start = parents[rows, at].reshape(-1, 2)
        heading = unit(np.gradient(parents, axis=1))[rows, at].reshape(-1, 2)
        length = np.linalg.norm(np.diff(parents, axis=1), axis=-1).sum(axis=1)
        length = (length[:, None] * reach * rng.uniform(0.5, 1.1, at.shape) * (1.1 - 0.6 * at / n)).reshape(-1)
        turn = rng.choice([-1.0, 1.0], at.shape).reshape(-1) * rng.uniform(0.35, 1.1, at.size)
        out = rotated(heading, turn)
        end = unit(rotated(heading, 0.6 * turn) + 0.7 * unit(start) + rng.normal(0, 0.25, start.shape))
        third = (length / 3)[:, None]
        tip = start + unit(out + end) * length[:, None]
        branch = bezier(start, start + out * third, tip - end * third, tip, samples)
        branch = wandering(rng, branch, 0.035 * tortuosity * length * rng.uniform(0.5, 1.3, len(length)))
        width = (parent_widths[rows, at] * rng.uniform(0.5, 0.75, at.shape)).reshape(-1)
        generations.append((branch, width[:, None] * np.linspace(1, 0.45, samples)[None]))
    # The fovea has no vessels: push everything out of its avascular zone.
    pushed = []
    for curves, widths in generations:
        offset = curves - fovea
        r = np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-6)
        pushed.append((fovea + offset * np.sqrt(r * r + 0.02**2) / r, widths))
    return pushed


def choroidal_vessels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the posterior pole to the vortex veins: curves (m, n, 2), widths (m, n), ampullae of the veins (4, 2)."""
    count = 420
    angle = rng.uniform(0, 2 * math.pi, count)
    r = 0.4 * rng.uniform(0.02, 1, count) ** 0.75
    start = np.stack([r * np.cos(angle) * 1.1, r * np.sin(angle)], axis=-1)
    ampulla_angle = math.pi / 4 + np.arange(4) * math.pi / 2 + rng.uniform(-0.3, 0.3, 4)
    ampullae = rng.uniform(0.34, 0.42, (4, 1)) * np.stack([np.cos(ampulla_angle), np.sin(ampulla_angle)], axis=-1)
    gap = np.linalg.norm(start[:, None] - ampullae[None], axis=-1)
    towards = unit(ampullae[np.argmin(gap, axis=1)] - start)
    radial = unit(start)
    heading = unit(radial + 0.7 * towards * (r > 0.12)[:, None] + rng.normal(0, 0.35, start.shape))
    final = unit(radial + 1.2 * towards * (r > 0.1)[:, None] + rng.normal(0, 0.3, start.shape))
    length = rng.uniform(0.04, 0.13, count)[:, None]
    tip = start + unit(heading + final) * length
    curves = bezier(start, start + heading * length / 3, tip - final * length / 3, tip, 12)
    curves = wandering(rng, curves, rng.uniform(0.001, 0.004, count))
    widths = (0.0012 + 0.0036 * rng.random(count) ** 1.5)[:, None] * np.linspace(0.7, 1.1, 12)[None]
    return curves, widths, ampullae
