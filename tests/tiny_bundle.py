"""Makes a small but real bundle: `python tiny_bundle.py DIRECTORY`. Its own process keeps TensorFlow out of the tests.

The network is drawn by hand rather than trained: a bright patch in the green channel is patchy atrophy (A3), so that
a test decides by drawing what an image is.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

from keras_realmnet.screening.bundle.writing import ArtifactSource, write_bundle
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM

SIZE = 64
CLASSES = len(PSMM)


def network() -> keras.Model:
    """Green light above 0.7 of the range in any cell of 8 x 8 pixels is A3, red above 0.9 is S1."""
    images = keras.Input((SIZE, SIZE, 3), batch_size=1, name="images")
    cells = keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1 / 255)(images))  # (1, 8, 8, 3)
    kernel, bias = np.zeros((1, 1, 3, CLASSES), np.float32), np.full(CLASSES, -3.0, np.float32)
    kernel[0, 0, 1, PSMM.codes.index("A3")], bias[PSMM.codes.index("A3")] = 20.0, -14.0
    kernel[0, 0, 0, PSMM.codes.index("S1")], bias[PSMM.codes.index("S1")] = 20.0, -18.0
    conv = keras.layers.Conv2D(CLASSES, 1, name="class_maps")
    maps = conv(cells)  # (1, 8, 8, classes)
    conv.set_weights([kernel, bias])
    probabilities = keras.layers.Activation("sigmoid", name="probabilities")(keras.layers.GlobalMaxPooling2D()(maps))
    features = keras.layers.Flatten(name="features")(keras.layers.AveragePooling2D(2)(cells))  # (1, 48)
    return keras.Model(images, {"probabilities": probabilities, "class_maps": maps, "features": features})


def build(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    model_file = directory / "float32.tflite"
    network().export(str(model_file), format="litert", verbose=False)
    image = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    image[:, 8:56, 8:56] = (150, 70, 10)
    image[:, 24:40, 32:48, 1] = 200
    write_bundle(
        directory,
        name="tiny",
        version="1.0",
        task=labels_task(
            PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen="by hand, for tests")
        ),
        spec=PreprocessSpec(size=SIZE),
        artifacts={
            "float32": ArtifactSource(model_file, precision="float32", tolerance=1e-3),
            "second": ArtifactSource(model_file, precision="float32", tolerance=1e-3),
        },
        default_artifact="float32",
        golden_image=image,
        training_data={"statement": "Nothing: the weights are drawn by hand."},
        scores={"macro AUROC": None},
        versions={"keras": keras.__version__},
        intended_use="Tests only.",
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
