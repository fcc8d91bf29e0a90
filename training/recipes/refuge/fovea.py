"""Where the fovea lies, as published for REFUGE2: two branches at 640 px, cells of 8 px with confidence and offsets.

Command:  python -m training fit --recipe fovea --data REFUGE --out runs/fovea
Duration: not measured (a GPU is advised)
Score:    not run yet

The network of vessels is a run of its own, see disc_cup. Ten such networks were averaged, which differ by --seed, say:
python -m training ensemble makes one network of their runs.

Published (Son, MICCAI 2020): network, 640 px, a learning rate of 1e-5, batches of 4, the kinds of augmentation. Ours:
the losses of cells and offsets, AdamW, epochs, how strong the augmentation is, and that it has neither sharpness,
gamma, ISO noise, JPEG compression, sun flare, elastic changes nor down-sampling.
"""

from dataclasses import replace

from training.datasets.found.glaucoma import GlaucomaDataSet
from training.recipe import Phase
from training.recipes.refuge import disc_cup

RECIPE = replace(
    disc_cup.RECIPE,
    name="fovea",
    data=GlaucomaDataSet(outputs=("landmarks",)),
    preset="refuge_fovea",
    loss="ConfidenceOffsets",
    phases=(Phase(epochs=100, size=640),),
    batch_size=4,
    learning_rate=1e-5,
    keep="val_mean_distance",
)
