"""The network of fifteen findings that REFUGE2's network of glaucoma looks at, on drawn photographs: to try both.

Command:  python -m training fit --recipe findings --out runs/findings
Duration: not measured (a GPU is advised)
Score:    not run yet

No public data labels all fifteen findings, so no network of findings that is of use can be trained here: the drawings
know six of them, the others are unknown and teach nothing. Your own pictures take their place by --data, --table and
--labels, with the codes of training/data/glaucoma/findings.py in the vocabulary; the size of each finding follows from
its code. The second normalization is --set "model_options={'normalization': 'local_mean'}" --out
runs/findings_local_mean.

Published (Son, MICCAI 2020): MBConv blocks, 1024 px; the rest is that of the networks of single findings (Son et al.,
OMIA 2018): SGD with Nesterov's momentum there, without it here, batches of 32. Ours: the learning rate and when it
falls, epochs, augmentation, one network for all findings.
"""

from training.datasets.made.photograph import PhotographDataSet
from training.recipe import Phase, Recipe
from training.recipes.refuge.disc_cup import AUGMENTATION

RECIPE = Recipe(
    name="findings",
    data=PhotographDataSet(train_eyes=600, validation_eyes=60, test_eyes=60, width=1024, outputs=("findings",)),
    preset="refuge_findings",
    model_options={"normalization": "scaled"},
    loss="BinaryCrossentropy",
    loss_weights={"findings": 2.0},  # which is half the usual one
    phases=(Phase(epochs=60, size=1024),),
    batch_size=32,
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0.0,
    drop_after=5,
    keep="val_loss",
    validation_loss=True,
    validate_every=1,
    augmentation=AUGMENTATION,
)
