"""Every variant as one row; a new variant is a new row."""

from collections.abc import Mapping
from typing import Any

from keras_realmnet.arguments import (
    BASELINES,
    BESIDE,
    DEEPLAB,
    EDGE,
    ENCODERS,
    GUIDED,
    GUIDED_EDGE,
    HEAD_OPTIONS,
    LESION_GRADING,
    LESION_GUIDED,
    LESION_SEGMENTATION,
    PALM,
    RATE,
    REFUGE,
    TINY_VIT,
    VESSEL_GAN,
    VESSEL_LITE,
    VESSEL_UNET,
    Rule,
)

__all__ = [
    "BASELINE_PRESETS",
    "BESIDE_PRESETS",
    "DEEPLAB_PRESETS",
    "EDGE_PRESETS",
    "FINDINGS",
    "GRADING_PRESETS",
    "GUIDED_PRESETS",
    "LESION_GUIDED_PRESETS",
    "LESION_PRESETS",
    "MAIN",
    "NETWORKS",
    "PALM_PRESETS",
    "PART",
    "REALMNET_PRESETS",
    "REFUGE_PRESETS",
    "SCHEMES",
    "TINY_VIT_PRESETS",
    "VESSELS",
    "VESSEL_GAN_PRESETS",
    "VESSEL_PRESETS",
    "frozen_part",
    "network_options",
    "point_loss",
    "preset",
]

