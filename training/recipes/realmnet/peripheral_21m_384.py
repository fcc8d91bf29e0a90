"""Peripheral lesions (P0-P4) at 384 px: the features of a RealMNet that PSMM trained, and a new head.

Command:  python -m training fit --recipe peripheral_21m_384 --data FOLDER --set weights=runs/realmnet_21m_384
          FOLDER: train.csv, val.csv, test.csv with the columns P0..P4, filename, ID, and JPEGImages/
Duration: not measured; meant for GPUs
Score:    not measured: the paper's peripheral images are not public. Published AUROC: .8642
"""

from dataclasses import replace

from training.datasets.found.psmm import PsmmDataSet
from training.recipes.realmnet import realmnet_21m_384

RECIPE = replace(
    realmnet_21m_384.RECIPE,
    name="peripheral_21m_384",
    data=PsmmDataSet(labels="peripheral"),
    weights="runs/realmnet_21m_384",
)
