"""What the arguments of networks, heads, losses and their presets may be, in one place and without Keras.

Whoever takes such arguments checks them here when they are given: constructors, and recipes long before they train.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

__all__ = [
    "BACKBONE",
    "BASELINES",
    "BESIDE",
    "CLASSES",
    "DEEPLAB",
    "DISTILLATION",
    "EDGE",
    "ENCODERS",
    "GUIDED",
    "GUIDED_EDGE",
    "HEADS",
    "HEAD_OPTIONS",
    "LESION_GRADING",
    "LESION_GUIDED",
    "LESION_SEGMENTATION",
    "LOSSES",
    "MAP_OFFSET",
    "PALM",
    "RATE",
    "REFUGE",
    "SHARE",
    "TINY_VIT",
    "VESSEL_GAN",
    "VESSEL_LITE",
    "VESSEL_UNET",
    "Rule",
    "check",
    "count",
    "image_size",
    "map_offset_rule",
    "number",
    "one_of",
    "optional",
    "pair",
]


@dataclass(frozen=True)
class Rule:
    """`expected`: what an argument must be, in words; `holds`: whether a value is that."""

    expected: str
    holds: Callable[[Any], bool]


def check(what: str, rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Raises ValueError for the first of `values` that `what` does not take, or whose rule does not hold."""
    for name, value in values.items():
        if name not in rules:
            raise ValueError(f"{what} takes {', '.join(rules) or 'no options'}. Received: {name}={value!r}")
        if not rules[name].holds(value):
            raise ValueError(f"{name} must be {rules[name].expected}. Received: {value!r}")


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """A finite number from `low` to `high`; `above` and `below` leave out the end itself."""

    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return False
        value = float(value)
        return (value > low if above else value >= low) and (value < high if below else value <= high)

    ends = [f"{'above' if above else 'at least'} {low:g}"] if math.isfinite(low) else []
    ends += [f"{'below' if below else 'at most'} {high:g}"] if math.isfinite(high) else []
    return Rule(f"a number {' and '.join(ends)}" if ends else "a finite number", holds)


def count(low: int, high: float = math.inf) -> Rule:
    """A whole number from `low` to `high`."""
    expected = f"at least {low}" if math.isinf(high) else f"{low} … {high:g}"
    return Rule(f"a whole number, {expected}", lambda value: _whole(value) and low <= value <= high)


def one_of(*values: Any) -> Rule:
    """One of `values`."""
    words = [str(value) for value in values]
    expected = " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return Rule(expected, lambda value: not isinstance(value, bool) and value in values)


