"""Vessels for the box, by cross-validation on CHASE_DB1: vessel_lite, 92,761 weights, 960 px.

Command:  python -m training fit --recipe vessels_lite --data CHASE_DB1 --fold 1/5 --out runs/vessels_lite_1
Duration: 4 to 7 minutes a fold on one of 2 busy cores (TensorFlow)
Score:    5 folds, 20 pictures of 10 children: F1 .805 (95 % interval .785 to .823), AUROC .980; unseen HRF .751, IDRiD
          .788, AV-WIDE .620 (docs/refuge.md)

CHASE_DB1 holds images/ and vessel/ (the layout chase_db1_folders; as published, --set data.of.layout=chase_db1). Both
eyes of a child are in one fold. An eighth of the children of the other folds do not train: on their pictures the run
chooses its threshold, by which those of its own fold are then judged. --fold all trains on all of them; its threshold
is that of python -m training cross-validation.

It learns from windows of the pictures, in which vessels are as wide as in the whole picture; the network that comes out
sees whole pictures. Windows are made up to three times smaller, as cameras with a wider field show vessels: that of
CHASE_DB1 has 30 degrees, those of IDRiD 50, of HRF 60, of an ultra-widefield camera 200.

Ours.
"""

from training.datasets.cross_validation import CrossValidation
from training.datasets.found.vessels import VesselDataSet
from training.input.augmentation import Augmentation
from training.input.windows import Windows
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="vessels_lite",
    data=CrossValidation(VesselDataSet(layout="chase_db1_folders"), validation_share=0.125),
    preset="vessel_lite",
    phases=(Phase(epochs=10, size=960),),
    windows=Windows(side=192, per_image=50, around=0.5),
    batch_size=8,
    learning_rate=4e-3,
    warmup_epochs=0.5,
    weight_decay=0.01,
    beta_2=0.99,  # in few steps
    augmentation=Augmentation(
        affine=1.0,
        rotation=180.0,
        scale=(0.35, 1.15),
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        jitter=0.8,
        hue=0.02,
        blur=0.2,
        noise=0.2,
        gamma=0.3,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.99,
    validate_every=5,
)
