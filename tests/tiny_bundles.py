"""Makes bundles of tiny networks: `python tiny_bundles.py DIRECTORY`.

DIRECTORY/decides and DIRECTORY/describes answer in every kind; the first refers by a label, a grade or a measure, the
other decides on nothing. Their network is drawn by hand, as that of tiny_bundle.py: a bright green patch is a disc (and
a label, the worst grade, the landmark `disc_centre`), a blue patch inside of it the cup, bright red the fovea and a
lesion.

DIRECTORY/lesions finds lesions, microaneurysms in blue, haemorrhages in red, hard exudates in yellow, and grades by
them.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

from keras_realmnet.screening.bundle.writing import ArtifactSource, write_bundle
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.measures import DistanceInDiameters, VerticalRatio, lesion_measures
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Points
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeFrom, MeasureAbove, NoReferral, OperatingPoint
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Concept, Label, LabelSet

SIZE, FINE, LESION_SIZE = 64, 32, 256
LABELS = LabelSet(
    "tiny", (Label("L0", "Nothing", "nothing bright"), Label("L1", "Bright patch", "a bright patch")), ("L1",)
)
GRADES = LabelSet(
    "tinygrade",
    (
        Label("0", "No sign", "no bright patch"),
        Label("1", "Mild sign", "a patch that is somewhat bright"),
        Label("2", "Marked sign", "a bright patch", Concept("SCT", "24484000", "Severe")),
    ),
    condition="a tiny disease",
)
STRUCTURES = LabelSet(
    "optic",
    (
        Label("disc", "Optic disc", "the optic disc", Concept("SCT", "81016008", "Optic nerve head")),
        Label("cup", "Optic cup", "the cup of the optic disc"),
    ),
)
LESIONS = LabelSet("lesion", (Label("RED", "Red lesion", "a lesion"), Label("GREY", "Grey lesion", "never there")))
LANDMARKS = LabelSet(
    "eye",
    (
        Label("fovea", "Fovea", "the fovea", Concept("SCT", "67046006", "Fovea centralis")),
        Label("disc_centre", "Disc centre", "the centre of the optic disc"),
    ),
)
OUTPUTS = {
    "labels": Labels(LABELS),
    "grade": Grades(GRADES),
    "class_maps": Maps(of="grade"),
    "structures": Masks(STRUCTURES, exclusive=True, single=True),
    "lesions": Masks(LESIONS),
    "landmarks": Points(LANDMARKS, confidence=True),
    "features": Features(),
}
MEASURES = (
    VerticalRatio("vcdr", "Vertical cup-to-disc ratio", "cup", "disc"),
    DistanceInDiameters("dfd", "Fovea to disc", "fovea", "disc_centre", "disc"),
)
DECIDES = AnyOf(
    (
        AnyAbove("labels", OperatingPoint({"L1": 0.9}, chosen="by hand, for tests")),
        GradeFrom("grade", "2", chosen="by hand, for tests"),
        MeasureAbove("vcdr", 0.7, chosen="by hand, for tests"),
    )
)

DR_LESIONS = LabelSet(
    "lesion",
    (
        Label("MA", "Microaneurysm", "a microaneurysm"),
        Label("HE", "Haemorrhage", "a haemorrhage", Concept("SCT", "50960005", "Hemorrhage")),
        Label("EX", "Hard exudate", "a hard exudate"),
        Label("SE", "Soft exudate", "never there"),
    ),
    pathologic=("MA", "HE", "EX", "SE"),
    condition="diabetic retinopathy",
)
DR = LabelSet(
    "dr",
    (
        Label("0", "No retinopathy", "no retinopathy"),
        Label("1", "Mild retinopathy", "microaneurysms alone"),
        Label("2", "Moderate retinopathy", "more than microaneurysms"),
    ),
    pathologic=("2",),
    condition="diabetic retinopathy",
)
LESION_TASK = Task(
    "lesions",
    "colour_fundus",
    {"lesions": Masks(DR_LESIONS), "grade": Grades(DR)},
    GradeFrom("grade", "2", chosen="by hand, for tests"),
    lesion_measures(DR_LESIONS, quadrants=("MA", "HE")),
)


def network() -> keras.Model:
    """Each output looks at the mean of red, green and blue (0 to 1) in cells of 2 x 2 or 8 x 8 pixels."""
    images = keras.Input((SIZE, SIZE, 3), batch_size=1, name="images")
    light = keras.layers.Rescaling(1 / 255)(images)
    coarse, fine = keras.layers.AveragePooling2D(8)(light), keras.layers.AveragePooling2D(2)(light)
    found = _linear(coarse, [(0, 0, 0, -3), (0, 20, 0, -14)])
    grades = _linear(coarse, [(0, 0, 0, 0), (0, 10, 0, -6), (0, 30, 0, -20)], name="class_maps")
    structures = _linear(light, [(0, 0, 0, 0), (0, 20, 0, -14), (0, 0, 40, -28)])
    lesions = _linear(light, [(60, 0, 0, -56), (0, 0, 0, -9)])
    seen = _linear(fine, [(60, 0, 0, -56), (0, 40, 0, -28)])
    centres = (np.arange(FINE) + 0.5) / FINE
    positions = np.stack([np.tile(centres, FINE), np.repeat(centres, FINE)], axis=-1).astype(np.float32)
    where = keras.layers.Permute((2, 1))(keras.layers.Reshape((FINE * FINE, 2))(seen))
    mean = keras.layers.Dense(2, use_bias=False)
    places = mean(keras.layers.Softmax()(where))
    mean.set_weights([positions])
    confidence = keras.layers.Activation("sigmoid")(keras.layers.GlobalMaxPooling2D()(seen))
    return keras.Model(
        images,
        {
            "labels": keras.layers.Activation("sigmoid")(keras.layers.GlobalMaxPooling2D()(found)),
            "grade": keras.layers.Softmax()(keras.layers.GlobalMaxPooling2D()(grades)),
            "class_maps": grades,
            "structures": keras.layers.Softmax()(structures),
            "lesions": keras.layers.Activation("sigmoid")(lesions),
            "landmarks": keras.layers.Concatenate()([places, keras.layers.Reshape((2, 1))(confidence)]),
            "features": keras.layers.GlobalAveragePooling2D()(coarse),
        },
    )


def lesion_network() -> keras.Model:
    """A haemorrhage or an exudate makes the grade 2, a microaneurysm alone 1."""
    images = keras.Input((LESION_SIZE, LESION_SIZE, 3), batch_size=1, name="images")
    light = keras.layers.Rescaling(1 / 255)(images)
    lesions = keras.layers.Activation("sigmoid")(
        _linear(light, [(-20, 0, 60, -30), (60, -60, -60, -30), (20, 40, -20, -46), (0, 0, 0, -9)])
    )
    grades = keras.layers.Dense(len(DR))
    grade = grades(keras.layers.GlobalMaxPooling2D()(lesions))
    grades.set_weights([np.array([[0, 5, 4], [0, 0, 9], [0, 0, 9], [0, 0, 0]], np.float32), np.array([3.0, 0, -2])])
    return keras.Model(images, {"lesions": lesions, "grade": keras.layers.Softmax()(grade)})


def _linear(light: keras.KerasTensor, rows: list[tuple[float, ...]], name: str | None = None) -> keras.KerasTensor:
    """A channel for each row: red, green, blue times its first three numbers, plus the last."""
    conv = keras.layers.Conv2D(len(rows), 1, name=name)
    channels = conv(light)
    weights = np.array(rows, np.float32)
    conv.set_weights([weights[:, :3].T[None, None], weights[:, 3]])
    return channels


def build(directory: Path) -> None:
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    image[:, 8:56, 8:56] = (150, 70, 40)
    image[:, 24:40, 32:48, 1] = 220
    decides = Task("tiny", "colour_fundus", OUTPUTS, DECIDES, MEASURES)
    write(directory, network(), {"decides": decides, "describes": replace(decides, rule=NoReferral())}, image)
    write(directory, lesion_network(), {"lesions": LESION_TASK}, image.repeat(4, axis=1).repeat(4, axis=2))


def write(directory: Path, model: keras.Model, tasks: Mapping[str, Task], image: np.ndarray) -> None:
    """A bundle for each task, by its name, of the same network."""
    for name, task in tasks.items():
        (directory / name).mkdir(parents=True)
        file = directory / name / "float32.tflite"
        model.export(str(file), format="litert", verbose=False)
        write_bundle(
            directory / name,
            name=name,
            version="1.0",
            task=task,
            spec=PreprocessSpec(size=image.shape[1]),
            artifacts={"float32": ArtifactSource(file, precision="float32", tolerance=1e-3)},
            default_artifact="float32",
            golden_image=image,
            training_data={"statement": "Nothing: the weights are drawn by hand."},
            scores={"macro AUROC": None},
            versions={"keras": keras.__version__},
            intended_use="Tests only.",
        )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
