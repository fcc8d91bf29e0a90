"""The optic disc, as published for PALM: ResNet34, ASPP and three inputs; cross-entropy and Dice.

Command:  python -m training fit --recipe palm_disc_resnet34 --data PALM_FOLDER --out runs/palm_disc_resnet34
Duration: not measured (a GPU is advised)
Score:    not measured here

Needs the challenge's layout: the small copies have no masks. Published (Xie et al., ISBI 2019): the network, 512 px and
the loss. Ours: the augmentation, which is that of the classifier with less noise, optimizer, epochs and batch size.
"""

from dataclasses import replace

from training.datasets.found.palm import PalmDataSet
from training.recipes.palm import palm_classifier_512

RECIPE = replace(
    palm_classifier_512.RECIPE,
    name="palm_disc_resnet34",
    data=PalmDataSet(question="disc"),
    preset="palm_disc",
    batch_size=8,
    augmentation=replace(palm_classifier_512.AUGMENTATION, noise_mean=0.0, noise_variance=(10.0, 50.0)),
)
