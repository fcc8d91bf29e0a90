"""RealMNet: TinyViT features, a LayerNorm per position, and the class-specific residual-attention head.

For smaller devices the same head on a network made for int8.
"""

import keras
from keras import layers

from keras_realmnet.arguments import Rule, check, map_offset_rule
from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.layers.heads import HEAD, ClassMaps, LinearHead, ResidualAttentionHead
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.tiny_vit import EPSILON, TinyViTBackbone, load_initial_weights
from keras_realmnet.presets import REALMNET_PRESETS, preset

__all__ = ["RealMNet"]

_BACKBONE = Rule(
    "a TinyViTBackbone or an Encoder", lambda value: isinstance(value, keras.Model) and hasattr(value, "image_size")
)


@keras.saving.register_keras_serializable("keras_realmnet")
class RealMNet(Network):
    """Images (batch, h, w, 3) with values 0–255 → logits (batch, classes).

    The first layer divides by 255 (the reference uses no ImageNet mean or deviation): no caller normalizes. An
    `Encoder` has a first layer of its own.

    Args:
        backbone: a `TinyViTBackbone`, or an `Encoder`, of which the map of stride 32 counts, without a LayerNorm after
            it: BatchNorm has normalized it. Its image size is the model's.
        head: a `ResidualAttentionHead`, or a `LinearHead` (which pools before it normalizes, so that the LayerNorm
            per position is left out, as in the reference's ablation).
        map_offset: (rows, columns), in cells, by which this network's class maps would lie below and right of what they
            show; `inference_model` moves them back. `keras_realmnet.measure_map_offset` measures it after training.
        name: of the model. dtype: precision of the layers between backbone and head, which keep their own, a Keras
            dtype policy; `None`: Keras' own.

    Source: npj Digital Medicine 2025 8:435.
    """

    def __init__(self, backbone, head, map_offset=(0.0, 0.0), name=None, dtype=None):
        check("RealMNet", {"backbone": _BACKBONE, "head": HEAD}, {"backbone": backbone, "head": head})
        with precision(dtype):
            inputs = keras.Input((*backbone.image_size, 3), name="images")
            if isinstance(backbone, Encoder):
                x = backbone(inputs)[-1]
            else:
                x = backbone(layers.Rescaling(1 / 255, name="rescaling")(inputs))
                if not isinstance(head, LinearHead):
                    x = layers.LayerNormalization(epsilon=EPSILON, name="head_norm")(x)
            super().__init__(inputs=inputs, outputs=head(x), name=name)
        self.feature_map = x  # symbolic, (batch, h/32, w/32, features): what the head and the class maps work on
        self.backbone = backbone
        self.head = head
        self.map_offset = map_offset

    @property
    def map_offset(self):
        """(rows, columns), in cells; see the class.

        Raises:
            ValueError: set to anything but two finite numbers, each smaller in size than that side of the maps.
        """
        return self._map_offset

    @map_offset.setter
    def map_offset(self, value):
        check("RealMNet", {"map_offset": map_offset_rule(*self.feature_map.shape[1:3])}, {"map_offset": value})
        self._map_offset = tuple(map(float, value))

    @property
    def num_classes(self):
        return self.head.num_classes

    def inference_model(self, explanation="grad_cam"):
        """This network, sharing its weights, with the outputs a screening needs (as ONNX: `export.conversion.to_onnx`).

        Args:
            explanation: what the class maps are, "grad_cam" or "grad_cam_plus_plus" (the publication's).

        Returns:
            A Keras model: images (batch, h, w, 3), 0–255 → dict of "probabilities" (batch, classes) in 0–1 and
            "class_maps" (batch, h/32, w/32, classes), of the last normalized map, not negative.

        Raises:
            ValueError: for another explanation.
        """
        probabilities = layers.Activation("sigmoid", dtype="float32", name="probabilities")(self.output)
        class_maps = ClassMaps(self.head, explanation, self.map_offset, name="class_maps")(self.feature_map)
        outputs = {"probabilities": probabilities, "class_maps": class_maps}
        return Network(self.input, outputs, name=f"{self.name}_inference")

    def get_config(self):
        parts = {part: keras.saving.serialize_keras_object(getattr(self, part)) for part in ("backbone", "head")}
        return self.saved({**parts, "map_offset": self.map_offset})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {part: keras.saving.deserialize_keras_object(config[part]) for part in ("backbone", "head")}
        return cls.restored({**config, **parts})

    @classmethod
    def from_preset(
        cls,
        name,
        num_classes=7,
        load_weights=False,
        head=None,
        image_size=None,
        drop_path_rate=None,
        map_offset=(0.0, 0.0),
        dtype=None,
        **overrides,
    ):
        """The variant called `name` (realmnet_5m_224, 11m_224, 11m_384, 21m_224, 21m_384, 21m_512, lite0_224).

        Ours: with the ends _w7 (5m_224, 11m_224), _w12 (11m_384, 21m_384) and _w16 (21m_512) the windows of stage 2 are
        halved, which is faster; realmnet_lite0_224 has EfficientNet-Lite0, whose last map has 1280 channels, in the
        place of TinyViT.

        Args:
            num_classes: labels.
            load_weights: `False` for random weights, or what `keras_realmnet.load_timm_weights` takes; for lite0 what
                `Encoder` takes.
            head: a head layer; `None` for the published `ResidualAttentionHead(num_classes, num_heads=2, lam=1.2)`.
            image_size: pixels, a number or (height, width), divisible by 32; `None` for the preset's.
            drop_path_rate: of stochastic depth in the last block; `None` for the preset's, .5.
            map_offset: as for the class.
            dtype: precision of backbone and norm, a Keras dtype policy; `None`: Keras' own. Heads compute in float32.
            overrides: further arguments of `TinyViTBackbone` that differ from the preset: embed_dims, depths,
                num_heads, window_sizes, stage_2_windows, mlp_ratio, mbconv_expand_ratio, frozen_stages. For lite0: top.

        Raises:
            ValueError: for an unknown preset, a head with another number of classes, or a value out of its range;
                ValueError or TypeError for another argument.
            WeightsMismatch: the weights do not fit.
        """
        given = {"image_size": image_size, "drop_path_rate": drop_path_rate}
        overrides |= {argument: value for argument, value in given.items() if value is not None}
        arguments = {**preset(REALMNET_PRESETS, name), **overrides}
        architecture = arguments.pop("architecture", None)
        if architecture is None:
            backbone = TinyViTBackbone(**arguments, name="backbone", dtype=dtype)
        else:
            size = arguments.pop("image_size")
            backbone = Encoder(architecture, size, arguments, load_weights, name="backbone", dtype=dtype)
            load_weights = False  # done
        head = head if head is not None else ResidualAttentionHead(num_classes, name="head")
        check("RealMNet", {"head": HEAD}, {"head": head})
        if head.num_classes != num_classes:
            raise ValueError(f"head must have num_classes = {num_classes}. Received: {head.num_classes}")
        return load_initial_weights(cls(backbone, head, map_offset, name=name, dtype=dtype), load_weights)
