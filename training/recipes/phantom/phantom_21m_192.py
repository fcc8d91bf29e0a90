"""The large network, briefly trained on synthetic images: what its export and quantization are measured on.

Command:  python -m training fit --recipe phantom_21m_192 --out runs/phantom_21m_192
Duration: about 50 minutes on 2 cores (TensorFlow)
Score:    678 held-out phantoms of 140 patients: macro AUROC .761 (95 % interval .736 to .786), mAP .574; at 96 px,
          before the change of size, .961 and .919 on 402 validation images

It was run as the first 14 of 15 planned epochs. The cosine leaves the last size a learning rate of at most 3e-5, too
little to recover what the change of size costs: a schedule for good scores needs more epochs at the final size.
"""

from dataclasses import replace

from training.datasets.made.phantom import PhantomDataSet
from training.recipe import Phase
from training.recipes.phantom import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_21m_192",
    data=PhantomDataSet(train_patients=300, width=480),
    preset="realmnet_21m_384",  # the architecture; the windows follow the size
    phases=(Phase(epochs=12, size=96), Phase(epochs=2, size=192)),
    learning_rate=5e-4,
    validate_every=4,
)
