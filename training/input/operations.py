"""What augmentation does to images beyond RealMNet's: one function for each operation, with its numbers given.

Images are uint8 RGB (h, w, 3), and so is what comes back, rounded and limited to 0-255. `augmentation.augment` draws
the numbers. The list is that of REFUGE2's networks (Son, MICCAI 2020 technical report), which gives no definitions:
these are ours, with the operations of those names in Albumentations in mind.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "compressed",
    "down_sampled",
    "elastic_displacement",
    "iso_noise",
    "resize_matrix",
    "rgb_shifted",
    "sharpened",
    "sun_flare",
    "with_gamma",
]

Image = NDArray[Any]
GHOSTS = (-0.5, -1.0, -1.5)  # of a flare, on the line from it through the centre, in its distances from the centre


def resize_matrix(shape: tuple[int, int], factors: tuple[float, float]) -> NDArray[np.float64]:
    """Makes what is seen in images of that height and width wider and higher by `factors`, about the centre.

    The image stays as large: (1.25, 1) leaves four fifths of its width to be seen. With a width of 101 the pixel 40,
    ten from the centre, comes to 50 − 10 · 1.25 = 37.5. See `Motion.matrix`.
    """
    height, width = shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    linear = np.diag(np.asarray(factors, np.float64))
    return np.column_stack([linear, centre - linear @ centre])


def elastic_displacement(shape: tuple[int, int], nodes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shifts at the nodes of a coarse grid, bicubic between them: `Motion.displacement` for that height and width.

    nodes: (grid, grid, 2), shifts in x and y in shares of the width and the height. A node at .02 in x of an image 512
    wide shows what lies 10.24 pixels to its right.

    Nothing folds as long as the largest shift times the grid is at most .1: over one pixel cubic interpolation (with
    a = −.75) changes by at most 4.125 times that along one axis, by .825 along both.

    Source: the grid and the bicubic interpolation of U-Net's augmentation (arXiv 1505.04597, section 3.1).
    """
    height, width = shape
    pixels = (nodes * (width, height)).astype(np.float32)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def sun_flare(image: Image, centre: tuple[float, float], radius: float, strength: float) -> Image:
    """Light that falls into the lens: a bright spot and three pale ghosts on the line through the image's centre.

    A share a of what is missing to white is added, x + (255 − x)·a: at a distance r from the spot a = strength ·
    (1 − r / radius)², in a ghost strength / 4 within a quarter of the radius. In the middle of a spot of strength .8 a
    value of 55 becomes 55 + 200 · .8 = 215.

    Args:
        centre: of the spot, x and y in pixels. radius: in pixels. strength: 0 to 1.
    """
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    y, x = np.ogrid[:height, :width]

    def distance(at: NDArray[np.float64]) -> NDArray[Any]:
        return np.hypot(x - at[0], y - at[1])

    share = strength * np.maximum(1 - distance(np.asarray(centre)) / radius, 0) ** 2
    for times in GHOSTS:
        ghost = distance(middle + times * (np.asarray(centre) - middle)) <= radius / 4
        share = np.maximum(share, ghost * strength / 4)
    return _limited(image + (255.0 - image) * share[..., None])


def with_gamma(image: Image, gamma: float) -> Image:
    """255 · (x / 255)^gamma: below 1 brighter, above 1 darker, black and white stay. With .5 a 64 becomes 128."""
    return np.asarray(cv2.LUT(image, _limited(255 * (np.arange(256) / 255) ** gamma)))


def rgb_shifted(image: Image, shift: NDArray[np.float64]) -> Image:
    """Adds a number of its own to red, green and blue, (3,).

    With (10, 0, −20) the colour (250, 9, 9) becomes (255, 9, 0).
    """
    return _limited(image + shift)


def iso_noise(image: Image, rng: np.random.Generator, gain: float, colour: float) -> Image:
    """What a sensor adds at a high ISO: noise whose variance grows with the light, gain · x.

    It is one grain for the three colours of a pixel and one for each, whose share of the standard deviation is `colour`
    (0: grey, 1: speckles of colour). With a gain of .25 the value 100 gets a standard deviation of 5, 25 one of 2.5.
    """
    grey = rng.standard_normal((*image.shape[:2], 1), np.float32)
    own = rng.standard_normal(image.shape, np.float32)
    grain = np.float32(np.sqrt(1 - colour**2)) * grey + np.float32(colour) * own
    return _limited(image + np.sqrt(np.float32(gain) * image.astype(np.float32)) * grain)


def sharpened(image: Image, amount: float, sigma: float) -> Image:
    """An unsharp mask: adds `amount` times what a Gaussian blur of `sigma` pixels takes away.

    A value of 110 where the blurred image has 90 becomes, by an amount of .5, 110 + .5 · 20 = 120.
    """
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0))


def down_sampled(image: Image, factor: float) -> Image:
    """Made smaller by a factor, each pixel the mean of those it covers, then as large as before, bilinear.

    By 2 the eight values 0, 100, 0, 100, … of a row become 50 all along.
    """
    height, width = image.shape[:2]
    small = max(1, round(width / factor)), max(1, round(height / factor))
    less = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(less, (width, height), interpolation=cv2.INTER_LINEAR))


def compressed(image: Image, quality: int) -> Image:
    """Written as JPEG of that quality, 1 to 100, and read again, colours at half the resolution as is usual."""
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1])


def _limited(values: NDArray[Any]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
