"""The canvas of an image, in retina coordinates, and the two colour planes that are painted on it."""

import math

import cv2
import numpy as np

__all__ = ["Canvas", "Picture", "screen_noise", "smoothstep"]

# Thin structures are drawn on a canvas of at least this width and averaged down: thin ones fade, none vanishes.
DRAWING_WIDTH = 640

# What is smooth (light, clouds of pigment, lids and lashes, which are out of focus) is computed at this width at most.
SMOOTH_WIDTH = 320


class Canvas:
    """The pixel grid of one image: its size, its map from retina coordinates, and drawing in those coordinates."""

    def __init__(self, width: int, height: int, matrix: np.ndarray, centre: np.ndarray) -> None:
        self.width, self.height = width, height
        self.oversampling = max(1, math.ceil(DRAWING_WIDTH / width))
        self.line_type = cv2.LINE_AA if self.oversampling == 1 else cv2.LINE_8
        self.matrix, self.centre = matrix, centre  # retina -> image, both in image widths
        self.zoom = math.sqrt(abs(np.linalg.det(matrix)))
        self.column = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None]
        self.row = ((np.arange(height, dtype=np.float32) + 0.5) / width)[:, None]
        inverse = np.linalg.inv(matrix).astype(np.float32)
        x, y = self.column - np.float32(centre[0]), self.row - np.float32(centre[1])
        self.x = inverse[0, 0] * x + inverse[0, 1] * y
        self.y = inverse[1, 0] * x + inverse[1, 1] * y

    @classmethod
    def gazing(cls, width: int, height: int, eye: str, rng: np.random.Generator) -> "Canvas":
        """The canvas of an eye that looks roughly, not exactly, at the device."""
        angle, zoom = math.radians(rng.uniform(-8, 8)), rng.uniform(0.92, 1.08)
        centre = np.array([0.5 + rng.uniform(-0.06, 0.06), 0.5 * height / width + rng.uniform(-0.045, 0.045)])
        # The retina is described for a right eye, where the disc is on the right of the fovea; a left one is mirrored.
        mirror = np.diag([1.0 if eye == "OD" else -1.0, 1.0])
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return cls(width, height, zoom * rotation @ mirror, centre)

    def reduced(self, width: int = SMOOTH_WIDTH) -> "Canvas":
        """The same view on at most `width` columns, for what is smooth; `enlarged` brings it back."""
        if self.width <= width:
            return self
        return Canvas(width, math.ceil(self.height * width / self.width), self.matrix, self.centre)

    def enlarged(self, plane: np.ndarray) -> np.ndarray:
        """A plane of a reduced canvas at this canvas's size."""
        if plane.shape == (self.height, self.width):
            return plane
        scale = self.width / plane.shape[1]
        plane = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(plane[: self.height, : self.width])

    def around(self, point: np.ndarray, radius: float) -> tuple[slice, slice]:
        """The window of pixels within a radius of a retina point."""
        (x, y), reach = self.to_pixels(point), radius * self.zoom * self.width + 1
        rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 1))
        return rows, slice(max(0, int(x - reach)), max(0, int(x + reach) + 1))

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Retina points (..., 2) to pixel coordinates, pixel centres at integers."""
        return (points @ self.matrix.T + self.centre) * self.width - 0.5

    def blank(self) -> np.ndarray:
        return np.zeros((self.height * self.oversampling, self.width * self.oversampling), np.uint8)

    def fixed_point(self, points: np.ndarray) -> np.ndarray:
        """Retina points as OpenCV's fixed-point coordinates (4 fractional bits) on a drawing canvas."""
        scale = self.width * self.oversampling
        return np.round(((points @ self.matrix.T + self.centre) * scale - 0.5) * 16).astype(np.int32)

    def strokes(
        self, target: np.ndarray, curves: np.ndarray, widths: np.ndarray, values: np.ndarray, pieces: int
    ) -> None:
        """Draw curves (m, n, 2) whose widths (m, n) vary along them, in `pieces` pieces of constant width."""
        points = self.fixed_point(curves)
        scale = self.width * self.oversampling * self.zoom
        cuts = np.linspace(0, curves.shape[1] - 1, pieces + 1).astype(int)
        for k in range(pieces):
            start, stop = cuts[k], cuts[k + 1] + 1
            wide = widths[:, start:stop].mean(axis=1) * scale
            thickness = np.maximum(1, np.round(wide)).astype(int)
            strength = np.round(values * np.minimum(1, wide)).astype(int)  # below one pixel: fainter, not thinner
            for line, thick, value in zip(points[:, start:stop], thickness.tolist(), strength.tolist(), strict=True):
                cv2.polylines(target, [line], False, value, thick, self.line_type, 4)

    def outline(self, target: np.ndarray, contour: np.ndarray, value: int = 255) -> None:
        """Fill a closed contour (n, 2) of retina points."""
        cv2.fillPoly(target, [self.fixed_point(contour)], value, self.line_type, 4)

    def coverage(self, target: np.ndarray, blur: float = 0.0) -> np.ndarray:
        """A drawing canvas averaged down to the image, float32 (h, w) in 0..1, blurred by a sigma in image widths."""
        if self.oversampling > 1:
            target = cv2.resize(target, (self.width, self.height), interpolation=cv2.INTER_AREA)
        plane = target.astype(np.float32) * np.float32(1 / 255)
        return self.blurred(plane, blur)

    def blurred(self, plane: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur with a sigma in image widths."""
        return _blur(plane, sigma * self.width)

    def squared_distance(self, point: np.ndarray) -> np.ndarray:
        """Squared distance of every pixel to a retina point, float32 (h, w)."""
        dx, dy = self.x - np.float32(point[0]), self.y - np.float32(point[1])
        return dx * dx + dy * dy

    def spot(self, point: np.ndarray, sigma: float) -> np.ndarray:
        """An isotropic Gaussian of height 1 around a retina point."""
        return np.exp(self.squared_distance(point) * np.float32(-0.5 / sigma**2))

    def texture(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise fixed to the retina, about unit variance, `cells` random values per image width."""
        tile = rng.standard_normal((cells, cells), dtype=np.float32)
        if cells < 40:  # large cells go through a small grid: OpenCV warps to 1/32 px only, and that is cheaper
            small = self.reduced(160)
            return self.enlarged(small._warped(tile, cv2.INTER_CUBIC))
        return self._warped(tile, cv2.INTER_LINEAR)

    def _warped(self, tile: np.ndarray, interpolation: int) -> np.ndarray:
        """A tile that covers one image width of the retina, repeated over this canvas."""
        corner = (self.centre - self.matrix.sum(axis=1)) * self.width  # where the retina's (-1, -1) lies
        forward = np.column_stack([self.matrix * (self.width / tile.shape[0]), corner])
        size = (self.width, self.height)
        return cv2.warpAffine(tile, forward, size, flags=interpolation, borderMode=cv2.BORDER_WRAP)


class Picture:
    """The red and green planes while they are painted; reflectance about 0..1."""

    def __init__(self, red: np.ndarray, green: np.ndarray) -> None:
        self.red, self.green = red, green

    def window(self, window: tuple[slice, slice]) -> "Picture":
        """A part of the picture; painting on it paints on the whole."""
        return Picture(self.red[window], self.green[window])

    def multiply(self, red: np.ndarray, green: np.ndarray) -> None:
        self.red *= red
        self.green *= green

    def blend(self, weight: np.ndarray, red: np.ndarray | float, green: np.ndarray | float) -> None:
        """Move towards a colour (numbers or planes) by a weight plane in 0..1."""
        self.red += weight * (red - self.red)
        self.green += weight * (green - self.green)


def _blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; a wide one is done on a reduced copy, where it looks the same and is cheap."""
    if sigma < 0.2:
        return plane
    shrink = int(sigma // 4)
    if shrink < 2:
        return cv2.GaussianBlur(plane, (0, 0), sigma)
    h, w = plane.shape[:2]
    small = cv2.resize(plane, (max(2, w // shrink), max(2, h // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)


def screen_noise(rng: np.random.Generator, cells: int, width: int, height: int) -> np.ndarray:
    """Smooth noise fixed to the image, about unit variance, `cells` random values per image width."""
    tile = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(tile, (width, width), interpolation=cv2.INTER_CUBIC)[:height]


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)
