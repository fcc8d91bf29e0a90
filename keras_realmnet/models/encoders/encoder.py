"""Networks that have seen ImageNet, as encoders: an image in, feature maps at the strides 2, 4, 8, 16 and 32 out.

TinyViT and the two made for int8 (EfficientNet-Lite0, MobileNetV2) are ours; ResNet50, VGG19, Inception-v3 and
EfficientNet are those of keras.applications, ResNet34 is keras-hub's.
"""

import keras
from keras import layers

from keras_realmnet.arguments import ENCODERS, check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.encoders.inverted_residuals import NETWORKS, inverted_residuals
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.tiny_vit import TinyViTBackbone

__all__ = ["IMAGENET", "STRIDES", "Encoder", "hub_resnet"]

STRIDES = (2, 4, 8, 16, 32)

# (mean, deviation) per channel of RGB pixel values 0–255 that a network's published weights have been trained with.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_CAFFE = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
_SCALING = {
    "efficientnet_lite0": ((127.0,) * 3, (128.0,) * 3),
    "mobilenet_v2": IMAGENET,
    "resnet34": IMAGENET,
    "resnet50": _CAFFE,
    "vgg19": _CAFFE,
    "inception_v3": ((127.5,) * 3, (127.5,) * 3),
    "efficientnet_b0": None,  # keras.applications has its scaling inside
    "efficientnet_b4": None,
}


@keras.saving.register_keras_serializable("keras_realmnet")
class Encoder(Network):
    """Images (batch, h, w, 3), RGB, 0–255 → five feature maps (batch, h/s, w/s, channels), a list, s as in `STRIDES`.

    The scaling that the network's ImageNet weights expect is its first layer. Inception-v3 with its own "valid" padding
    has maps that are a few positions smaller than h/s.

    Args:
        architecture: "efficientnet_lite0", "mobilenet_v2", "tiny_vit", "resnet34", "resnet50", "vgg19", "inception_v3",
            "efficientnet_b0" or "efficientnet_b4".
        image_size: pixels, one number or (height, width); divisible by 32.
        options: arguments of the network. efficientnet_lite0, mobilenet_v2: drop_path_rate, top (the last map passes
            the convolution to 1280 channels that the classifier looks at). tiny_vit: those of `TinyViTBackbone`.
            inception_v3: padding, "valid" or "same".
        load_weights: `False` for random weights. "imagenet": of the package that `imagenet_weights.PACKAGES` names, or
            for keras.applications and keras-hub downloaded by these. A file: a `.pth` for efficientnet_lite0 and
            mobilenet_v2, a `.safetensors` of timm for tiny_vit, a weights file without top for keras.applications, a
            preset's folder for resnet34.
        name: of the model. dtype: a Keras dtype policy; `None`: Keras' own.

    Raises:
        ValueError: for an unknown architecture or option, or a value out of its range.
        WeightsMismatch: the weights cannot be found, fetched or fitted. Never are they left random silently.
    """

    def __init__(self, architecture, image_size=224, options=None, load_weights=False, name=None, dtype=None):
        if architecture not in ENCODERS:
            raise ValueError(f"architecture must be one of {', '.join(ENCODERS)}. Received: {architecture!r}")
        if load_weights is True:
            raise ValueError('load_weights must be False, "imagenet" or a file. Received: True')
        check("Encoder", {"image_size": size_rule(32)}, {"image_size": image_size})
        options = dict(options or {})
        check(f"Encoder {architecture!r}", ENCODERS[architecture], options)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        weights = None if load_weights is None or load_weights is False else load_weights
        with precision(dtype):
            inputs = keras.Input((height, width, 3), name="images")
            x, scaling = inputs, _SCALING.get(architecture, IMAGENET)
            if scaling is not None:
                mean, deviation = scaling
                variance = tuple(value**2 for value in deviation)
                x = layers.Normalization(mean=mean, variance=variance, name="scaling")(x)
            maps = _BUILD[architecture](x, architecture, options, weights)
            super().__init__(inputs=inputs, outputs=maps, name=name)
        self.architecture = architecture
        self._options = options
        if weights is not None and architecture in NETWORKS:
            # Imported here: it needs keras_realmnet.weights, which may be importing Keras and so this module.
            from keras_realmnet.models.encoders.imagenet_weights import load_checkpoint

            load_checkpoint(self, architecture, weights)

    @property
    def channels(self):
        """Of the five maps."""
        return tuple(output.shape[-1] for output in self.outputs)

    def get_config(self):
        return self.saved(
            {"architecture": self.architecture, "image_size": self.image_size, "options": dict(self._options)}
        )

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.restored(config)


def _inverted_residuals(x, architecture, options, weights):
    return inverted_residuals(x, NETWORKS[architecture], **options)


