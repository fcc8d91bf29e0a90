"""Does training train? A few hundred small phantoms, half the depth, a few epochs: the loss must fall.

Command:  python -m training fit --recipe smoke --out runs/smoke
Duration: a minute on 2 idle cores, two on busy ones
Score:    none to speak of; the loss falls from 3.9 to 1.1, and every part has worked
"""

from training.datasets.made.phantom import PhantomDataSet
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="smoke",
    data=PhantomDataSet(train_patients=48, validation_patients=24, test_patients=24, width=160),
    preset="realmnet_5m_224",
    model_options={"depths": [1, 1, 2, 1]},
    phases=(Phase(epochs=3, size=64), Phase(epochs=1, size=96)),
    batch_size=16,
    drop_path_rate=0.0,
    learning_rate=1e-3,
    warmup_epochs=0.5,
    ema_momentum=0.9,
    validate_every=1,
)
