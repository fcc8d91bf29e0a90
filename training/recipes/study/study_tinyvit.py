"""The backbone of study_realmnet with what the paper gives its baselines: pooling, a linear head, cross-entropy.

Command:  python -m training protocol cip --recipe study_tinyvit --data data/study
Duration: three to seven minutes on one core
Score:    CIP test (534 phantoms, 181 patients): macro AUROC .934 (.910 to .955), mAP .728 (.689 to .777)
"""

from dataclasses import replace

from training.recipes.study import study_realmnet

RECIPE = replace(study_realmnet.RECIPE, name="study_tinyvit", head="linear", loss="BinaryCrossentropy", loss_options={})
