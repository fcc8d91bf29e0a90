"""DRIVE's vessels, which the networks of CHASE_DB1 have not seen: another camera.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_drive --data DRIVE
Duration: not measured
Score:    not run yet

DRIVE as published, its 20 pictures of the test, whose masks older copies hold.
"""

from dataclasses import replace

from training.datasets.cross_validation import CrossValidation
from training.datasets.found.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(
    vessels_lite.RECIPE, name="vessels_drive", data=CrossValidation(VesselDataSet(layout="drive"), part="test")
)
