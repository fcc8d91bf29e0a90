"""Where the fovea lies, as published for PALM: VGG19 with blocks 4 and 5 mixed, mean Euclidean distance.

Command:  python -m training fit --recipe palm_fovea_vgg19mixed --data PALM_FOLDER --out runs/palm_fovea_vgg19mixed
Duration: not measured (a GPU is advised)
Score:    not measured here; published: mean distance .0295 of the side (VGG19 .0371, ResNet50 .0389)

The other two networks of the publication: --set model_options="{'backbone': 'vgg19'}", or 'resnet50'. The small copies
of PALM have foveas for the validation images alone: add --fold 1/5 --set data.part=validation, up to 5/5.

Published (Xie et al., ISBI 2019): the network and its loss. Ours: the augmentation, which is that of the classifier
with less noise, 512 px, optimizer, epochs and batch size.
"""

from dataclasses import replace

from training.datasets.found.palm import PalmDataSet
from training.recipes.palm import palm_classifier_512

RECIPE = replace(
    palm_classifier_512.RECIPE,
    name="palm_fovea_vgg19mixed",
    data=PalmDataSet(question="fovea"),
    preset="palm_fovea",
    model_options={"backbone": "vgg19_mixed"},
    augmentation=replace(palm_classifier_512.AUGMENTATION, noise_mean=0.0, noise_variance=(10.0, 50.0)),
)
