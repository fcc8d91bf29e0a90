"""DeiT-B, distilled, at 384 px on PSMM: a baseline of the RealMNet study, and what the other three are derived from.

Command:  python -m training fit --recipe deit_b_384 --data PSMM_FOLDER
          keras-hub fetches the ImageNet weights; from a copy of that preset: --set weights=FOLDER
Duration: not measured; meant for GPUs
Score:    not measured: PSMM's images were not at hand
"""

from dataclasses import replace

from training.recipes.realmnet import realmnet_21m_384

RECIPE = replace(
    realmnet_21m_384.RECIPE,
    name="deit_b_384",
    preset="deit_b_384",
    weights="deit_base_distilled_patch16_384_imagenet",
    # Half the usual cross-entropy: half the gradient, clipped at half the norm, is the same step of AdamW.
    loss="BinaryCrossentropy",
    clip_norm=0.5,
)
