"""The large network at its published size on synthetic images: what export and quantization are measured on.

Command:  python -m training fit --recipe phantom_21m_384 --out runs/phantom_21m_384
Duration: not measured yet
Score:    not measured yet
"""

from dataclasses import replace

from training.datasets import PhantomDataSet
from training.recipe import Phase
from training.recipes import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_21m_384",
    data=PhantomDataSet(train_patients=300, width=480),
    preset="realmnet_21m_384",
    # Nearly all of the learning at a sixteenth of the cost; at 384 px the network only gets used to the size.
    phases=(Phase(epochs=12, size=96), Phase(epochs=2, size=192), Phase(epochs=1, size=384)),
    learning_rate=5e-4,
    validate_every=4,
)
