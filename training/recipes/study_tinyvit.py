"""The backbone of study_realmnet with what the paper gives its baselines: pooling, a linear head, cross-entropy.

Command:  python -m training protocol cip --recipe study_tinyvit --data data/study
"""

from dataclasses import replace

from training.recipes import study_realmnet

RECIPE = replace(study_realmnet.RECIPE, name="study_tinyvit", head="linear", loss="BinaryCrossentropy", loss_options={})
