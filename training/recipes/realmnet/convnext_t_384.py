"""ConvNeXt-T at 384 px on PSMM: a baseline of the RealMNet study.

Command:  python -m training fit --recipe convnext_t_384 --data PSMM_FOLDER
          Keras fetches the ImageNet weights; from a copy of the file: --set weights=convnext_tiny_notop.h5
Duration: not measured; meant for GPUs
Score:    not measured: PSMM's images were not at hand

The paper began with weights of ImageNet-21k, fine-tuned on 1k at 384 px; Keras' are of ImageNet-1k at 224 px. Its
configuration decays norms and biases, too, where ours spares them as for the other networks.
"""

from dataclasses import replace

from training.recipes.realmnet import deit_b_384

RECIPE = replace(deit_b_384.RECIPE, name="convnext_t_384", preset="convnext_t_384", weights="imagenet")
