"""Whether an adversarial loss helps, on one core: a smaller U-Net against a smaller discriminator, windows of 192 px.

Command:  python -m training fit --recipe vessel_gan_lite --data CHASE_DB1 --fold 1/2 --out runs/vessel_gan_lite_1
          python -m training fit --recipe vessel_gan_lite --data CHASE_DB1 --fold 1/2 --set preset=vessel_unet
          --out runs/vessel_plain_lite_1
Duration: 7 minutes a fold of two on one of 2 busy cores (TensorFlow), 6 without the discriminator
Score:    2 folds, 20 pictures: F1 .620 (95 % interval .597 to .647), without the adversarial loss .737 (.726 to .747)
          (docs/refuge.md)

The first learns by cross-entropy and the adversarial loss, the second by cross-entropy alone; all else, folds and
windows too, is the same. After both folds python -m training cross-validation scores each, and python -m training
compare tells the difference with its interval, children resampled.

Ours, after Son et al., J Digit Imaging 32 (2019): 8 to 64 channels for 32 to 512, windows, a higher rate for few steps.
"""

from dataclasses import replace

from training.input.windows import Windows
from training.recipe import Phase
from training.recipes.vessels import vessel_gan, vessels_lite

RECIPE = replace(
    vessel_gan.RECIPE,
    name="vessel_gan_lite",
    model_options={"filters": 8, "levels": 4},
    phases=(Phase(epochs=24, size=544),),
    windows=Windows(side=192, per_image=40, around=0.5),
    batch_size=8,
    learning_rate=1e-3,
    warmup_epochs=0.5,
    augmentation=replace(vessels_lite.RECIPE.augmentation, scale=(0.7, 1.25)),
    validate_every=8,
)