_5M = {"embed_dims": (64, 128, 160, 320), "depths": (2, 2, 6, 2), "num_heads": (2, 4, 5, 10)}
_11M = {"embed_dims": (64, 128, 256, 448), "depths": (2, 2, 6, 2), "num_heads": (2, 4, 8, 14)}
_21M = {"embed_dims": (96, 192, 384, 576), "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 18)}

# TinyViT (arXiv 2207.10666); drop path rates as in timm's `tiny_vit_*`.
TINY_VIT_PRESETS = {
    "tiny_vit_5m_224": {**_5M, "image_size": 224, "drop_path_rate": 0.0},
    "tiny_vit_11m_224": {**_11M, "image_size": 224, "drop_path_rate": 0.1},
    "tiny_vit_21m_224": {**_21M, "image_size": 224, "drop_path_rate": 0.2},
    "tiny_vit_21m_384": {**_21M, "image_size": 384, "drop_path_rate": 0.1},
    "tiny_vit_21m_512": {**_21M, "image_size": 512, "drop_path_rate": 0.1},
}

# RealMNet (npj Digital Medicine 2025): drop path .5, the residual-attention head with lambda 1.2 and 2 heads.
REALMNET_PRESETS: dict[str, dict] = {
    "realmnet_5m_224": {**_5M, "image_size": 224, "drop_path_rate": 0.5},
    "realmnet_21m_224": {**_21M, "image_size": 224, "drop_path_rate": 0.5},
    "realmnet_21m_384": {**_21M, "image_size": 384, "drop_path_rate": 0.5},
    "realmnet_21m_512": {**_21M, "image_size": 512, "drop_path_rate": 0.5},
    "realmnet_11m_224": {**_11M, "image_size": 224, "drop_path_rate": 0.5},
    "realmnet_11m_384": {**_11M, "image_size": 384, "drop_path_rate": 0.5},
    # Ours: the windows of stage 2, which are its whole map, halved.
    "realmnet_5m_224_w7": {**_5M, "image_size": 224, "drop_path_rate": 0.5, "stage_2_windows": 2},
    "realmnet_11m_224_w7": {**_11M, "image_size": 224, "drop_path_rate": 0.5, "stage_2_windows": 2},
    "realmnet_11m_384_w12": {**_11M, "image_size": 384, "drop_path_rate": 0.5, "stage_2_windows": 2},
    "realmnet_21m_384_w12": {**_21M, "image_size": 384, "drop_path_rate": 0.5, "stage_2_windows": 2},
    "realmnet_21m_512_w16": {**_21M, "image_size": 512, "drop_path_rate": 0.5, "stage_2_windows": 2},
    # Ours: an encoder made for int8, with the convolution to 1280 channels that ImageNet's classifier looks at.
    "realmnet_lite0_224": {"architecture": "efficientnet_lite0", "image_size": 224, "drop_path_rate": 0.2, "top": True},
}

# The networks RealMNet is compared with, as configured in its public code.
BASELINE_PRESETS: dict[str, dict] = {
    "deit_b_384": {"architecture": "deit", "image_size": 384, "num_layers": 12, "num_heads": 12, "hidden_dim": 768},
    "convnext_t_384": {
        "architecture": "convnext",
        "image_size": 384,
        "depths": (3, 3, 9, 3),
        "projection_dims": (96, 192, 384, 768),
    },
    "efficientnet_b4_380": {
        "architecture": "efficientnet",
        "image_size": 380,
        "width_coefficient": 1.4,
        "depth_coefficient": 1.8,
    },
    "swin_b_384": {
        "architecture": "swin",
        "image_size": 384,
        "embed_dim": 128,
        "depths": (2, 2, 18, 2),
        "num_heads": (4, 8, 16, 32),
    },
}

# PALM (Xie et al., ISBI 2019): 512 px are published for the disc, ours for the others; see keras_realmnet.models.palm.
PALM_PRESETS: dict[str, dict] = {
    "palm_classifier": {"image_size": 512},
    "palm_fovea": {"image_size": 512, "backbone": "vgg19_mixed"},
    "palm_disc": {"image_size": 512},
}

# Lesion-Net and the networks that it is compared with (Wei et al., ICPR 2020), at 896 px on Inception-v3.
LESION_PRESETS: dict[str, dict] = {
    **{f"lesion_net_{s}s": {"decoder": "expansive", "stride": s, "image_size": 896} for s in (32, 16, 8, 4, 2)},
    **{f"fcn_{s}s": {"decoder": "fcn", "stride": s, "image_size": 896} for s in (32, 16, 8)},
    **{name: {"decoder": name, "image_size": 896} for name in ("unet", "deeplab_v3_plus", "danet")},
}

# Grades without a look at lesions, and beside a Lesion-Net; see keras_realmnet.models.lesions.grading.
GRADING_PRESETS: dict[str, dict] = {"grading_plain": {"image_size": 896}, "grading_abn": {"image_size": 896}}
LESION_GUIDED_PRESETS: dict[str, dict] = {
    "grading_lesion_concat": {"side": "concat", "image_size": 896},
    "grading_lesion_max": {"side": "max", "image_size": 896},
    "grading_lesion_conv": {"side": "conv", "image_size": 896},
}

# The regionally guided CNN (Son et al., OMIA 2018) by the size of a finding's lesions, and ours, on an encoder made for
# int8; see keras_realmnet.models.guided.
GUIDED_PRESETS: dict[str, dict] = {
    "guided_large": {"findings": "large", "image_size": 512},
    "guided_medium": {"findings": "medium", "image_size": 512},
    "guided_small": {"findings": "small", "max_pool": 2, "image_size": 512},
    "guided_lite0": {"encoder": "efficientnet_lite0", "pyramid_filters": 64, "image_size": 512},
}
# A network of those above, and the masks of a frozen one beside it; see keras_realmnet.models.beside.
BESIDE_PRESETS: dict[str, dict] = {"beside": {"image_size": 1152}}
MAIN, PART = "main", "part"  # options, and the parts of the network that follow from them

# REFUGE2 (Son, MICCAI 2020); see keras_realmnet.models.refuge.
REFUGE_PRESETS: dict[str, dict] = {
    "refuge_disc_cup": {"image_size": 640},
    "refuge_fovea": {"image_size": 640},
    "refuge_findings": {"image_size": 1024},
    "refuge_glaucoma": {"image_size": 1024},
}
VESSELS = "vessels"  # an option, and the part of the network that follows from it
FINDINGS = "findings"  # the part of refuge_glaucoma

# Ours: one encoder made for int8, a head for each output; see keras_realmnet.models.edge.
EDGE_PRESETS: dict[str, dict] = {
    "edge_lite0": {"encoder": "efficientnet_lite0", "image_size": 256},
    "edge_mobilenet_v2": {"encoder": "mobilenet_v2", "image_size": 256},
}

# The vessels of the retina: ours for the box; the U-Net of Son et al. (J Digit Imaging 32, 2019), at their 640 px, and
# the same against each of their discriminators; see keras_realmnet.models.vessels.
VESSEL_PRESETS: dict[str, dict] = {"vessel_lite": {"image_size": 960}, "vessel_unet": {"image_size": 640}}
VESSEL_GAN_PRESETS: dict[str, dict] = {
    f"vessel_gan_{kind}": {"discriminator": kind, "image_size": 640} for kind in ("pixel", "patch1", "patch2", "image")
}

# What tells the boundary of ultra-widefield pictures in the study of RealMNet; see keras_realmnet.models.deeplab. The
# size is ours: that of the network which then sees them.
DEEPLAB_PRESETS: dict[str, dict] = {"deeplab_v3_resnet50": {"image_size": 384}}

# Of quantization-aware training, by the artifact (`export.conversion.quantize_litert`) that the network is to become:
# which convolutions are int8 beside the backbone's dense layers.
SCHEMES = {
    "int8": r"(?!)",  # none
    "int8_mixed": r"stages_0_blocks_\d+_conv[13]_conv",
    "int8_pointwise": r"stages_\d_(blocks_\d+|downsample)_conv[13]_conv",
}


def preset(presets: dict[str, dict], name: str) -> dict:
    """The row called `name`. Raises `ValueError` that lists the names there are."""
    if name not in presets:
        raise ValueError(f"preset must be one of {', '.join(presets)}. Received: {name!r}")
    return presets[name]


# What networks.build knows.
NETWORKS = (
    *REALMNET_PRESETS,
    *BASELINE_PRESETS,
    *PALM_PRESETS,
    *EDGE_PRESETS,
    *LESION_PRESETS,
    *GRADING_PRESETS,
    *LESION_GUIDED_PRESETS,
    *GUIDED_PRESETS,
    *REFUGE_PRESETS,
    *VESSEL_PRESETS,
    *VESSEL_GAN_PRESETS,
    *DEEPLAB_PRESETS,
    *BESIDE_PRESETS,
)


def frozen_part(name: str, options: Mapping[str, Any]) -> str | None:
    """The part of a network that is a trained network by itself; None where the network has none.

    That is the name of its layer, and what it tells. `options`: of the network called `name`.
    """
    if name == "refuge_glaucoma":
        return FINDINGS
    if name in BESIDE_PRESETS:
        return PART
    return VESSELS if name in REFUGE_PRESETS and options.get(VESSELS) is not None else None


def point_loss(name: str, options: Mapping[str, Any]) -> str:
    """The class of `keras_realmnet.losses` by which the network called `name` learns points."""
    if name in BESIDE_PRESETS:
        name, options = options.get(MAIN, {}).get("preset", name), options.get(MAIN, {}).get("options", {})
    by_cells = name == "refuge_fovea" or options.get("point_head") == "offset_maps"
    return "ConfidenceOffsets" if by_cells else "EuclideanDistance"


def network_options(name: str) -> Mapping[str, Rule]:
    """The options of the network called `name`, and what each may be; the image size is none of them.

    Raises:
        ValueError: for a name that is none of `NETWORKS`.
    """
    if name in PALM_PRESETS:
        return PALM[name]
    if name in EDGE_PRESETS:
        return EDGE
    if name in LESION_PRESETS:
        return LESION_SEGMENTATION
    if name in GRADING_PRESETS:
        return LESION_GRADING
    if name in BESIDE_PRESETS:
        return BESIDE
    if name in LESION_GUIDED_PRESETS:
        return LESION_GUIDED
    if name in GUIDED_PRESETS:
        return GUIDED_EDGE if "encoder" in GUIDED_PRESETS[name] else GUIDED
    if name in REFUGE_PRESETS:
        return REFUGE[name]
    if name in VESSEL_PRESETS:
        return VESSEL_LITE if name == "vessel_lite" else VESSEL_UNET
    if name in VESSEL_GAN_PRESETS:
        return VESSEL_GAN
    if name in DEEPLAB_PRESETS:
        return DEEPLAB
    if name in BASELINE_PRESETS:
        return {"drop_path_rate": RATE, **BASELINES[BASELINE_PRESETS[name]["architecture"]]}
    if name in REALMNET_PRESETS:
        architecture = REALMNET_PRESETS[name].get("architecture")
        own = TINY_VIT if architecture is None else ENCODERS[architecture]
        return {**HEAD_OPTIONS, **{option: rule for option, rule in own.items() if option != "image_size"}}
    raise ValueError(f"a network's name must be one of {', '.join(NETWORKS)}. Received: {name!r}")
