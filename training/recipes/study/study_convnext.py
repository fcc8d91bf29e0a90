"""A ConvNeXt with as many weights as study_realmnet, on the same images: a baseline of the phantom study.

Command:  python -m training protocol cip --recipe study_convnext --data data/study
Duration: three to seven minutes on one core
Score:    CIP test (534 phantoms, 181 patients): macro AUROC .565, no better than the labels' frequencies
"""

from dataclasses import replace

from training.recipes.study import study_efficientnet

RECIPE = replace(
    study_efficientnet.RECIPE,
    name="study_convnext",
    preset="convnext_t_384",
    # The published layer scale, 1e-6, is for 300 epochs: from scratch in twelve its blocks would hardly wake up.
    model_options={"depths": [1, 1, 2, 1], "projection_dims": [32, 64, 96, 192], "layer_scale_init_value": 0.1},
)
