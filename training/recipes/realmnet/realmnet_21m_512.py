"""RealMNet as published, on PSMM at 512 px. The public images have 384 px: prepare the raw ones with --size 512.

Command:  python -m training download tiny_vit_21m_512.dist_in22k_ft_in1k
          python -m training fit --recipe realmnet_21m_512 --data PSMM_FOLDER
Duration: not measured; meant for GPUs
Score:    not measured: PSMM's images were not at hand. Published, PSMM test: macro F1 .7970, mAP .8497, AUROC .9745
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.realmnet import realmnet_21m_384

RECIPE = replace(
    realmnet_21m_384.RECIPE,
    name="realmnet_21m_512",
    preset="realmnet_21m_512",
    phases=(Phase(epochs=50, size=512),),
    weights="data/weights/tiny_vit_21m_512.dist_in22k_ft_in1k/model.safetensors",
)
