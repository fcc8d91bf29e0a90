"""Lesions as published: Lesion-Net-16s on Inception-v3, 896 px, dual Dice after the first drop of the learning rate.

Command:  python -m training fit --recipe lesion_net_16s --data RETINAL_LESIONS --out runs/lesion_net_16s
          python -m training fit --recipe lesion_net_16s --data PICTURES --table LIST --columns path=…,patient=…
          --labels MASKS --out runs/lesion_net_16s
Duration: not measured (GPUs)
Score:    not measured here; published for the whole of the authors' data: F1 of pixels .591, of pictures .801

MASKS is a vocabulary with the one output "masks", not exclusive. The other networks are presets: --set
preset=lesion_net_2s, unet and so on; losses, --set loss=PixelFocal --set loss_options={} --set
loss_options_after_drop={}.

Published (Wei et al., ICPR 2020): network, 896 px, losses, SGD with momentum .95, its rate and decay, a tenth of the
rate after four validations without a gain, the end after ten; rotation, crops, flips, brightness, contrast and
saturation as augmentation. Ours: a validation after each epoch, where they had one after 1,000 batches; what must gain,
the F1 of pixels; the strengths of the augmentation; batch size; gradients are clipped.
"""

from training.datasets.found.lesions import LesionDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="lesion_net_16s",
    data=LesionDataSet(layout="retinal_lesions", held_out=0.3),
    preset="lesion_net_16s",
    weights="imagenet",
    phases=(Phase(epochs=100, size=896),),
    batch_size=8,
    loss="DualDice",
    loss_options={"lam": 1.0},  # of pixels alone
    loss_options_after_drop={"lam": 0.8},
    learning_rate=1e-3,
    momentum=0.95,
    weight_decay=1e-4,
    augmentation=Augmentation(
        affine=1.0,
        rotation=180.0,
        scale=(1.0, 1.25),  # beyond 1 it crops
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.5,
        jitter=1.0,
        hue=0.0,
        blur=0.0,
        noise=0.0,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    validate_every=1,
    keep="val_pixel_f1",
    drop_after=4,
    patience=10,
)
