"""The reference file: images and what Keras gives for them, for a board that builds its own engine and has no Keras."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.by_kind.kinds import contract_of
from export.contract.images import Images
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.arrays import ArrayArchive
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.form import check_form
from keras_realmnet.tasks.task import Task

__all__ = ["images_of_reference", "write_reference"]

ABOUT = {"source sha256": (str, None), "preprocessing hash": str, "origin": str, "left out": int}


def write_reference(images: Images, bundle: Bundle, path: Path) -> None:
    """Writes the images and what Keras gave for them as one file (npz), for `images_of_reference` elsewhere."""
    about = {
        "source sha256": bundle.source_sha256,
        "preprocessing hash": bundle.spec.hash,
        "origin": images.origin,
        "left out": images.left_out,
    }
    arrays: dict[str, Any] = {"about": json.dumps(about), "pixels": images.pixels, **(images.expected or {})}
    known: dict[str, Any] = {
        _truth_name(bundle.task, output): values for output, values in (images.truth or {}).items()
    }
    known["patients"] = images.patients
    arrays |= {name: values for name, values in known.items() if values is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def images_of_reference(path: Path, bundle: Bundle) -> Images:
    """The images of a reference file, with what Keras gave for them. Needs no Keras.

    Raises:
        RealMNetError: no reference file, a damaged one, or one of another Keras model or preprocessing.
    """
    try:
        with ArrayArchive(path) as arrays:
            about = json.loads(str(arrays.read("about", "text", ())))
            check_form(about, ABOUT, "about")
            if (about["source sha256"], about["preprocessing hash"]) != (bundle.source_sha256, bundle.spec.hash):
                raise RealMNetError(
                    f"{path}: made for another Keras model or preprocessing than those of {bundle.directory}"
                )
            size = bundle.spec.size
            shapes = bundle.artifact().output_shapes
            expected = {name: arrays.read(name, "float32", (None, *shape[1:])) for name, shape in shapes.items()}
            n = len(next(iter(expected.values())))
            if any(len(values) != n for values in expected.values()):
                raise ValueError("as many values of each output as there are images expected")
            pixels = arrays.read("pixels", "uint8", (n, size, size, 3))
            truth = {
                output: arrays.read(name, *contract_of(kind).truth_form(kind, n, size))
                for output, kind in bundle.task.trained.items()
                if (name := _truth_name(bundle.task, output)) in arrays
            }
            patients = arrays.read("patients", "text", (n,)).tolist() if "patients" in arrays else None
        try:
            bundle.task.check(expected)
        except ValueError as error:
            raise ValueError(f"Keras' output: {error}") from error
        for output, values in truth.items():
            try:
                contract_of(bundle.task.trained[output]).check_truth(bundle.task.trained[output], values, size)
            except ValueError as error:
                raise ValueError(f"{_truth_name(bundle.task, output)}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RealMNetError(f"{path}: not a reference file of `export verify --save-reference`: {error}") from error
    return Images(pixels, about["origin"], truth or None, patients, about["left out"], expected)


def _truth_name(task: Task, output: str) -> str:
    """What the truth of an output is called in the file."""
    return "truth" if len(task.trained) == 1 else f"truth_{output}"
