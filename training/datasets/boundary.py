"""What surrounds and hides the retina in an ultra-widefield picture, under the same codes in every data set.

As the study of RealMNet (npj Digital Medicine 2025), which segmented the boundary and trained again without it; that
lids count with the lashes is ours.
"""

from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

__all__ = ["BOUNDARY", "BOUNDARY_MASKS"]

BOUNDARY = "boundary"  # the output
BOUNDARY_MASKS = Masks(
    LabelSet(
        BOUNDARY,
        (
            Label("BORDER", "Device border", "what lies outside of the device's field"),
            Label("LASHES", "Lids and lashes", "lids and eyelashes in front of the retina"),
        ),
        condition="what hides the retina",
    ),
    exclusive=True,
)