def _tiny_vit(x, architecture, options, weights):
    backbone = TinyViTBackbone(image_size=x.shape[1:3], **options)
    if weights == "imagenet":
        raise WeightsMismatch(
            "tiny_vit's ImageNet weights are timm's: name a .safetensors file (python -m training download --help)"
        )
    if weights is not None:
        from keras_realmnet.weights import load_timm_weights

        load_timm_weights(backbone, weights)
    pyramid = backbone.pyramid_outputs
    first = backbone.get_layer("patch_embed_act").output
    maps = [first, *(pyramid[f"stage{stage}"] for stage in range(4))]
    return keras.Model(backbone.inputs, maps, name="tiny_vit")(x)


def _resnet34(x, architecture, options, weights):
    network = hub_resnet(architecture, x.shape[1:], weights=weights)
    pyramid = network.pyramid_outputs
    maps = [network.get_layer("conv1_relu").output, *(pyramid[f"P{level}"] for level in (2, 3, 4, 5))]
    return keras.Model(network.inputs, maps, name=architecture)(x)


_HUB = {
    "resnet34": ("basic_block", "hf://timm/resnet34.a1_in1k"),
    "resnet50": ("bottleneck_block", "resnet_50_imagenet"),
}


def hub_resnet(architecture, image_shape, depths=(3, 4, 6, 3), strides=(1, 2, 2, 2), weights=None):
    """keras-hub's ResNet34 or ResNet50, which takes (h, w, 3) as ImageNet is standardized; `strides`: of its stages.

    weights: None for random ones, "imagenet", or a preset by folder or handle. Raises WeightsMismatch.
    """
    import keras_hub  # takes its time

    block, imagenet = _HUB[architecture]
    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(depths),
        stackwise_num_strides=list(strides),
        block_type=block,
        image_shape=tuple(image_shape),
        name=architecture,
    )
    if weights is not None:
        handle = imagenet if weights == "imagenet" else str(weights)
        try:
            source = keras_hub.models.ResNetBackbone.from_preset(handle)
            network.set_weights(source.get_weights())
        except Exception as error:  # keras-hub has its own for each way of downloading
            expected = f"keras-hub's preset of a ResNet{architecture[-2:]}"
            raise WeightsMismatch(f"{handle}: expected {expected}. {_one_line(error)}") from error
    return network


_TAPS = {
    "resnet50": ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    "vgg19": ("block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4", "block5_pool"),
    "efficientnet_b0": ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "block7a_project_bn"),
    "efficientnet_b4": ("block1b_add", "block2d_add", "block3d_add", "block5f_add", "block7b_add"),
}


def _application(x, architecture, options, weights):
    build = {
        "resnet50": keras.applications.ResNet50,
        "vgg19": keras.applications.VGG19,
        "efficientnet_b0": keras.applications.EfficientNetB0,
        "efficientnet_b4": keras.applications.EfficientNetB4,
    }[architecture]
    network = _fetched(build, x, weights)
    if architecture in ("resnet50", "vgg19") and weights is not None:
        first = next(layer for layer in network.layers if isinstance(layer, layers.Conv2D))
        kernel, *rest = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], *rest])  # the published weights take BGR, an encoder takes RGB
    return [network.get_layer(name).output for name in _TAPS[architecture]]


def _inception_v3(x, architecture, options, weights):
    if options.get("padding", "valid") == "same":
        published = _fetched(keras.applications.InceptionV3, keras.Input((299, 299, 3)), weights)
        network = _padded(published, x)
    else:
        network = _fetched(keras.applications.InceptionV3, x, weights)
    pools = [layer for layer in network.layers if isinstance(layer, layers.MaxPooling2D)][:2]  # end strides 2 and 4
    ends = [network.get_layer(name).output for name in ("mixed2", "mixed7", "mixed10")]
    return [*(pool.input for pool in pools), *ends]


def _padded(network, x):
    """The same network, weights and all, whose convolutions and poolings pad so that a stride halves exactly."""

    def same(layer):
        config = layer.get_config()
        if config.get("padding") == "valid":
            config["padding"] = "same"
        return type(layer).from_config(config)

    padded = keras.models.clone_model(network, input_tensors=[x], clone_function=same)
    padded.set_weights(network.get_weights())
    return padded


def _fetched(build, x, weights):
    try:
        return build(include_top=False, weights=None if weights is None else str(weights), input_tensor=x)
    except Exception as error:  # Keras has its own for each way of downloading
        if weights is None:
            raise
        raise WeightsMismatch(
            f'{weights}: expected "imagenet" or the weights file of keras.applications.{build.__name__} without top. '
            f"{_one_line(error)}"
        ) from error


def _one_line(error):
    return " ".join(str(error).split())


_BUILD = {
    **dict.fromkeys(NETWORKS, _inverted_residuals),
    "tiny_vit": _tiny_vit,
    "resnet34": _resnet34,
    "inception_v3": _inception_v3,
    **dict.fromkeys(_TAPS, _application),
}
