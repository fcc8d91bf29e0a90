"""Networks that tell the pixels of lesions: Lesion-Net and those that it is compared with, on one and the same encoder.

Source: Wei et al., Learn to Segment Retinal Lesions and Beyond (ICPR 2020). What is ours, where it leaves something
open or where the encoder shared by all makes another network than the one first published, is said in
`keras_realmnet.models.lesions.decoders`.
"""

import keras
from keras import layers

from keras_realmnet.models.encoders.encoder import STRIDES, Encoder
from keras_realmnet.models.lesions import decoders
from keras_realmnet.models.network import Network, precision

__all__ = ["lesion_encoder", "lesion_network"]

_DECODERS = {name: getattr(decoders, name) for name in ("expansive", "fcn", "unet", "deeplab_v3_plus", "danet")}
_OWN_STRIDES = {"unet": 1, "deeplab_v3_plus": 4, "danet": 32}


def lesion_encoder(encoder, image_size, load_weights=False, dtype=None, frozen_stride=None):
    """The `Encoder` of these networks; Inception-v3 pads so that 896 px become 28 positions, as in the paper.

    The layers up to the map of stride `frozen_stride` do not train and run in inference mode; `None`: all train.
    """
    options = {"padding": "same"} if encoder == "inception_v3" else None
    network = Encoder(encoder, image_size, options, load_weights, name="encoder", dtype=dtype)
    if frozen_stride is not None:
        for layer in keras.Model(network.inputs, network.outputs[STRIDES.index(frozen_stride)]).layers:
            layer.trainable = False
    return network


def lesion_network(
    output,
    channels,
    decoder="expansive",
    stride=None,
    encoder="inception_v3",
    image_size=896,
    full_size=False,
    load_weights=False,
    frozen_stride=None,
    name="lesion_net",
    dtype=None,
):
    """An encoder, a decoder, and logits for each pixel and lesion.

    Args:
        output: name of the output. channels: lesions, or structures and the background.
        decoder: a function of `keras_realmnet.models.lesions.decoders`: "expansive" (Lesion-Net), "fcn", "unet",
            "deeplab_v3_plus", "danet".
        stride: where the decoder ends; expansive: 32, 16, 8, 4, 2; fcn: 32, 16, 8; the others have their own.
        encoder: "inception_v3", "efficientnet_lite0" or "mobilenet_v2".
        full_size: whether the logits are enlarged, bilinearly, to the size of the images, as published; else whoever
            looks at them does that, the losses for one.
        image_size, load_weights: as for `Encoder`. frozen_stride: as for `lesion_encoder`.
        name: of the model. dtype: of all but the logits, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h / s, w / s, channels), float32}, s
        the stride, with `full_size` 1.
    """
    chosen = {} if stride is None else {"stride": stride}
    stride = _OWN_STRIDES.get(decoder, stride)
    with precision(dtype):
        network = lesion_encoder(encoder, image_size, load_weights, dtype, frozen_stride)
        images = keras.Input((*network.image_size, 3), name="images")
        maps = {1: images, **dict(zip(STRIDES, network(images), strict=True))}
        enlarges = full_size and stride > 1
        logits = _DECODERS[decoder](maps, channels, f"{output}_coarse" if enlarges else output, **chosen)
        if enlarges:
            logits = layers.UpSampling2D(stride, interpolation="bilinear", dtype="float32", name=output)(logits)
        return Network(images, {output: logits}, name=name)
