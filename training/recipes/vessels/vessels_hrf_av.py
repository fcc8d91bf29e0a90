"""HRF's vessels, which the networks of CHASE_DB1 have not seen: another camera, twice as wide a field.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_hrf_av --data HRF_AV
Duration: half a minute on one of 2 busy cores (TensorFlow)
Score:    vessels_lite: F1 .751 (95 % interval .736 to .764), AUROC .957, on 30 pictures (docs/refuge.md)

HRF_AV holds images/, vessel/ (any label of an artery or a vein) and fov/, 1024 px wide. These labels state no licence:
weights that have learned from them are not shipped. A network of vessels_photographs has learned from pictures 01 and
02 of each group: its scores here say more than they should.
"""

from dataclasses import replace

from training.datasets.found.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(vessels_lite.RECIPE, name="vessels_hrf_av", data=VesselDataSet(layout="hrf_av"))
