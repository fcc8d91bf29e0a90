"""RealMNet's augmentation of training images: each operation with its own probability, MixUp or CutMix per batch.

Affine changes and flips move the image; masks and points follow them by the `Motion` that `augment` gives. The other
operations touch the image alone.

NumPy and OpenCV on uint8, so that the same recipe trains on every Keras backend. Every draw comes from the generator
that is passed in: the caller seeds it by (seed, epoch, index), and the result does not depend on who computes it.

Source: the data pipeline of RealMNet's public code (npj Digital Medicine 2025).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import SHARE, Rule, check, count, number, pair
from keras_realmnet.tasks.task import Task
from training.tasks.kinds import kind_of
from training.tasks.motion import Motion

__all__ = ["Augmentation", "Targets", "affine_matrix", "augment", "check_mixing", "cutmix", "mix_batch", "mixup"]

Image = NDArray[Any]  # uint8; OpenCV's own annotations say less
Targets = Mapping[str, NDArray[Any]]  # of a batch, (n, ...) each
Generator = np.random.Generator


def _range(rule: Rule) -> Rule:
    """(from, to), not falling, each end as `rule` says."""
    ends = pair(rule)
    return Rule(f"{ends.expected}, not falling", lambda value: ends.holds(value) and value[0] <= value[1])


_POSITIVE = number(0, above=True)
_FIELDS: Mapping[str, Rule] = {
    **dict.fromkeys(("erase", "affine", "horizontal_flip", "vertical_flip", "blur", "jitter", "noise"), SHARE),
    **dict.fromkeys(("mixup", "cutmix", "brightness", "contrast", "saturation"), SHARE),
    **dict.fromkeys(("erase_aspect", "scale", "blur_sigma"), _range(_POSITIVE)),
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

    Per image: `erase`, `affine`, `horizontal_flip`, `vertical_flip`, `blur`, `jitter`, `noise`, in this order.
    Per batch: `mixup`, or else `cutmix`, or neither; the two probabilities add up to at most 1.
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

    def __post_init__(self) -> None:
        check("an augmentation", _FIELDS, vars(self))
        if self.mixup + self.cutmix > 1:
            raise ValueError(f"mixup + cutmix must be at most 1. Received: {self.mixup} + {self.cutmix}")

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
    matrix = affine_matrix(image.shape[:2], rng, settings) if affine < settings.affine else None
    motion = Motion(image.shape[:2], matrix, horizontal < settings.horizontal_flip, vertical < settings.vertical_flip)
    image = motion.image(image)
    if blur < settings.blur:
        image = cv2.GaussianBlur(image, (settings.blur_size,) * 2, rng.uniform(*settings.blur_sigma))
    if jitter < settings.jitter:
        image = color_jitter(image, rng, settings)
    if noise < settings.noise:
        deviation = np.sqrt(rng.uniform(*settings.noise_variance))
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(deviation) + np.float32(settings.noise_mean)
        image = cv2.add(image, grain, dtype=cv2.CV_8U)  # rounds and saturates
    return image, motion


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
