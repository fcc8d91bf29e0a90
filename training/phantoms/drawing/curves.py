"""Curves and contours of retina points: Bezier curves, tortuous ones, irregular closed ones."""

import math

import numpy as np

__all__ = ["bezier", "blob", "rotated", "unit", "wandering"]


def bezier(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray, samples: int) -> np.ndarray:
    """Cubic Bezier curves (m, samples, 2) from control points (m, 2)."""
    t = np.linspace(0, 1, samples)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (p0, p1, p2, p3))
    return (1 - t) ** 3 * p0 + 3 * t * (1 - t) ** 2 * p1 + 3 * t**2 * (1 - t) * p2 + t**3 * p3


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def rotated(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([c * vectors[..., 0] - s * vectors[..., 1], s * vectors[..., 0] + c * vectors[..., 1]], axis=-1)


def wandering(rng: np.random.Generator, curves: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Curves with a tortuous offset across their course, growing from their start; amplitude (m,)."""
    m, n = curves.shape[:2]
    t = np.linspace(0, 1, n)[None]
    tangent = unit(np.gradient(curves, axis=1))
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    offset = np.zeros((m, n))
    for frequency, weight in ((1.3, 1.0), (2.9, 0.6), (6.1, 0.3)):
        f = frequency * rng.uniform(0.7, 1.4, (m, 1))
        phase = rng.uniform(0, 2 * math.pi, (m, 1))
        offset += weight * (np.sin(2 * math.pi * f * t + phase) - np.sin(phase))
    return curves + normal * (offset * amplitude[:, None] * np.minimum(1, 3 * t))[..., None]


def blob(
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: float,
    roughness: float,
    aspect: float = 1.0,
    angle: float | None = None,
) -> np.ndarray:
    """An irregular closed contour (96, 2) of about the given radius; roughness 0 = an ellipse.

    `angle`: of its longer axis, where `aspect` is above 1; None draws it.
    """
    phi = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    r = np.ones_like(phi)
    for k in range(2, 12):
        r += roughness / k**1.2 * 1.6 * rng.normal() * np.cos(k * phi + rng.uniform(0, 2 * math.pi))
    r = radius * np.clip(r, 0.6, 1.5)
    points = np.stack([r * np.cos(phi) * math.sqrt(aspect), r * np.sin(phi) / math.sqrt(aspect)], axis=-1)
    turn = rng.uniform(0, math.pi) if angle is None else angle
    return centre + rotated(points, np.full(96, turn))
