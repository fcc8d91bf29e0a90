"""Swin-B at 384 px on PSMM: a baseline of the RealMNet study.

Command:  python -m training fit --recipe swin_b_384 --data PSMM_FOLDER
          keras-hub fetches the ImageNet weights; from a copy of that preset: --set weights=FOLDER
Duration: not measured; meant for GPUs
Score:    not measured: PSMM's images were not at hand

The paper began with weights of ImageNet-21k, fine-tuned on 1k; keras-hub describes its own as ImageNet-1k.
"""

from dataclasses import replace

from training.recipes.realmnet import deit_b_384

RECIPE = replace(deit_b_384.RECIPE, name="swin_b_384", preset="swin_b_384", weights="swin_base_patch4_window12_384")
