"""Every variant as one row; a new variant is a new row."""

__all__ = ["BASELINE_PRESETS", "REALMNET_PRESETS", "SCHEMES", "TINY_VIT_PRESETS", "preset"]

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
REALMNET_PRESETS = {
    "realmnet_5m_224": {**_5M, "image_size": 224, "drop_path_rate": 0.5},
    "realmnet_21m_224": {**_21M, "image_size": 224, "drop_path_rate": 0.5},
    "realmnet_21m_384": {**_21M, "image_size": 384, "drop_path_rate": 0.5},
    "realmnet_21m_512": {**_21M, "image_size": 512, "drop_path_rate": 0.5},
}

# The networks RealMNet is compared with, as configured in its public code.
BASELINE_PRESETS = {
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
