"""Vessels of ultra-widefield pictures, AV-WIDE, which no network learns from.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_uwf --data AV_WIDE
Duration: not measured
Score:    not run yet; what was seen of it, docs/refuge.md

AV_WIDE holds images/ and vessel/: 200 degrees of the retina in red and green. It is for research, and for tests alone.
"""

from dataclasses import replace

from training.datasets.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(vessels_lite.RECIPE, name="vessels_uwf", data=VesselDataSet(layout="av_wide"))
