"""Two networks that see one picture, for the box: what is trained, and masks of a frozen one beside it. Ours."""

import keras
from keras import layers

from keras_realmnet.models.network import Network, precision

__all__ = ["beside_network"]


def beside_network(main, part, reduction=1, name="beside", dtype=None):
    """What `main` answers, which sees the picture reduced, and what `part` does, which sees it as it is, frozen.

    A microaneurysm or a thin vessel is seen at a size at which a grade or a landmark costs much more than it gains.

    Args:
        main: a `Network` for pictures of h / reduction × w / reduction px, which are means of reduction × reduction
            pixels. part: a `Network` for pictures of h × w px. Their outputs have different names.
        reduction: a whole number. name: of the model. dtype: as for `Encoder`, of nothing but the model itself.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → what both answer. Its layers `main` and `part` are the two.
    """
    with precision(dtype):
        images = keras.Input((*part.image_size, 3), name="images")
        reduced = images
        if reduction > 1:
            reduced = layers.AveragePooling2D(reduction, dtype="float32", name="reduced")(images)
        main, part = (Network(each.input, each.output, name=key) for key, each in (("main", main), ("part", part)))
        part.trainable = False
        return Network(images, {**main(reduced), **part(images)}, name=name)
