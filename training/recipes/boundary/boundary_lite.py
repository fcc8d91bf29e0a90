"""Device border, lids and lashes in ultra-widefield pictures by a small network for the box, from drawings.

Command:  python -m training fit --recipe boundary_lite --out runs/boundary_lite
Duration: 7 minutes on one of 2 busy cores, a minute of it to draw the pictures
Score:    212 held-out phantoms of 40 patients: accuracy of pixels .986 (95 % interval .986 to .987), mIoU of retina,
          border, and lids and lashes .913 (.907 to .918); of retina or not .988 (.988 to .989), .960 (.958 to .962)

Ours: the U-Net of vessels_lite, which has 93 k parameters, at 192 px and in colour. Each pixel is retina, border, or
lids and lashes; what is drawn is known to the pixel. All epochs are kept: on 90 phantoms that validate the mean Dice
rose until the last (.706, .883, .896 after 4, 6 and 8).
"""

from training.datasets.boundary import BOUNDARY
from training.datasets.made.phantom import PhantomDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="boundary_lite",
    data=PhantomDataSet(train_patients=80, validation_patients=16, test_patients=40, outputs=(BOUNDARY,)),
    preset="vessel_lite",
    model_options={"colours": "rgb"},
    phases=(Phase(epochs=8, size=192),),
    batch_size=8,
    learning_rate=4e-3,
    warmup_epochs=0.5,
    weight_decay=0.01,
    beta_2=0.99,  # in few steps
    augmentation=Augmentation(
        affine=0.7,
        scale=(0.8, 1.3),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        jitter=0.8,
        hue=0.05,
        gamma=0.5,
        blur=0.2,
        noise=0.3,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.98,
    validate_every=2,
)
