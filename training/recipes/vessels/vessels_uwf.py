"""Vessels of ultra-widefield pictures, AV-WIDE, which no network learns from.

Command:  python -m training evaluate runs/vessels_lite --recipe vessels_uwf --data AV_WIDE
Duration: half a minute on one of 2 busy cores (TensorFlow)
Score:    vessels_lite: F1 .620 (95 % interval .592 to .644), AUROC .904, on 21 pictures (docs/refuge.md)

AV_WIDE holds images/ and vessel/: 200 degrees of the retina in red and green. It is for research, and for tests alone.
"""

from dataclasses import replace

from training.datasets.found.vessels import VesselDataSet
from training.recipes.vessels import vessels_lite

RECIPE = replace(vessels_lite.RECIPE, name="vessels_uwf", data=VesselDataSet(layout="av_wide"))
