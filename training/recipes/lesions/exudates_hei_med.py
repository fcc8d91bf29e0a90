"""Exudates on HEI-MED, by cross-validation: the network of lesions_lite goes on learning.

Command:  python -m training fit --recipe exudates_hei_med --data HEI_MED --fold 1/5 --out runs/exudates_hei_med_1
Duration: not measured
Score:    not run; unseen, AUPR of pixels .496 (95 % interval .379 to .572) and AUROC of pictures .933 (.880 to .976)
          on 118 pictures, 39 of them with exudates

HEI_MED holds images/ and lesion/, masks of the same names in grey levels (the layout hei_med_levels); of the other
lesions nothing is known. It is for non-commercial research: weights that have learned from it are not shipped. How the
network of lesions_lite does without having seen HEI-MED:

          python -m training evaluate runs/lesions_lite --recipe exudates_hei_med --data HEI_MED
"""

from dataclasses import replace

from training.datasets.found.lesions import LesionDataSet
from training.input.windows import Windows
from training.recipe import Phase
from training.recipes.lesions import lesions_lite

RECIPE = replace(
    lesions_lite.RECIPE,
    name="exudates_hei_med",
    data=LesionDataSet(layout="hei_med_levels", lesions=("MA", "HE", "EX", "SE"), held_out=0.2),
    weights="runs/lesions_lite",
    phases=(Phase(epochs=5, size=1152),),
    windows=Windows(side=448, per_image=4),
    learning_rate=1e-3,
)
