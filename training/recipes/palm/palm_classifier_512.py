"""Pathologic myopia or not, as published for PALM: ResNet50 from ImageNet, softmax, rotation and Gaussian noise.

Command:  python -m training fit --recipe palm_classifier_512 --data PALM_FOLDER --out runs/palm_classifier_512
Duration: not measured (a GPU is advised)
Score:    not measured here; published: AUROC .998 on the challenge's own test images

Published (Xie et al., ISBI 2019): the network, softmax cross-entropy, rotation by up to 30° either way, noise with mean
.01 and variance .01 to .05 on images of 0 to 1. Ours: 512 px, Adam with a constant rate, flips, epochs and batch size.
"""

from dataclasses import replace

from training.datasets.found.palm import PalmDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

# Each image is turned, flipped or not, and gets noise; all of it on 0 to 255.
AUGMENTATION = replace(
    Augmentation.none(),
    affine=1.0,
    scale=(1.0, 1.0),
    shear=0.0,
    rotation=30.0,
    horizontal_flip=0.5,
    noise=1.0,
    noise_mean=0.01 * 255,
    noise_variance=(0.01 * 255**2, 0.05 * 255**2),
)

RECIPE = Recipe(
    name="palm_classifier_512",
    data=PalmDataSet(question="pathologic"),
    preset="palm_classifier",
    weights="imagenet",
    phases=(Phase(epochs=40, size=512),),
    batch_size=16,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
    warmup_epochs=0,
    weight_decay=0.0,
    augmentation=AUGMENTATION,
)
