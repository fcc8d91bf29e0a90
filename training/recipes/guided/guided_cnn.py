"""One finding as published: the regionally guided CNN at 512 px; and the same without guidance.

Command:  python -m training fit --recipe guided_cnn --data PICTURES --set data.finding=EX --out runs/guided_cnn
Duration: not measured (a GPU is advised)
Score:    not measured here; published, AUROC with and without guidance: macular hole .987 and .968, hard exudate .994
          and .991, hemorrhage .986 and .990, retinal nerve fiber layer defect .926 and .887 (docs/guided.md)

PICTURES holds the pictures and annotations.json, the records of training.data.annotations.records; --set
data.records=FILE names another one. The network is chosen by how large the finding's lesions are: --set
preset=guided_large or guided_medium; a finding that is no lesion of diabetic retinopathy needs a name, too: --set
data.finding=MH --set "data.called=Macular hole".

Without guidance, with the map still measured: --set "loss_options={'class_maps': {'lam': 0.0}}".
Guidance by cross-entropy, ours: --set "loss_options={'class_maps': {'form': 'crossentropy'}}".

Published (Son et al., OMIA 2018): network, 512 px, losses with λ = 1 and ε = .001, SGD with Nesterov momentum .9,
batches of 32, a learning rate that decays, the epoch with the lowest validation loss; affine and intensity changes as
augmentation. Ours: the learning rate, that it falls as a cosine, epochs, the strengths of the augmentation; gradients
are clipped.
"""

from training.datasets.found.annotated import AnnotatedDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="guided_cnn",
    data=AnnotatedDataSet(),
    preset="guided_small",
    phases=(Phase(epochs=100, size=512),),
    batch_size=32,
    loss={"probabilities": "BinaryCrossentropy", "class_maps": "Guidance"},
    loss_weights={"probabilities": 2.0},  # which makes the loss balanced by one half the usual one
    learning_rate=1e-2,
    momentum=0.9,
    nesterov=True,
    weight_decay=0.0,
    augmentation=Augmentation(
        affine=1.0,
        rotation=20.0,
        scale=(0.9, 1.1),
        shear=5.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        jitter=0.8,
        hue=0.02,
        blur=0.0,
        noise=0.0,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    validate_every=1,
    validation_loss=True,
    keep="val_loss",
)
