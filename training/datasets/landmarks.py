"""The vocabulary of what every fundus has, shared by the data sets that know where it lies."""

from keras_realmnet.tasks.outputs import Masks, Points
from keras_realmnet.tasks.task import FOVEA_CODE
from keras_realmnet.tasks.vocabulary import Concept, Label, LabelSet

__all__ = ["CUP", "DISC", "DISC_AND_CUP", "DISC_MASK", "FOVEA", "FOVEA_POINT", "LANDMARK_POINTS"]

FOVEA = Label(FOVEA_CODE, "Fovea", "centre of the fovea", Concept("SCT", "67046006", "Fovea centralis"))
DISC = Label("DISC", "Optic disc", "optic disc", Concept("SCT", "81016008", "Optic nerve head"))
CUP = Label("CUP", "Optic cup", "optic cup")

FOVEA_POINT = Points(LabelSet("fundus", (FOVEA,)))
LANDMARK_POINTS = Points(LabelSet("fundus", (FOVEA, DISC)))  # of the disc: its centre
DISC_MASK = Masks(LabelSet("fundus", (DISC,)), exclusive=True, single=True)
DISC_AND_CUP = Masks(LabelSet("fundus", (DISC, CUP)), single=True, within=((CUP.code, DISC.code),))
