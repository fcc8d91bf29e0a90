"""PALM from scratch: normal / high myopia / pathologic myopia on 400 colour photographs, random initial weights.

Command:  python -m training fit --recipe palm_5m_224 --data PALM_FOLDER --out runs/palm_5m_224
Duration: 33 minutes on 2 busy cores (TensorFlow)
Score:    AUROC for pathologic myopia .980 (95 % interval .958 to .995) on the 199 validation images, last epoch;
          sensitivity .953 and specificity .935 at a threshold chosen on the same images
"""

from training.datasets.found.palm import PalmDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="palm_5m_224",
    data=PalmDataSet(),
    preset="realmnet_5m_224",
    # Small inputs first: most of the learning at a quarter of the cost.
    phases=(Phase(epochs=20, size=96), Phase(epochs=4, size=160), Phase(epochs=3, size=224)),
    batch_size=32,
    drop_path_rate=0.1,
    learning_rate=1e-3,  # from scratch; 1e-4 is for fine-tuning
    warmup_epochs=2,
    # Three nearly balanced, exclusive labels: plain cross-entropy, which also keeps the probabilities calibrated.
    loss="AsymmetricLoss",
    loss_options={"gamma_pos": 0.0, "gamma_neg": 0.0},
    # Few images: move and flip them more. The colour of a fundus is evidence: turn the hue less than published.
    augmentation=Augmentation(
        affine=0.8, rotation=30.0, horizontal_flip=0.5, vertical_flip=0.5, jitter=0.5, hue=0.03, mixup=0.25, cutmix=0.0
    ),
    ema_momentum=0.97,
)
