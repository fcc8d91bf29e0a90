"""Glaucoma as published for REFUGE2: one unit on a frozen network of fifteen findings, 1024 px; fold k of 4.

Command:  python -m training fit --recipe glaucoma --data FUNDUS --fold 1/4 --out runs/glaucoma_1
Duration: not measured (a GPU is advised)
Score:    not run yet

FUNDUS/REFUGE has the 1,200 pictures of REFUGE, which train in every fold, FUNDUS/REFUGE2 the folder Validation of
REFUGE2, whose 400 pictures are cut into folds, by glaucoma. The fold is what the learning rate falls by, and what is
then tested: its scores are too good. The findings are those of a run of refuge_findings, runs/findings, with the same
normalization. No public data labels all fifteen.

Eight such networks were averaged, the four folds with either normalization: also --set
"model_options={'normalization': 'local_mean'}" --set part_run=runs/findings_local_mean.

Published (Son, MICCAI 2020): network, both normalizations, 1024 px, folds, SGD, batches of 64, a learning rate of .01
that falls to a tenth after ten epochs without a gain of the AUROC and begins anew below a least one, the kinds of
augmentation. Ours: the least learning rate, momentum, the number of epochs, how strong the augmentation is.
"""

from dataclasses import replace

from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.recipe import Phase, Recipe
from training.recipes.refuge.disc_cup import AUGMENTATION

REFUGE = GlaucomaDataSet("REFUGE", outputs=("glaucoma",), train_on=("train", "validation", "test"))
REFUGE2 = GlaucomaDataSet("REFUGE2", outputs=("glaucoma",), prefix="REFUGE2/")

RECIPE = Recipe(
    name="glaucoma",
    data=CombinedDataSet("glaucoma", (REFUGE, CrossValidation(REFUGE2, (1, 4), "validation", validates=True))),
    preset="refuge_glaucoma",
    model_options={"normalization": "scaled"},
    part_run="runs/findings",
    loss="BinaryCrossentropy",
    loss_weights={"glaucoma": 2.0},  # which is half the usual one
    phases=(Phase(epochs=200, size=1024),),
    batch_size=64,
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0.0,
    drop_after=10,
    restart_below=1e-5,
    keep="val_macro_auroc",
    validate_every=1,
    augmentation=replace(
        AUGMENTATION,
        resize=0.2,
        elastic=0.2,
        sun_flare=0.2,
        gamma=0.2,
        rgb_shift=0.2,
        iso_noise=0.2,
        sharpness=0.2,
        downsampling=0.2,
        jpeg=0.2,
    ),
)
