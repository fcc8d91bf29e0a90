"""The large network at its published size on synthetic images: what its export and quantization are measured on.

Command:  python -m training fit --recipe phantom_21m_384 --out runs/phantom_21m_384
Duration: not measured yet
Score:    not measured yet
"""

from dataclasses import replace

from training.datasets import PhantomDataSet
from training.recipe import Phase
from training.recipes import phantom_21m_192

RECIPE = replace(
    phantom_21m_192.RECIPE,
    name="phantom_21m_384",
    data=PhantomDataSet(train_patients=100, width=480),
    weights="runs/phantom_21m_192",
    phases=(Phase(epochs=3, size=192), Phase(epochs=1, size=384)),  # a few hundred steps to get used to the size
    batch_size=8,  # 9 GB at 384 px
    learning_rate=2e-4,
    warmup_epochs=0.5,
    validate_every=5,
)