def pair(rule: Rule) -> Rule:
    """Two values, (rows, columns) or (height, width), each as `rule` says."""
    return Rule(f"two values, each {rule.expected}", lambda value: _sequence(value, 2) and all(map(rule.holds, value)))


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _sequence(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _side_or_sides(step: int) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        sides = value if _sequence(value, 2) else (value,)
        return all(_whole(side) and side >= step and side % step == 0 for side in sides)

    return holds


def image_size(step: int) -> Rule:
    """Pixels, one number or (height, width)."""
    return Rule(f"divisible by {step}" if step > 1 else "positive", _side_or_sides(step))


def optional(rule: Rule) -> Rule:
    """None, or as `rule` says."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.holds(value))


def _per_stage(rule: Rule) -> Rule:
    return Rule(f"4 entries, each {rule.expected}", lambda value: _sequence(value, 4) and all(map(rule.holds, value)))


SHARE = number(0, 1)
_EXPONENT = number(0)
_POSITIVE = number(0, above=True)
RATE = number(0, 1, below=True)  # of what is dropped at random: never all
_FLAG = Rule("True or False", lambda value: isinstance(value, bool))

# By the class of keras_realmnet.losses.
LOSSES: Mapping[str, Mapping[str, Rule]] = {
    "BinaryCrossentropy": {"alpha": SHARE},
    "FocalLoss": {"alpha": SHARE, "gamma": _EXPONENT},
    "AsymmetricLoss": {"gamma_pos": _EXPONENT, "gamma_neg": _EXPONENT, "margin": RATE},
    "TwoWayLoss": {"positive_temperature": _POSITIVE, "negative_temperature": _POSITIVE},
    "SoftmaxCrossentropy": {},
    "CrossentropyDice": {"exclusive": _FLAG, "dice_weight": _EXPONENT},
    "DualDice": {"lam": SHARE},
    "PixelCrossentropy": {"alpha": SHARE},
    "PixelFocal": {"alpha": SHARE, "gamma": _EXPONENT},
    "Guidance": {
        "lam": _EXPONENT,
        "epsilon": number(0, 1, above=True, below=True),
        "form": one_of("printed", "crossentropy"),
    },
    "EuclideanDistance": {"confidence_weight": _EXPONENT},
    "ConfidenceOffsets": {"offset_weight": _EXPONENT},
}

# Of keras_realmnet.losses.Distillation, beside the loss of labels or grades.
DISTILLATION: Mapping[str, Rule] = {
    "temperature": _POSITIVE,
    "weight": number(0, 1, above=True),
    "of": one_of("sigmoid", "softmax"),
}

# By the name that recipes have for the heads of keras_realmnet.models.layers.heads.
HEADS: Mapping[str, Mapping[str, Rule]] = {
    "residual_attention": {"num_heads": one_of(1, 2, 4, 6, 8), "lam": _EXPONENT},
    "linear": {},
}

# Which head a network gets, where one may choose.
HEAD_OPTIONS: Mapping[str, Rule] = {
    "head": one_of(*HEADS),
    "head_options": optional(Rule("a mapping of the head's arguments", lambda value: isinstance(value, Mapping))),
}

CLASSES = count(1)
MAP_OFFSET = pair(number())  # (rows, columns)
BACKBONE = Rule("a TinyViTBackbone", lambda value: hasattr(value, "image_size") and not isinstance(value, type))


def map_offset_rule(height: int, width: int) -> Rule:
    """An offset that leaves something of class maps of that size."""
    return Rule(
        f"(rows, columns), two finite numbers, smaller in size than the maps' {height} × {width} cells",
        lambda value: MAP_OFFSET.holds(value) and abs(value[0]) < height and abs(value[1]) < width,
    )


TINY_VIT: Mapping[str, Rule] = {
    "image_size": image_size(32),
    "embed_dims": _per_stage(count(2)),
    "depths": _per_stage(count(1)),
    "num_heads": _per_stage(count(1)),
    "window_sizes": optional(_per_stage(Rule("a positive number or pair of positions", _side_or_sides(1)))),
    "stage_2_windows": count(1),
    "drop_path_rate": RATE,
    "mlp_ratio": _POSITIVE,
    "mbconv_expand_ratio": _POSITIVE,
    "frozen_stages": count(0, 4),
}

# By the architecture of keras_realmnet.models.baselines.baseline.Baseline: its `options`.
BASELINES: Mapping[str, Mapping[str, Rule]] = {
    "deit": {
        "num_layers": count(1),
        "num_heads": count(1),
        "hidden_dim": count(1),
        "intermediate_dim": optional(count(1)),
        "patch_size": count(1),
    },
    "convnext": {
        "depths": _per_stage(count(1)),
        "projection_dims": _per_stage(count(1)),
        "layer_scale_init_value": _POSITIVE,
    },
    "efficientnet": {
        "width_coefficient": _POSITIVE,
        "depth_coefficient": _POSITIVE,
        "depth_divisor": count(1),
    },
    "swin": {
        "embed_dim": count(1),
        "depths": _per_stage(count(1)),
        "num_heads": _per_stage(count(1)),
        "window_size": optional(count(1)),
        "patch_size": count(1),
        "mlp_ratio": _POSITIVE,
        "qkv_bias": _FLAG,
        "dropout_rate": RATE,
        "attention_dropout": RATE,
        "patch_norm": _FLAG,
    },
}

# By the architecture of keras_realmnet.models.encoders.encoder.Encoder: its `options`.
ENCODERS: Mapping[str, Mapping[str, Rule]] = {
    "efficientnet_lite0": {"drop_path_rate": RATE, "top": _FLAG},
    "mobilenet_v2": {"drop_path_rate": RATE, "top": _FLAG},
    "tiny_vit": {name: rule for name, rule in TINY_VIT.items() if name != "image_size"},
    "resnet34": {},
    "resnet50": {},
    "vgg19": {},
    "inception_v3": {"padding": one_of("valid", "same")},
    "efficientnet_b0": {},
    "efficientnet_b4": {},
}

# By the name of the network of keras_realmnet.models.palm.
PALM: Mapping[str, Mapping[str, Rule]] = {
    "palm_classifier": {},
    "palm_fovea": {"backbone": one_of("vgg19_mixed", "vgg19", "resnet50")},
    "palm_disc": {},
}

# Of keras_realmnet.models.lesions: networks that tell the pixels of lesions, those that grade, and those beside a
# Lesion-Net.
_LESION_ENCODER: Mapping[str, Rule] = {"encoder": one_of("inception_v3", "efficientnet_lite0", "mobilenet_v2")}
LESION_GRADING: Mapping[str, Rule] = {**_LESION_ENCODER, "frozen_stride": optional(one_of(2, 4, 8, 16, 32))}
LESION_SEGMENTATION: Mapping[str, Rule] = {**LESION_GRADING, "full_size": _FLAG}
LESION_GUIDED: Mapping[str, Rule] = {
    **LESION_GRADING,
    "lesions": count(1),
    "lesion_stride": one_of(32, 16, 8, 4, 2),
}


def _network(expected: str, needed: set[str], allowed: set[str]) -> Rule:
    return Rule(
        expected,
        lambda value: (
            isinstance(value, Mapping)
            and needed <= set(value) <= needed | allowed
            and isinstance(value.get("options", {}), Mapping)
        ),
    )


# By the name of the network of keras_realmnet.models.refuge. `vessels`: the frozen network that tells them.
_NETWORK = _network(
    "a mapping with the preset of a network, and its image_size and options", {"preset"}, {"image_size", "options"}
)
_BRANCH = one_of("efficientnet_b4", "efficientnet_b0", "efficientnet_lite0", "mobilenet_v2")
_TWO_BRANCHES: Mapping[str, Rule] = {
    "fundus_encoder": _BRANCH,
    "vessel_encoder": _BRANCH,
    "vessels": optional(_NETWORK),
}
_FINDINGS: Mapping[str, Rule] = {
    "normalization": one_of("scaled", "local_mean"),
    "filters": count(1),
    "blocks": count(0),
    "branch_filters": count(1),
}
REFUGE: Mapping[str, Mapping[str, Rule]] = {
    "refuge_disc_cup": _TWO_BRANCHES,
    "refuge_fovea": _TWO_BRANCHES,
    "refuge_findings": _FINDINGS,
    "refuge_glaucoma": _FINDINGS,
}

# Of keras_realmnet.models.beside.
BESIDE: Mapping[str, Rule] = {
    "main": _network("a mapping with the preset of a network, and its options", {"preset"}, {"options"}),
    "part": _network(
        "a mapping with an output, the preset of a network that answers it, and its options",
        {"output", "preset"},
        {"options"},
    ),
    "reduction": count(1),
}

# Of keras_realmnet.models.vessels.
VESSEL_LITE: Mapping[str, Rule] = {"widths": _per_stage(count(1)), "colours": one_of("green", "rgb")}
VESSEL_UNET: Mapping[str, Rule] = {"filters": count(1), "levels": count(2)}
VESSEL_GAN: Mapping[str, Rule] = {**VESSEL_UNET, "adversarial_weight": number(0)}

# Of keras_realmnet.models.deeplab.
DEEPLAB: Mapping[str, Rule] = {"stride": one_of(8, 16, 32), "depths": _per_stage(count(1))}

# Of keras_realmnet.models.guided: as published, and on an encoder made for int8.
_GUIDED: Mapping[str, Rule] = {
    "findings": one_of("large", "medium", "small"),
    "max_pool": count(1),
    "map_stride": one_of(32, 16),
    "pyramid_filters": count(1),
}
GUIDED: Mapping[str, Rule] = {**_GUIDED, "filters": count(1)}
GUIDED_EDGE: Mapping[str, Rule] = {**_GUIDED, "encoder": one_of("efficientnet_lite0", "mobilenet_v2")}

# Of keras_realmnet.models.edge.
EDGE: Mapping[str, Rule] = {
    **HEAD_OPTIONS,
    "mask_stride": one_of(2, 4),
    "point_head": one_of("soft_argmax", "offset_maps"),
    "drop_path_rate": RATE,
}
