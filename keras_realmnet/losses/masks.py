"""Losses of masks: cross-entropy with Dice, Lesion-Net's dual Dice, and the two that it is compared with.

Logits may be coarser than the truth: they are brought to its size first, bilinearly, so that a truth of thin structures
is judged as it is.
"""

import keras
import numpy as np
from keras import ops

from keras_realmnet.arguments import LOSSES, check
from keras_realmnet.losses.targets import (
    IGNORED,
    REDUCTION,
    FunctionLoss,
    focal_crossentropy,
    may_agree,
    mean_over,
    shape_of,
    values_of,
)

__all__ = [
    "CrossentropyDice",
    "DualDice",
    "PixelCrossentropy",
    "PixelFocal",
    "checked_masks",
    "crossentropy_dice",
    "dual_dice",
    "pixel_crossentropy",
    "pixel_focal",
]

_SMOOTHING = 1.0  # pixels, so that a structure that is nowhere, and found nowhere, has a Dice of 1
_SMALLEST = 1e-6  # of a denominator


def crossentropy_dice(y_true, logits, exclusive=False, dice_weight=1.0):
    """Cross-entropy, plus `dice_weight` times 1 − Dice, over the pixels that are not ignored.

    The cross-entropy is the mean over pixels (and channels where a pixel may belong to several). Dice is soft,
    (2·Σp·g + 1) / (Σp + Σg + 1) with sums over all pixels of the batch, one for each structure (the background is
    none), and their mean counts. For a disc that is everywhere, 2 × 2 pixels, and logits of 0: log 2 + 1 − 5/7 = .9789.

    Args:
        y_true: exclusive: (batch, H, W), 0 background, k for structure k; else (batch, H, W, structures), 0 and 1.
            255: ignored.
        logits: (batch, h, w, channels); H and W are whole multiples of h and w. exclusive: a softmax, channel 0 is the
            background; else each a sigmoid.
        exclusive: whether a pixel belongs to one structure at most.
        dice_weight: not negative.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: other shapes or values; a parameter out of its range.

    Source: cross-entropy and Dice of Xie et al., PALM (SPIE 2019), which does not state how they are computed: that,
    and the weight, are ours.
    """
    check("CrossentropyDice", LOSSES["CrossentropyDice"], {"exclusive": exclusive, "dice_weight": dice_weight})
    y_true, logits, known = _at_one_size("CrossentropyDice", y_true, logits, exclusive)
    if exclusive:
        truth = ops.one_hot(ops.cast(y_true, "int32"), logits.shape[-1], dtype="float32")
        log_p = ops.log_softmax(logits, axis=-1)
        loss = mean_over(-ops.sum(truth * log_p, axis=-1), known)
        p, truth, known = ops.exp(log_p)[..., 1:], truth[..., 1:], known[..., None]
    else:
        truth = y_true
        loss = mean_over(ops.softplus(logits) - truth * logits, known)
        p = ops.sigmoid(logits)
    p, truth = p * known, truth * known
    both, sizes = (ops.sum(x, axis=(0, 1, 2)) for x in (p * truth, p + truth))  # (structures,)
    return loss + dice_weight * ops.mean(1 - (2 * both + _SMOOTHING) / (sizes + _SMOOTHING))


def dual_dice(y_true, logits, lam=0.8):
    """λ·(1 − Dice of the pixels) + (1 − λ)·(1 − Dice of the images), for structures of which a pixel may have several.

    Both are 2·Σp·g / (Σp² + Σg²) with sums over the batch, pixels and structures together; that of the images is
    computed of the largest probability in the picture and of whether the structure is in it. λ = 1 leaves the pixels.
    For one pixel that is positive, at a logit of 0: 1 − 1 / 1.25 = .2.

    Args:
        y_true: (batch, H, W, structures), 0 and 1; 255: ignored.
        logits: (batch, h, w, structures); H and W are whole multiples of h and w.
        lam: λ, 0–1.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: other shapes or values; λ out of its range.

    Source: Wei et al., Learn to Segment Retinal Lesions and Beyond (ICPR 2020).
    """
    check("DualDice", LOSSES["DualDice"], {"lam": lam})
    truth, logits, known = _at_one_size("DualDice", y_true, logits, exclusive=False)
    p, truth = ops.sigmoid(logits) * known, truth * known
    pixels = _squared_dice(p, truth)
    images = _squared_dice(ops.max(p, axis=(1, 2)), ops.max(truth, axis=(1, 2)))
    return lam * (1 - pixels) + (1 - lam) * (1 - images)


def pixel_crossentropy(y_true, logits, alpha=0.8):
    """Weighted cross-entropy: the mean of −[α·y·log p + (1−α)·(1−y)·log(1−p)] over the pixels that are not ignored.

    p = sigmoid(logits). For one pixel that is positive, at a logit of 0: .8 · log 2 = .5545.

    Args:
        y_true, logits: as for `dual_dice`.
        alpha: weight of the positives, 0–1. That the weight is one number, and that of the focal loss, is ours.

    Returns:
        A float32 scalar; 0 where no pixel is known.

    Raises:
        ValueError: other shapes or values; α out of its range.

    Source: named, not written down, in Wei et al., Learn to Segment Retinal Lesions and Beyond (ICPR 2020).
    """
    check("PixelCrossentropy", LOSSES["PixelCrossentropy"], {"alpha": alpha})
    truth, logits, known = _at_one_size("PixelCrossentropy", y_true, logits, exclusive=False)
    return mean_over(focal_crossentropy(truth, logits, alpha, gamma=0.0), known)


