"""A task with an output of every kind, for tests."""

from keras_realmnet.tasks.measures import DistanceInDiameters, VerticalRatio
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Points
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeFrom, MeasureAbove, OperatingPoint
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import PALM, Concept, Label, LabelSet

GRADES = LabelSet(
    "dr",
    (
        Label("G0", "No retinopathy", "no diabetic retinopathy"),
        Label("G1", "Mild", "mild non-proliferative retinopathy"),
        Label("G2", "Moderate", "moderate non-proliferative retinopathy"),
    ),
    condition="diabetic retinopathy",
)
DISC = LabelSet(
    "nerve",
    (
        Label("disc", "Optic disc", "optic disc", Concept("SCT", "81016008", "Optic nerve head")),
        Label("cup", "Optic cup", "excavation of the optic disc"),
    ),
)
LANDMARKS = LabelSet(
    "eye",
    (
        Label("fovea", "Fovea", "fovea centralis", Concept("SCT", "67046006", "Fovea centralis")),
        Label("disc_centre", "Disc centre", "centre of the optic disc"),
    ),
)
OUTPUTS = {
    "labels": Labels(PALM),
    "grades": Grades(GRADES),
    "label_maps": Maps(of="labels"),
    "masks": Masks(DISC, single=True),
    "points": Points(LANDMARKS, confidence=True),
    "features": Features(),
}
MEASURES = (
    VerticalRatio("vcdr", "Vertical cup-to-disc ratio", "cup", "disc"),
    DistanceInDiameters("fovea_disc", "From fovea to disc in disc diameters", "fovea", "disc_centre", "disc"),
)
RULE = AnyOf(
    (
        AnyAbove("labels", OperatingPoint({"P": 0.5}, "by hand")),
        GradeFrom("grades", "G2", "by hand"),
        MeasureAbove("vcdr", 0.7, "by hand"),
    )
)
TASK = Task("all", "colour_fundus", OUTPUTS, RULE, MEASURES)
