"""Vessels for the box to ship: vessels_lite on two cameras, CHASE_DB1 and HRF, both CC BY 4.0.

Command:  python -m training fit --recipe vessels_photographs --data FUNDUS --out runs/vessels_photographs
Duration: 5 minutes of one core (TensorFlow)
Score:    F1 .810 on 3 held-out pictures of 2 people, AUROC .978; unseen .788 on 6 of IDRiD, .618 (95 % interval .592 to
          .642) on 21 of AV-WIDE (docs/refuge.md)

FUNDUS holds chase_db1/ (images/, vessel/) and hrf/ (images/, masks/ or manual1/). HRF's pictures with labels of
arteries and veins and IDRiD's masks of vessels are not among them: these labels state no licence, and nobody knows
where these masks are from; so weights that have learned from them are not shipped. AV-WIDE is for research.

A child of CHASE_DB1 and an eye of HRF validate, as many are tested. The threshold is chosen on the former as the box
sees pictures, whole and at 960 px, of both cameras together. HRF's eyes are those of vessels_hrf_av, under the same
ids. It learns that there are no vessels beside the field, as the box sees what is there, too.

Ours.
"""

from dataclasses import replace

from training.datasets.combined import CombinedDataSet
from training.datasets.found.vessels import VesselDataSet
from training.input.windows import Windows
from training.recipe import Phase
from training.recipes.vessels import vessels_lite

RECIPE = replace(
    vessels_lite.RECIPE,
    name="vessels_photographs",
    data=CombinedDataSet(
        "vessels",
        parts=(
            VesselDataSet("chase_db1", layout="chase_db1_folders", held_out=0.2, outside="background"),
            VesselDataSet("hrf", layout="hrf", held_out=0.34, outside="background"),
        ),
        repeats=(1, 2),  # fewer pictures, and finer vessels
    ),
    phases=(Phase(epochs=8, size=960),),
    windows=Windows(side=192, per_image=42, around=0.5),
)
