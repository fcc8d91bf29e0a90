"""The large network on synthetic images, most of the training for `phantom_21m_384`.

Command:  python -m training fit --recipe phantom_21m_192 --out runs/phantom_21m_192
Duration: about 50 minutes on 2 cores (TensorFlow)
Score:    validation at 96 px, 402 phantoms: macro AUROC .961, mAP .919

It was run as the first 14 of 15 planned epochs, so that its learning rate ended at 7e-6 instead of 1e-6.
"""

from dataclasses import replace

from training.datasets import PhantomDataSet
from training.recipe import Phase
from training.recipes import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_21m_192",
    data=PhantomDataSet(train_patients=300, width=480),
    preset="realmnet_21m_384",  # the architecture; the windows follow the size
    phases=(Phase(epochs=12, size=96), Phase(epochs=2, size=192)),
    learning_rate=5e-4,
    validate_every=4,
)
