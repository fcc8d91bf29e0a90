"""The seven PSMM labels on synthetic ultra-widefield images at 224 px, random initial weights: the longer plan.

Command:  python -m training fit --recipe phantom_5m_224 --out runs/phantom_5m_224
Duration: hours on 2 cores: meant for a GPU (KERAS_BACKEND=jax or torch)
Score:    not measured; cut to 5, 1 and 1 epochs it ended at macro AUROC .926, the learning rate spent before the last
          change of size. The shipped model is phantom_5m_160.
"""

from dataclasses import replace

from training.recipe import Phase
from training.recipes import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_5m_224",
    # Most epochs at the final size: the cosine must leave enough learning rate for the last change.
    phases=(Phase(epochs=6, size=96), Phase(epochs=3, size=160), Phase(epochs=6, size=224)),
    ema_momentum=0.99,
)