def pixel_focal(y_true, logits, alpha=0.8, gamma=2.0):
    """The mean of −[α·y·(1−p)^γ·log p + (1−α)·(1−y)·p^γ·log(1−p)] over the pixels that are not ignored.

    p = sigmoid(logits). For one pixel that is positive, at a logit of 0: .8 · .25 · log 2 = .1386.

    Args:
        y_true, logits: as for `dual_dice`.
        alpha: weight of the positives, 0–1. gamma: focusing exponent, not negative.

    Returns:
        A float32 scalar; 0 where no pixel is known.

    Raises:
        ValueError: other shapes or values; a parameter out of its range.

    Source: arXiv 1708.02002, eq. 5; α and γ as in Wei et al., Learn to Segment Retinal Lesions and Beyond (ICPR 2020).
    """
    check("PixelFocal", LOSSES["PixelFocal"], {"alpha": alpha, "gamma": gamma})
    truth, logits, known = _at_one_size("PixelFocal", y_true, logits, exclusive=False)
    return mean_over(focal_crossentropy(truth, logits, alpha, gamma), known)


def _squared_dice(p, truth):
    return 2 * ops.sum(p * truth) / ops.maximum(ops.sum(ops.square(p)) + ops.sum(ops.square(truth)), _SMALLEST)


def _at_one_size(loss, y_true, logits, exclusive):
    """The truth with 0 where it is ignored, the logits at its size, and 1 where it is known; all float32."""
    checked_masks(loss, y_true, logits, exclusive)
    size, (height, width) = shape_of(y_true), shape_of(logits)[1:3]
    y_true, logits = ops.cast(y_true, "float32"), ops.cast(logits, "float32")
    known = ops.cast(y_true != IGNORED, "float32")
    if size is None or size[1:3] != (height, width):
        height, width = ops.shape(y_true)[1:3]
        logits = ops.image.resize(logits, (height, width), interpolation="bilinear", data_format="channels_last")
    return y_true * known, logits, known


def checked_masks(loss, y_true, logits, exclusive):
    """Raises ValueError, as the package says, for a truth of masks and logits that `loss` cannot compare."""
    size, of_logits = shape_of(y_true), shape_of(logits)
    if of_logits is None or None in of_logits[1:]:
        raise ValueError(f"{loss} needs logits of known height, width and channels. Received: {of_logits}")
    height, width, channels = of_logits[1:]
    expected = (of_logits[0], None, None) if exclusive else (of_logits[0], None, None, channels)
    if not may_agree(size, expected) or (size is not None and any(map(_not_multiple, size[1:3], (height, width)))):
        kind = "(batch, H, W)" if exclusive else f"(batch, H, W, {channels})"
        raise ValueError(
            f"{loss} needs targets {kind} with H and W whole multiples of the {height} and {width} of the logits. "
            f"Received: {size}"
        )
    values = values_of(y_true)
    if values is not None:
        allowed = [*range(channels if exclusive else 2), IGNORED]
        if not np.isin(values, allowed).all():
            raise ValueError(f"{loss} needs targets among {allowed}. Received: {np.unique(values)[:10]}")


def _not_multiple(side, step):
    return side is not None and (side < step or side % step != 0)


@keras.saving.register_keras_serializable("keras_realmnet")
class CrossentropyDice(FunctionLoss):
    """`crossentropy_dice` on logits."""

    def __init__(self, exclusive=False, dice_weight=1.0, name="crossentropy_dice", reduction=REDUCTION, dtype=None):
        super().__init__(crossentropy_dice, name, reduction, dtype, exclusive=exclusive, dice_weight=dice_weight)


@keras.saving.register_keras_serializable("keras_realmnet")
class DualDice(FunctionLoss):
    """`dual_dice` on logits."""

    def __init__(self, lam=0.8, name="dual_dice", reduction=REDUCTION, dtype=None):
        super().__init__(dual_dice, name, reduction, dtype, lam=lam)


@keras.saving.register_keras_serializable("keras_realmnet")
class PixelCrossentropy(FunctionLoss):
    """`pixel_crossentropy` on logits."""

    def __init__(self, alpha=0.8, name="pixel_crossentropy", reduction=REDUCTION, dtype=None):
        super().__init__(pixel_crossentropy, name, reduction, dtype, alpha=alpha)


@keras.saving.register_keras_serializable("keras_realmnet")
class PixelFocal(FunctionLoss):
    """`pixel_focal` on logits."""

    def __init__(self, alpha=0.8, gamma=2.0, name="pixel_focal", reduction=REDUCTION, dtype=None):
        super().__init__(pixel_focal, name, reduction, dtype, alpha=alpha, gamma=gamma)
