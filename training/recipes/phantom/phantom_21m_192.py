"""The weights of phantom_21m_96 go on at 192 px: what phantom_21m_384 starts from.

Command:  python -m training fit --recipe phantom_21m_192 --out runs/phantom_21m_192
Duration: 23 minutes on 2 shared cores (TensorFlow), after those of phantom_21m_96
Score:    678 held-out phantoms of 140 patients: macro AUROC .975 (95 % interval .968 to .982), mAP .906 (.884 to .926)

A schedule of its own for each size: one cosine over all of them leaves the last size too small a learning rate to
recover what the change of size costs.
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes.phantom import phantom_21m_96

RECIPE = replace(
    phantom_21m_96.RECIPE,
    name="phantom_21m_192",
    weights="runs/phantom_21m_96",
    phases=(Phase(epochs=6, size=192),),
    learning_rate=3e-4,
    warmup_epochs=0.5,
    validate_every=3,
)
