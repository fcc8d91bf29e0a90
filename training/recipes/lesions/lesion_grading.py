"""Grades as published: a frozen Lesion-Net-16s beside Inception-v3, 896 px; and the networks it is compared with.

Command:  python -m training fit --recipe lesion_grading --data PICTURES --table LIST --columns path=…,patient=…
          --labels GRADES --out runs/lesion_grading
Duration: not measured (GPUs)
Score:    not measured here; published, quadratic kappa: this one (attention by convolutions) .803, --set
          preset=grading_lesion_max .781, grading_lesion_concat .788; and with --set lesion_run=None --set
          preset=grading_abn .797, grading_plain .774

GRADES is a vocabulary with the one output "grades". The Lesion-Net is that of runs/lesion_net_16s, or of another run,
--set lesion_run=…; with another number of lesions or another stride than 8 and 16, --set
"model_options={'lesions': 4, 'lesion_stride': 8}". It must not have learned from patients who are held out here.

Published (Wei et al., ICPR 2020): networks, 896 px, optimizer and schedule as for the Lesion-Net, what must gain. The
rest is ours, see lesion_net_16s.
"""

from dataclasses import replace

from training.datasets.found.own import OwnDataSet
from training.recipes.lesions import lesion_net_16s

RECIPE = replace(
    lesion_net_16s.RECIPE,
    name="lesion_grading",
    data=OwnDataSet(),
    preset="grading_lesion_conv",
    lesion_run="runs/lesion_net_16s",
    loss=None,
    loss_options={},
    loss_options_after_drop={},
    keep="val_kappa",
)
