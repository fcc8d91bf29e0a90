"""The optic disc on Drishti-GS, by cross-validation: the network of fundus_landmarks goes on learning.

Command:  python -m training fit --recipe drishti_disc --data DRISHTI_GS/images --fold 1/5 --out runs/drishti_disc_1
Duration: two minutes a fold on one of 2 busy cores (TensorFlow)
Score:    Dice .956 (95 % interval .952 to .959), 5 folds, 71 photographs (docs/palm.md)

DRISHTI_GS holds images/ and disc/, masks of the same names, not black inside. It is for research use only: weights
that have learned from it are not shipped. How the network of fundus_landmarks does without having seen Drishti-GS:

          python -m training evaluate runs/fundus_landmarks --recipe drishti_disc --data DRISHTI_GS/images
"""

from dataclasses import replace

from training.datasets.found.own import OwnDataSet
from training.recipe import Phase
from training.recipes.palm import fundus_landmarks

RECIPE = replace(
    fundus_landmarks.RECIPE,
    name="drishti_disc",
    data=OwnDataSet(
        vocabulary={
            **fundus_landmarks.FUNDUS,
            "outputs": [{**fundus_landmarks.MASKS, "folder": "../disc", "entries": [fundus_landmarks.DISC]}],
        },
        held_out=0.2,
    ),
    weights="runs/fundus_landmarks",
    phases=(Phase(epochs=10, size=256),),
    batch_size=8,
    learning_rate=3e-4,
    loss_weights={},
    ema_momentum=0.97,
)
