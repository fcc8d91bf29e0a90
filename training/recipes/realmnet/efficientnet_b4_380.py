"""EfficientNet-B4 at 380 px on PSMM: a baseline of the RealMNet study.

Command:  python -m training fit --recipe efficientnet_b4_380 --data PSMM_FOLDER
          Keras fetches the ImageNet weights; from a copy of the file: --set weights=efficientnetb4_notop.h5
Duration: not measured; meant for GPUs
Score:    not measured: PSMM's images were not at hand. Published, PSMM test: macro F1 .7941

The paper's configuration decays norms and biases, too, where ours spares them as for the other networks.
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.realmnet import deit_b_384

RECIPE = replace(
    deit_b_384.RECIPE,
    name="efficientnet_b4_380",
    preset="efficientnet_b4_380",
    weights="imagenet",
    phases=(Phase(epochs=50, size=380),),
    learning_rate=5e-5,
)
