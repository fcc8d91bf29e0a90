"""One finding by Inception-v3, with which the regionally guided CNN is compared; else as guided_cnn.

Command:  python -m training fit --recipe guided_inception --data PICTURES --set data.finding=EX
          --out runs/guided_inception
Duration: not measured (a GPU is advised)
Score:    not measured here; published, AUROC: macular hole .959, hard exudate .989, hemorrhage .976, retinal nerve
          fiber layer defect .904 (docs/guided.md)

It has no map, and the regions say nothing to it. From ImageNet, as is usual: --set weights=imagenet.

Published (Son et al., OMIA 2018): the network, and what guided_cnn says. Ours: that its convolutions pad, and what
guided_cnn says.
"""

from dataclasses import replace

from training.datasets.found.annotated import AnnotatedDataSet
from training.recipes.guided import guided_cnn

RECIPE = replace(
    guided_cnn.RECIPE,
    name="guided_inception",
    data=AnnotatedDataSet(regions=False),
    preset="grading_plain",
    loss="BinaryCrossentropy",
    loss_weights={"probabilities": 2.0},
)
