"""IDRiD's vessels, which the networks of CHASE_DB1 have not seen: another camera, diabetic retinopathy.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_idrid --data IDRID_VESSEL
Duration: half a minute on one of 2 busy cores (TensorFlow)
Score:    vessels_lite: F1 .788 (95 % interval .769 to .804), AUROC .989, on 6 pictures (docs/refuge.md)

IDRID_VESSEL holds images/ and masks/, whose origin is not known: weights that have learned from them are not shipped.
"""

from dataclasses import replace

from training.datasets.found.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(vessels_lite.RECIPE, name="vessels_idrid", data=VesselDataSet(layout="idrid_vessel"))
