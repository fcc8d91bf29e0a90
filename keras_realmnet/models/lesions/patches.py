"""A network for small windows on a large image: FCN-32s on patches, which Lesion-Net is compared with."""

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.models.network import Network

__all__ = ["MeanOfWindows", "Windows", "patch_network"]

_SMALLEST = 1e-7  # of a mean probability, and of what it lacks to 1


def patch_network(network, image_size=896, step=112, name="patch_network"):
    """`network` on every window of an image, all windows in one batch, averaged where they overlap.

    Published (Wei et al., ICPR 2020): FCN-32s, windows of 224 px, each 112 px from the next. `network` is trained on
    such windows by itself; the weights are shared, not copied. That probabilities are averaged, not logits, is ours.

    Args:
        network: of `lesion_network` with `full_size`; its input is the window, its output one of masks that are not
            exclusive.
        image_size: pixels, one number or (height, width): a window and a whole number of steps.
        step: pixels from a window to the next, at most a window.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h, w, channels), float32}, those of
        the mean probability.

    Raises:
        ValueError: another output than one of the input's size, or an image that the windows do not cover.
    """
    (output,) = network.output if isinstance(network.output, dict) and len(network.output) == 1 else (None,)
    if output is None or tuple(network.output[output].shape[1:3]) != network.image_size:
        raise ValueError(
            f"network must answer one output at the size of its input, {network.image_size}. Received: {network.output}"
        )
    if not size_rule(1).holds(image_size):
        raise ValueError(f"image_size must be {size_rule(1).expected}. Received: {image_size!r}")
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    windows = Windows(network.image_size, step, name="windows")
    images = keras.Input((*sides, 3), name="images")
    logits = network(windows(images))[output]
    return Network(images, {output: MeanOfWindows(sides, step, name=output)(logits)}, name=name)


def _places(sides, window, step):
    """(top, left) of each window, row by row."""
    fits = step >= 1 and all(
        side >= w >= step and (side - w) % step == 0 for side, w in zip(sides, window, strict=True)
    )
    if not fits:
        raise ValueError(
            f"an image must be a window of {window} px and whole steps of {step} px, at most a window each. "
            f"Received: {sides}"
        )
    tops, lefts = (range(0, side - w + 1, step) for side, w in zip(sides, window, strict=True))
    return [(top, left) for top in tops for left in lefts]


@keras.saving.register_keras_serializable("keras_realmnet")
class Windows(layers.Layer):
    """Images (batch, h, w, 3) → their windows, (batch · windows, height, width, 3), those of an image row by row.

    Args:
        window: (height, width) in pixels. step: pixels from a window to the next.
    """

    def __init__(self, window, step, **kwargs):
        super().__init__(**kwargs)
        self.window, self.step = tuple(window), int(step)

    def call(self, images):
        (height, width), sides = self.window, tuple(images.shape[1:3])
        places = _places(sides, self.window, self.step)
        windows = [images[:, top : top + height, left : left + width] for top, left in places]
        return ops.reshape(ops.stack(windows, axis=1), (-1, height, width, images.shape[3]))

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        windows = len(_places(tuple(sides), self.window, self.step))
        return (None if batch is None else batch * windows, *self.window, channels)

    def get_config(self):
        return {**super().get_config(), "window": self.window, "step": self.step}


@keras.saving.register_keras_serializable("keras_realmnet")
class MeanOfWindows(layers.Layer):
    """Logits of windows as `Windows` gives them → logits of the mean probability, (batch, h, w, channels), float32.

    Args:
        sides: (height, width) of the image. step: pixels from a window to the next.
    """

    def __init__(self, sides, step, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.sides, self.step = tuple(sides), int(step)

    def call(self, logits):
        _, height, width, channels = logits.shape
        places = _places(self.sides, (height, width), self.step)
        windows = ops.reshape(ops.sigmoid(logits), (-1, len(places), height, width, channels))
        counts = np.zeros((*self.sides, 1), "float32")
        total = 0.0
        for k, (top, left) in enumerate(places):
            below, right = self.sides[0] - top - height, self.sides[1] - left - width
            total = total + ops.pad(windows[:, k], ((0, 0), (top, below), (left, right), (0, 0)))
            counts[top : top + height, left : left + width] += 1
        mean = ops.clip(total / ops.convert_to_tensor(counts), _SMALLEST, 1 - _SMALLEST)
        return ops.log(mean) - ops.log1p(-mean)

    def compute_output_shape(self, input_shape):
        batch, *window, channels = input_shape
        windows = len(_places(self.sides, tuple(window), self.step))
        return (None if batch is None else batch // windows, *self.sides, channels)

    def get_config(self):
        return {**super().get_config(), "sides": self.sides, "step": self.step}
