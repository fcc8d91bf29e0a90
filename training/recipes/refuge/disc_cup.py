"""Optic disc and cup as published for REFUGE2: EfficientNet-B4 beside B0 on the vessels, 640 px.

Command:  python -m training fit --recipe disc_cup --data REFUGE --out runs/disc_cup
Duration: not measured (a GPU is advised)
Score:    not run yet

The vessels are those of a network that is trained before, and frozen: runs/vessel_gan, of the recipe of that name, or
--set part_run=… with --set "model_options={'vessels': {'preset': …, 'image_size': …}}"; --set model_options={} --set
part_run=None leaves their branch out. Four networks of the disc and two of the cup were averaged; here each tells both,
and python -m training ensemble makes one network of several runs.

Published (Son, MICCAI 2020): network, 640 px, the kinds of augmentation. Ours: one network for both structures, the
loss (cross-entropy and Dice), AdamW and its rate, epochs, batch size, how strong the augmentation is, and that it has
neither sharpness, gamma, ISO noise, JPEG compression, sun flare, elastic changes nor down-sampling.
"""

from training.datasets.found.glaucoma import GlaucomaDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

AUGMENTATION = Augmentation(
    affine=0.8,
    rotation=30.0,
    scale=(0.8, 1.2),
    horizontal_flip=0.5,
    vertical_flip=0.0,
    jitter=0.5,
    hue=0.05,
    erase=0.0,
    mixup=0.0,
    cutmix=0.0,
)

RECIPE = Recipe(
    name="disc_cup",
    data=GlaucomaDataSet(outputs=("disc_cup",)),
    preset="refuge_disc_cup",
    model_options={"vessels": {"preset": "vessel_unet", "image_size": 544}},
    part_run="runs/vessel_gan",
    weights="imagenet",
    phases=(Phase(epochs=60, size=640),),
    batch_size=8,
    learning_rate=1e-4,
    warmup_epochs=1,
    weight_decay=0.0,
    augmentation=AUGMENTATION,
    validate_every=1,
    keep="val_dice",
)
