"""An EfficientNet of the size and cost of study_realmnet, on the same images: a baseline of the phantom study.

Command:  python -m training protocol cip --recipe study_efficientnet --data data/study
Duration: three to seven minutes on one core
Score:    CIP test (534 phantoms, 181 patients): macro AUROC .886 (.860 to .912), mAP .647 (.616 to .697)
"""

from dataclasses import replace

from training.recipes.study import study_realmnet

RECIPE = replace(
    study_realmnet.RECIPE,
    name="study_efficientnet",
    preset="efficientnet_b4_380",
    model_options={"width_coefficient": 0.5, "depth_coefficient": 0.5},
    loss="BinaryCrossentropy",  # as the paper trains its baselines
    loss_options={},
)
