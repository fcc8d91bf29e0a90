"""Vessels as published: a U-Net against a discriminator that looks at the whole picture; 544 px.

Command:  python -m training fit --recipe vessel_gan --data CHASE_DB1 --fold all --out runs/vessel_gan
Duration: not measured (a GPU is advised)
Score:    not run yet

CHASE_DB1 as for vessels_lite, or --data DRIVE --set data.of.layout=drive, on which the authors trained: at 544 px its
field of view is as large as in the files. By cross-validation, --fold 1/5 and so on; the same U-Net without a
discriminator, --set preset=vessel_unet; the other discriminators, --set preset=vessel_gan_pixel, vessel_gan_patch1,
vessel_gan_patch2. The run is what disc_cup and fovea look at vessels with.

Published (Son et al., J Digit Imaging 32, 2019): networks, cross-entropy with a tenth of the adversarial loss, one
picture a step, Adam with a rate of 2e-4 and a beta of .5, mirrored and turned pictures. Ours: the data, the scale of
the pictures, how far they are turned, 60 epochs with a rate that falls, clipped gradients; what else differs stands at
`keras_realmnet.models.vessels.adversarial.VesselGAN`.
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.vessels import vessels_lite

RECIPE = replace(
    vessels_lite.RECIPE,
    name="vessel_gan",
    preset="vessel_gan_image",
    loss_options={"dice_weight": 0.0},
    phases=(Phase(epochs=60, size=544),),
    windows=None,
    batch_size=1,
    learning_rate=2e-4,
    warmup_epochs=0.0,
    weight_decay=0.0,
    beta_1=0.5,
    beta_2=0.999,
    augmentation=replace(
        vessels_lite.RECIPE.augmentation, scale=(1.0, 1.0), jitter=0.0, blur=0.0, noise=0.0, gamma=0.0
    ),
    ema_momentum=None,
    validate_every=10,
)
