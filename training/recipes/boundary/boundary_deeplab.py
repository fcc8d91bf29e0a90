"""Device border, lids and lashes by DeepLabv3 on ResNet50, as the study of RealMNet told them; on drawings.

Command:  python -m training fit --recipe boundary_deeplab --out runs/boundary_deeplab
Duration: hours of two cores; for GPUs. Three epochs at 96 px, --set "phases=[(3,96)]": 20 minutes of one (PyTorch)
Score:    none that counts: after these three the loss had fallen to .44 and the mIoU was .303 (docs/boundaries.md);
          published, on its own pictures: accuracy .98, mIoU .95

SGD of learning rate .01 and momentum .9, and batches of 4, are published (npj Digital Medicine 2025, 8:435); 384 px,
as RealMNet sees them, 20 epochs, the cosine and plain cross-entropy are ours. Its masks were drawn by hand and are not
public; these pictures are drawn by the program. Start from ImageNet, which keras-hub downloads: --set weights=imagenet.
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.boundary import boundary_lite

RECIPE = replace(
    boundary_lite.RECIPE,
    name="boundary_deeplab",
    preset="deeplab_v3_resnet50",
    model_options={},
    phases=(Phase(epochs=20, size=384),),
    batch_size=4,
    loss_options={"dice_weight": 0.0},
    learning_rate=0.01,
    momentum=0.9,
    ema_momentum=None,
)
