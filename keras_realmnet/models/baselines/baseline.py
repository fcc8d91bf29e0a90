"""The networks RealMNet is compared with: DeiT, ConvNeXt, EfficientNet and Swin, pooled, then one Dense.

Their inside is in `networks`, which is imported when the first is built: keras-hub takes its time.
"""

import keras
from keras import layers

from keras_realmnet import arguments
from keras_realmnet.arguments import BASELINES, check
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.network import Network, precision
from keras_realmnet.presets import BASELINE_PRESETS, preset

__all__ = ["Baseline"]

_RULES = {
    "image_size": arguments.image_size(1),
    "num_classes": arguments.CLASSES,
    "drop_path_rate": arguments.RATE,
}
_WEIGHTS = {
    "deit": 'a keras-hub preset of a DeiTBackbone: a folder or a handle ("deit_base_distilled_patch16_384_imagenet")',
    "convnext": 'the file of a keras.applications ConvNeXtTiny without top, or "imagenet"',
    "efficientnet": 'the file of a keras.applications EfficientNetB4 without top, or "imagenet"',
    "swin": 'a keras-hub preset of a SwinTransformerBackbone: a folder or a handle ("swin_base_patch4_window12_384")',
}


@keras.saving.register_keras_serializable("keras_realmnet")
class Baseline(Network):
    """Images (batch, h, w, 3) with values 0–255 → logits (batch, classes), float32: global average pooling and a Dense.

    The first layer divides by 255, as for RealMNet: the reference trains every network without ImageNet's mean and
    deviation. The networks' own scaling (EfficientNet's, ConvNeXt's) is left out, also under ImageNet weights.

    Per network:

    - DeiT averages the patch tokens, without the class and the distillation token, and has a LayerNorm after that
      (`out_type="avg_featmap"` of the reference).
    - ConvNeXt has a LayerNorm after the pooling, Swin before it, EfficientNet none.
    - BatchNorm's moving averages move by 0.1 per step, as in PyTorch; keras.applications says 0.01.

    Args:
        architecture: "deit", "convnext", "efficientnet" or "swin".
        image_size: pixels, one number or (height, width). DeiT's patch size must divide it, for Swin 32.
        num_classes: labels.
        drop_path_rate: rate of stochastic depth, per sample, in the last block; it grows linearly from 0 in the first.
        options: arguments of the network. DeiT: num_layers, num_heads, hidden_dim, intermediate_dim (4 · hidden_dim
            where absent), patch_size (16). ConvNeXt: depths, projection_dims, layer_scale_init_value (1e-6).
            EfficientNet: width_coefficient, depth_coefficient, depth_divisor (8). Swin: embed_dim, depths, num_heads,
            window_size (image_size / 32 where absent), patch_size, mlp_ratio, qkv_bias, dropout_rate,
            attention_dropout, patch_norm.
        load_weights: `False` for random weights; otherwise for DeiT and Swin a keras-hub preset, by folder or handle
            (at another image size than `image_size`, position embeddings and bias tables are resized), for ConvNeXt
            and EfficientNet a keras.applications file or "imagenet". Handles and "imagenet" are downloaded by these
            libraries.
        name: of the model. dtype: precision of all but the head, a Keras dtype policy; `None`: Keras' own.

    Raises:
        ValueError: for an unknown architecture or option, an image size that does not fit, or a value out of its range.
        WeightsMismatch: the weights cannot be found, fetched or fitted.

    Source: npj Digital Medicine 2025 8:435 and its public code.
    """

    def __init__(
        self,
        architecture,
        image_size,
        num_classes=7,
        drop_path_rate=0.0,
        options=None,
        load_weights=False,
        name=None,
        dtype=None,
    ):
        if architecture not in BASELINES:
            raise ValueError(f"architecture must be one of {', '.join(BASELINES)}. Received: {architecture!r}")
        given = {"image_size": image_size, "num_classes": num_classes, "drop_path_rate": drop_path_rate}
        check("Baseline", _RULES, given)
        options = dict(options or {})
        check(f"Baseline {architecture!r}", BASELINES[architecture], options)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        with precision(dtype):
            backbone = _network(architecture, (height, width), drop_path_rate, options, load_weights)
            inputs = keras.Input((height, width, 3), name="images")
            features = backbone(layers.Rescaling(1 / 255, name="rescaling")(inputs))  # (batch, features)
            head = layers.Dense(
                num_classes,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                dtype="float32",
                name="head",
            )
            super().__init__(inputs=inputs, outputs=head(features), name=name)
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.num_classes = int(num_classes)
        self.drop_path_rate = float(drop_path_rate)
        self._options = options

    export = keras.Model.export  # Keras may know all operations of these networks

    def get_config(self):
        return self.saved(
            {
                "architecture": self.architecture,
                "image_size": self.image_size,
                "num_classes": self.num_classes,
                "drop_path_rate": self.drop_path_rate,
                "options": dict(self._options),
            }
        )

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.restored(config)

    @classmethod
    def from_preset(
        cls, name, num_classes=7, image_size=None, drop_path_rate=0.5, load_weights=False, dtype=None, **options
    ):
        """The network called `name` (deit_b_384, convnext_t_384, efficientnet_b4_380, swin_b_384).

        Args:
            num_classes, drop_path_rate, load_weights, dtype: as for the class.
            image_size: pixels, one number or (height, width); `None` for the preset's.
            options: arguments of the network, those of the class's `options`, that differ from the preset.

        Raises:
            ValueError: for an unknown preset, and as for the class.
        """
        row = preset(BASELINE_PRESETS, name)
        architecture, size = row["architecture"], row["image_size"]
        network = {key: value for key, value in row.items() if key not in ("architecture", "image_size")}
        return cls(
            architecture,
            size if image_size is None else image_size,
            num_classes,
            drop_path_rate,
            {**network, **options},
            load_weights,
            name=name,
            dtype=dtype,
        )


def _network(architecture, image_size, drop_path_rate, options, load_weights):
    from keras_realmnet.models.baselines.networks import NETWORKS

    build = NETWORKS[architecture]
    if load_weights is None or load_weights is False:
        return build(image_size, drop_path_rate, **options)
    expected = _WEIGHTS[architecture]
    if load_weights is True:
        raise ValueError(f"load_weights must be False or {expected}. Received: True")
    try:
        return build(image_size, drop_path_rate, **options, weights=str(load_weights))
    except Exception as error:  # each library and its way of downloading has its own
        reason = " ".join(str(error).split())
        raise WeightsMismatch(f"{load_weights}: expected {expected}, of the same dimensions. {reason}") from error
