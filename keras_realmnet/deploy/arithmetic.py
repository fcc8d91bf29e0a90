"""Weights of two linear layers as those of one. All in float64: whoever stores the result rounds once."""

import numpy as np

__all__ = ["batch_norm_as_scale_shift", "fold_layer_norm", "fold_scale_shift_after", "fold_scale_shift_before"]


def batch_norm_as_scale_shift(gamma, beta, mean, variance, epsilon):
    """scale and shift, each (channels,), of BatchNorm in inference: γ/√(σ² + ε), and β − μ·γ/√(σ² + ε)."""
    gamma, beta, mean, variance = (np.asarray(value, "float64") for value in (gamma, beta, mean, variance))
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def fold_scale_shift_after(kernel, bias, scale, shift):
    """Kernel and bias of what multiplies the output of a layer by `scale` and adds `shift`.

    Args:
        kernel: (…, channels…): the axes of its output channels are the last ones. bias, scale, shift: (channels,).
    """
    channels = int(np.prod(scale.shape))
    by_channel = kernel.reshape(-1, channels) * scale
    return by_channel.reshape(kernel.shape), np.asarray(bias, "float64") * scale + shift


def fold_scale_shift_before(kernel, bias, scale, shift):
    """Kernel and bias of what first multiplies its input by `scale` and adds `shift`: W·(s·x + t) = (W·s)·x + W·t.

    Exact only where every weight meets an input: zeros that a convolution pads with are not shifted.

    Args:
        kernel: (…, input channels, output channels). bias: (output channels,). scale, shift: (input channels,).
    """
    over_positions = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0, dtype="float64")
    return kernel * scale[:, None], bias + shift @ over_positions


def fold_layer_norm(norm, kernel, bias):
    """Kernel and bias of a dense layer that does what a LayerNorm's affine part and `kernel`, `bias` do.

    (γ·x + β)·W + b = x·(diag(γ)·W) + (β·W + b).

    Args:
        norm: γ, β of the LayerNorm, each (dim,).
        kernel: W, (dim, units); bias: b, (units,).
    """
    gamma, beta, kernel = (np.asarray(value, "float64") for value in (*norm, kernel))
    return gamma[:, None] * kernel, beta @ kernel + bias
