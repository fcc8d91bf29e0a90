"""The guidance loss: where no annotator marked a finding, the activation map of a network is held back."""

import math

import keras
from keras import ops

from keras_realmnet.arguments import LOSSES, check
from keras_realmnet.losses.masks import checked_masks
from keras_realmnet.losses.targets import REDUCTION, FunctionLoss

__all__ = ["Guidance", "guidance"]

_SMALLEST = 1e-6  # of a denominator


def guidance(y_true, logits, lam=1.0, epsilon=1e-3, form="printed"):
    """λ times the mean over the cells of the map of what their activation costs outside of the marked regions.

    a = sigmoid(logits); m is 1 inside of the regions and 0 outside, in a cell that lies in both the share inside.

    - "printed": (1 − m)·log(max(a, ε)). It is minimized: negative, and lowest where a has fallen to ε.
    - "crossentropy", ours: −(1 − m)·log(1 − a), which has no floor and punishes a high activation more than a low one.

    Pixels of which nothing is known count nowhere. For one cell outside, at a logit of 0: log .5 = −.6931, or .6931.

    Args:
        y_true: (batch, H, W, findings), 1 inside of the regions, 0 outside; 255: ignored.
        logits: (batch, h, w, findings); H and W are whole multiples of h and w.
        lam: λ, not negative; with 0 the network is not guided, and its map can still be measured.
        epsilon: ε, above 0, below 1; of "printed" alone.
        form: "printed" or "crossentropy".

    Returns:
        A float32 scalar; 0 where nothing is known.

    Raises:
        ValueError: other shapes or values; a parameter out of its range.

    Source: Son et al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally
    Guided CNN (OMIA 2018, arXiv 1811.00871), with λ = 1 and ε = .001.
    """
    check("Guidance", LOSSES["Guidance"], {"lam": lam, "epsilon": epsilon, "form": form})
    checked_masks("Guidance", y_true, logits, exclusive=False)
    logits = ops.cast(logits, "float32")
    shape = logits.shape[1:]
    outside, known = (_by_cell(y_true, value, shape) for value in ((0,), (0, 1)))
    log_a, log_not_a = -ops.softplus(-logits), -ops.softplus(logits)
    cost = ops.maximum(log_a, math.log(epsilon)) if form == "printed" else -log_not_a
    return lam * ops.sum(outside * cost) / ops.maximum(ops.sum(known), _SMALLEST)


def _by_cell(y_true, values, shape):
    """(batch, H, W, findings) → (batch, h, w, findings): the share of each cell's pixels that have one of `values`."""
    height, width, findings = shape
    rows, columns = ops.shape(y_true)[1:3]
    pixels = ops.cast(y_true, "float32")
    has = sum(ops.cast(ops.equal(pixels, float(value)), "float32") for value in values)
    cells = ops.reshape(has, (-1, height, rows // height, width, columns // width, findings))
    return ops.mean(cells, axis=(2, 4))


@keras.saving.register_keras_serializable("keras_realmnet")
class Guidance(FunctionLoss):
    """`guidance` on logits."""

    def __init__(self, lam=1.0, epsilon=1e-3, form="printed", name="guidance", reduction=REDUCTION, dtype=None):
        super().__init__(guidance, name, reduction, dtype, lam=lam, epsilon=epsilon, form=form)
