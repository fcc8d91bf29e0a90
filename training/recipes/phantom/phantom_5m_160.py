"""The seven PSMM labels on synthetic ultra-widefield images, random initial weights: what phantom_5m_224 starts from.

Command:  python -m training fit --recipe phantom_5m_160 --out runs/phantom_5m_160
Duration: about half an hour on 2 cores (TensorFlow)
Score:    678 held-out phantoms of 140 patients: macro AUROC .975 (95 % interval .967 to .982), mAP .902 (.876 to .927)

These weights are the sixth epoch of a run that was planned for a seventh, so that its learning rate ended at 5e-5
instead of 1e-6; this recipe is otherwise what was run.
"""

from training.datasets.made.phantom import PhantomDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="phantom_5m_160",
    data=PhantomDataSet(train_patients=1000),
    preset="realmnet_5m_224",  # the architecture; the windows follow the size
    # Small inputs first: most of the learning at a fraction of the cost.
    phases=(Phase(epochs=5, size=96), Phase(epochs=1, size=160)),
    batch_size=16,  # many steps in few epochs
    drop_path_rate=0.05,
    learning_rate=8e-4,  # from scratch; 1e-4 is for fine-tuning
    warmup_epochs=1,
    # From scratch in few epochs the published focusing (3, 4) starts too slowly: easy images teach at first.
    loss_options={"gamma_pos": 0.0, "gamma_neg": 1.0},
    # Phantoms vary by themselves: the published probabilities, without mixing and strong colour turns.
    augmentation=Augmentation(hue=0.05, mixup=0.0, cutmix=0.0, erase=0.1),
    validate_every=1,
)
