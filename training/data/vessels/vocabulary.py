"""The vessels of the retina, under the same code in every data set."""

from keras_realmnet.tasks.measures import MeasureOf, ShareOfField
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.task import STRETCHED
from keras_realmnet.tasks.vocabulary import Concept, Label, LabelSet

__all__ = ["VESSELS", "measures_of"]

# No concept for those of the retina alone is in DICOM's dictionary; its Segmentation states the retina as the site.
VESSEL = Label("VES", "Retinal vessels", "blood vessels of the retina", Concept("SCT", "59820001", "Blood Vessel"))
VESSELS = Masks(LabelSet("vessels", (VESSEL,), condition="the vessels of the retina"), branching=True)


def measures_of(modality: str) -> tuple[MeasureOf, ...]:
    """The share of the field that vessels cover, where pictures of `modality` stretch no areas."""
    if modality in STRETCHED:
        return ()
    return (ShareOfField(f"{VESSEL.code}_pct", f"{VESSEL.name}: share of the field", VESSEL.code),)
