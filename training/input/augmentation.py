"""Augmentation of training images: each operation with its own probability, MixUp or CutMix per batch.

Affine changes, resizing, elastic changes and flips move the image; masks and points follow them by the `Motion` that
`augment` gives. The other operations touch the image alone.

NumPy and OpenCV on uint8, so that the same recipe trains on every Keras backend. Every draw comes from the generator
that is passed in: the caller seeds it by (seed, epoch, index), and the result does not depend on who computes it.

Source: the data pipeline of RealMNet's public code (npj Digital Medicine 2025); what it has not is in `operations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import SHARE, Rule, check, count, number, pair
from keras_realmnet.tasks.task import Task
from training.input.operations import (
    compressed,
    down_sampled,
    elastic_displacement,
    iso_noise,
    resize_matrix,
    rgb_shifted,
    sharpened,
    sun_flare,
    with_gamma,
)
from training.tasks.kinds import kind_of
from training.tasks.motion import Motion

__all__ = [
    "ADDED",
    "OPERATIONS",
    "Augmentation",
    "Targets",
    "affine_matrix",
    "augment",
    "check_mixing",
    "cutmix",
    "mix_batch",
    "mixup",
]

Image = NDArray[Any]  # uint8; OpenCV's own annotations say less
Targets = Mapping[str, NDArray[Any]]  # of a batch, (n, ...) each
Generator = np.random.Generator


def _range(rule: Rule) -> Rule:
    """(from, to), not falling, each end as `rule` says."""
    ends = pair(rule)
    return Rule(f"{ends.expected}, not falling", lambda value: ends.holds(value) and value[0] <= value[1])


# What RealMNet does not do. These coins and draws come from a stream of their own: that there are such operations, and
# that one is used, shifts no draw of the others.
ADDED = ("resize", "elastic", "sun_flare", "gamma", "rgb_shift", "iso_noise", "sharpness", "downsampling", "jpeg")
OPERATIONS = (  # of one image, in the order in which they are applied
    *("erase", "affine", "resize", "elastic", "horizontal_flip", "vertical_flip", "sun_flare", "blur", "jitter"),
    *("gamma", "rgb_shift", "noise", "iso_noise", "sharpness", "downsampling", "jpeg"),
)

_POSITIVE = number(0, above=True)
_FIELDS: Mapping[str, Rule] = {
    **dict.fromkeys((*OPERATIONS, "mixup", "cutmix", "brightness", "contrast", "saturation", "iso_colour"), SHARE),
    **dict.fromkeys(("erase_aspect", "scale", "blur_sigma", "resize_factor", "gamma_exponent"), _range(_POSITIVE)),
    **dict.fromkeys(("flare_strength", "flare_radius"), _range(SHARE)),
    **dict.fromkeys(("iso_gain", "sharpness_amount"), _range(number(0))),
    "elastic_grid": count(2),
    "elastic_shift": number(0),
    "rgb_limit": number(0, 255),
    "sharpness_sigma": _POSITIVE,
    "downsampling_factor": _range(number(1)),
    "jpeg_quality": _range(count(1, 100)),
    "erase_area": _range(SHARE),
    "erase_fill": count(0, 255),
    "rotation": number(0, 180),
    "shear": number(0, 90, below=True),
    "blur_size": Rule("an odd number", lambda value: count(1).holds(value) and value % 2 == 1),
    "hue": number(0, 0.5),
    "noise_mean": number(-255, 255),
    "noise_variance": _range(number(0)),
    **dict.fromkeys(("mixup_alpha", "cutmix_alpha"), _POSITIVE),
}


@dataclass(frozen=True)
class Augmentation:
    """Probabilities (0-1) and ranges; `Augmentation.none()` changes nothing.

    Per image, in the order of OPERATIONS, as light, lens, sensor and file follow each other:

    - erase: a rectangle of `erase_area` of the image and `erase_aspect` becomes `erase_fill`.
    - affine: turned by up to `rotation`, sheared by up to `shear`, `scale` times as large.
    - resize: `resize_factor` times as wide, and by a factor of its own as high.
    - elastic: shifts of up to `elastic_shift` of the side at `elastic_grid` × `elastic_grid` places, smooth between.
    - horizontal_flip, vertical_flip.
    - sun_flare: a spot of `flare_radius` of the side and `flare_strength`, anywhere.
    - blur: Gaussian, `blur_sigma`.
    - jitter: brightness, contrast, saturation and hue, each by up to what it is called after; 0 leaves one out.
    - gamma: the exponent `gamma_exponent`.
    - rgb_shift: up to `rgb_limit` added to or taken from each colour.
    - noise: Gaussian of `noise_mean` and `noise_variance`, the same at any brightness.
    - iso_noise: of the variance `iso_gain` times the brightness; `iso_colour` of it is colour.
    - sharpness: `sharpness_amount` of the detail finer than `sharpness_sigma` is added.
    - downsampling: `downsampling_factor` times smaller and as large as before.
    - jpeg: compressed with `jpeg_quality`.

    Per batch: `mixup`, or else `cutmix`, or neither; the two probabilities add up to at most 1.

    What RealMNet does is in this module, the rest, which is off by default, worked out in `operations`.
    """

    erase: float = 0.3
    affine: float = 0.3
    horizontal_flip: float = 0.3
    vertical_flip: float = 0.1
    blur: float = 0.3
    jitter: float = 0.3
    noise: float = 0.3
    mixup: float = 0.3
    cutmix: float = 0.3
    resize: float = 0.0
    elastic: float = 0.0
    sun_flare: float = 0.0
    gamma: float = 0.0
    rgb_shift: float = 0.0
    iso_noise: float = 0.0
    sharpness: float = 0.0
    downsampling: float = 0.0
    jpeg: float = 0.0

    erase_area: tuple[float, float] = (0.05, 0.3)  # of the image
    erase_aspect: tuple[float, float] = (0.3, 3.3)  # height / width
    erase_fill: int = 128
    scale: tuple[float, float] = (0.8, 1.2)
    rotation: float = 15.0  # degrees, either way
    shear: float = 10.0  # degrees, either way, along x and y
    blur_size: int = 7  # px
    blur_sigma: tuple[float, float] = (0.1, 1.0)  # px
    brightness: float = 0.25  # a factor in 1 -+ this
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 0.25  # turns of the colour circle, either way
    noise_mean: float = 0.0  # on 0-255
    noise_variance: tuple[float, float] = (10.0, 50.0)  # on 0-255
    mixup_alpha: float = 0.6
    cutmix_alpha: float = 1.0
    resize_factor: tuple[float, float] = (0.8, 1.25)
    elastic_grid: int = 4
    elastic_shift: float = 0.02  # of the side, either way
    flare_radius: tuple[float, float] = (0.1, 0.4)  # of the shorter side
    flare_strength: tuple[float, float] = (0.3, 0.9)
    gamma_exponent: tuple[float, float] = (0.7, 1.4)
    rgb_limit: float = 20.0  # on 0-255, either way
    iso_gain: tuple[float, float] = (0.1, 1.0)  # variance on 0-255, of one step of brightness
    iso_colour: float = 0.5  # of the standard deviation
    sharpness_amount: tuple[float, float] = (0.2, 1.0)
    sharpness_sigma: float = 2.0  # px
    downsampling_factor: tuple[float, float] = (1.5, 4.0)
    jpeg_quality: tuple[int, int] = (40, 95)

    def __post_init__(self) -> None:
        check("an augmentation", _FIELDS, vars(self))
        if self.mixup + self.cutmix > 1:
            raise ValueError(f"mixup + cutmix must be at most 1. Received: {self.mixup} + {self.cutmix}")
        if self.elastic_shift * self.elastic_grid > 0.1:
            raise ValueError(
                "elastic_shift times elastic_grid must be at most 0.1, or images fold. "
                f"Received: {self.elastic_shift} and {self.elastic_grid}"
            )

    @classmethod
    def none(cls) -> "Augmentation":
        return cls(erase=0, affine=0, horizontal_flip=0, vertical_flip=0, blur=0, jitter=0, noise=0, mixup=0, cutmix=0)


def augment(image: Image, rng: Generator, settings: Augmentation) -> tuple[Image, Motion]:
    """An augmented copy of a uint8 RGB image of shape (h, w, 3), and how it moved, which what is true of it follows."""
    image = image.copy()
    # All coins at once: whether one operation runs must not shift the draws of the others' coins.
    erase, affine, horizontal, vertical, blur, jitter, noise = rng.random(7)
    if erase < settings.erase:
        random_erasing(image, rng, settings)
    added, more = _added(rng, settings)
    matrix = affine_matrix(image.shape[:2], rng, settings) if affine < settings.affine else None
    flips = horizontal < settings.horizontal_flip, vertical < settings.vertical_flip
    motion = _motion(image.shape[:2], matrix, flips, added, more, settings)
    image = motion.image(image)
    if "sun_flare" in added:
        image = _flared(image, more, settings)
    if blur < settings.blur:
        image = cv2.GaussianBlur(image, (settings.blur_size,) * 2, rng.uniform(*settings.blur_sigma))
    if jitter < settings.jitter:
        image = color_jitter(image, rng, settings)
    if "gamma" in added:
        image = with_gamma(image, *_factors(more, settings.gamma_exponent, 1))
    if "rgb_shift" in added:
        image = rgb_shifted(image, more.uniform(-1, 1, 3) * settings.rgb_limit)
    if noise < settings.noise:
        deviation = np.sqrt(rng.uniform(*settings.noise_variance))
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(deviation) + np.float32(settings.noise_mean)
        image = cv2.add(image, grain, dtype=cv2.CV_8U)  # rounds and saturates
    if "iso_noise" in added:
        image = iso_noise(image, more, more.uniform(*settings.iso_gain), settings.iso_colour)
    if "sharpness" in added:
        image = sharpened(image, more.uniform(*settings.sharpness_amount), settings.sharpness_sigma)
    if "downsampling" in added:
        image = down_sampled(image, more.uniform(*settings.downsampling_factor))
    if "jpeg" in added:
        low, high = settings.jpeg_quality
        image = compressed(image, int(more.integers(low, high + 1)))
    return image, motion


def _motion(
    shape: tuple[int, int],
    matrix: NDArray[np.float64] | None,
    flips: tuple[bool, bool],
    added: set[str],
    rng: Generator,
    settings: Augmentation,
) -> Motion:
    displacement = None
    if "resize" in added:
        x, y = _factors(rng, settings.resize_factor, 2)
        wider = resize_matrix(shape, (x, y))
        matrix = wider if matrix is None else (np.vstack([wider, (0, 0, 1)]) @ np.vstack([matrix, (0, 0, 1)]))[:2]
    if "elastic" in added:
        nodes = rng.uniform(-1, 1, (settings.elastic_grid, settings.elastic_grid, 2)) * settings.elastic_shift
        displacement = elastic_displacement(shape, nodes)
    return Motion(shape, matrix, *flips, displacement)


def _added(rng: Generator, settings: Augmentation) -> tuple[set[str], Generator]:
    """Which of the operations ADDED are done, and what they draw from."""
    if not any(getattr(settings, name) for name in ADDED):
        return set(), rng
    more = rng.spawn(1)[0]  # which leaves the stream of `rng` as it is
    coins = dict(zip(ADDED, more.random(len(ADDED)), strict=True))
    return {name for name, coin in coins.items() if coin < getattr(settings, name)}, more


def _factors(rng: Generator, ends: tuple[float, float], count: int) -> list[float]:
    """Between both ends, their logarithms drawn evenly: what doubles is as likely as what halves."""
    low, high = np.log(ends).tolist()
    return [float(value) for value in np.exp(rng.uniform(low, high, count))]


def _flared(image: Image, rng: Generator, settings: Augmentation) -> Image:
    height, width = image.shape[:2]
    centre = rng.uniform(0, width), rng.uniform(0, height)
    radius = max(1.0, rng.uniform(*settings.flare_radius) * min(height, width))
    return sun_flare(image, centre, radius, rng.uniform(*settings.flare_strength))


def random_erasing(image: Image, rng: Generator, settings: Augmentation) -> None:
    """Fills a rectangle inside of the image, in place."""
    height, width = image.shape[:2]
    area = rng.uniform(*settings.erase_area) * height * width
    aspect = np.exp(rng.uniform(*np.log(settings.erase_aspect)))
    h = min(height, max(1, round(np.sqrt(area * aspect))))
    w = min(width, max(1, round(np.sqrt(area / aspect))))
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    image[top : top + h, left : left + w] = settings.erase_fill


def affine_matrix(shape: tuple[int, int], rng: Generator, settings: Augmentation) -> NDArray[np.float64]:
    """Scales, rotates and shears images of that height and width about their centre: see `Motion.matrix`."""
    height, width = shape
    scale = rng.uniform(*settings.scale)
    angle, shear_x, shear_y = np.deg2rad(rng.uniform(-1, 1, 3) * (settings.rotation, settings.shear, settings.shear))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotation @ [[1, np.tan(shear_x)], [np.tan(shear_y), 1]]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre])


def color_jitter(image: Image, rng: Generator, settings: Augmentation) -> Image:
    """Brightness, contrast and saturation as one linear map of the colours, then a turn of the hue."""
    strengths = np.array([settings.brightness, settings.contrast, settings.saturation])
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * strengths
    turn = rng.uniform(-settings.hue, settings.hue)
    luma = np.array([0.299, 0.587, 0.114])
    mean = float(luma @ np.array(cv2.mean(image)[:3]))
    to_grey = np.tile(luma, (3, 1))
    linear = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * to_grey)
    offset = np.full(3, brightness * (1 - contrast) * mean)  # contrast is about the mean grey
    image = cv2.transform(image, np.column_stack([linear, offset]))
    if round(turn * 180):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # uint8, hue in 0..179
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(turn * 180)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return image


def check_mixing(task: Task, augmentation: Augmentation) -> None:
    """Raises ValueError where the images of `task` would be mixed and their truth cannot be."""
    if augmentation.mixup == augmentation.cutmix == 0:
        return
    for name, output in task.trained.items():
        if not kind_of(output).mixes:
            raise ValueError(
                f"{output.kind} ({name}) cannot be mixed: augmentation.mixup and augmentation.cutmix must be 0. "
                f"Received: {augmentation.mixup} and {augmentation.cutmix}"
            )


def mix_batch(
    images: NDArray[np.float32], targets: Targets, rng: Generator, settings: Augmentation
) -> tuple[NDArray[np.float32], Targets]:
    """MixUp, CutMix or neither on a batch; images (n, h, w, 3) with values 0-255, of each target (n, classes).

    What is unknown (NaN) in either of two images is unknown in their mixture.
    """
    coin = rng.random()
    if coin < settings.mixup:
        return mixup(images, targets, rng, settings.mixup_alpha)
    if coin < settings.mixup + settings.cutmix:
        return cutmix(images, targets, rng, settings.cutmix_alpha)
    return images, targets


def mixup(images, targets, rng, alpha):
    """Weighted means of the batch and a permutation of it (arXiv 1710.09412)."""
    weight = np.float32(rng.beta(alpha, alpha))
    other = rng.permutation(len(images))
    return weight * images + (1 - weight) * images[other], _weighted(targets, weight, other)


def cutmix(images, targets, rng, alpha):
    """A rectangle from a permutation of the batch; targets in proportion to the area (arXiv 1905.04899)."""
    height, width = images.shape[1:3]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = (int(np.clip(y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    other = rng.permutation(len(images))
    images = images.copy()
    images[:, top:bottom, left:right] = images[other, top:bottom, left:right]
    weight = np.float32(1 - (bottom - top) * (right - left) / (height * width))
    return images, _weighted(targets, weight, other)


def _weighted(targets, weight, other):
    return {name: weight * values + (1 - weight) * values[other] for name, values in targets.items()}
