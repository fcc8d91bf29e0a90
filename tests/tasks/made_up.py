"""A task with an output of every kind, for tests."""

from keras_realmnet.tasks.fitted.calibration import Calibration, Isotonic, Platt, Temperature
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.measures import DistanceInDiameters, VerticalRatio
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Points
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeByCost, GradeFrom, MeasureAbove, OperatingPoint
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
BY_COST = GradeByCost(
    "labels", ("N", "H", "P"), ((0, 1, 2), (1, 0, 1), (6, 5, 0)), "P", {}, (("N", "H", "P"),), 0.5, "by hand"
)
FITTED = Fitted(
    {
        "labels": Calibration({"N": Temperature(2.0), "H": Platt(0.5, 0.1), "P": Isotonic((0, 0.5), (0.1, 1))}, "so"),
        "grades": Calibration(dict.fromkeys(GRADES.codes, Temperature(2.0)), "so"),
    },
    (
        LabelSets("grades", "by hand", (GRADES.codes,), (0.25,), 0.9),
        MissedRisk("labels", "by hand", 0.1, 0.05, 0.95),
    ),
)
TASK = Task("all", "colour_fundus", OUTPUTS, RULE, MEASURES)
