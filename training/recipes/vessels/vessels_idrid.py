"""IDRiD's vessels, which the networks of CHASE_DB1 have not seen: another camera, diabetic retinopathy.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_idrid --data IDRID_VESSEL
Duration: not measured
Score:    not run yet; what was seen of it, docs/refuge.md

IDRID_VESSEL holds images/ and masks/, whose origin is not known: weights that have learned from them are not shipped.
"""

from dataclasses import replace

from training.datasets.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(vessels_lite.RECIPE, name="vessels_idrid", data=VesselDataSet(layout="idrid_vessel"))
