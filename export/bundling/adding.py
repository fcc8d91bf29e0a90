"""More models for a bundle that there is, and files again that its folder is without."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundling.making import Meaning, calibration_images, halves, make_and_measure
from export.bundling.provenance import versions_with_added
from export.contract.images import Images, data_of_folder, data_of_run, images_of_data_set, images_of_files
from export.contract.keras_source import load_source
from export.contract.parity import Parity
from export.conversion.artifacts import ArtifactMaker, is_convolutional, needs_calibration
from export.conversion.deployment import deployment_of
from export.speed.images import SAMPLES
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle, against_keras
from keras_realmnet.screening.bundle.document import BUNDLE_FILE
from keras_realmnet.screening.bundle.writing import add_artifacts, put_back

__all__ = ["add_to_bundle", "make_again"]


def add_to_bundle(
    bundle: Bundle,
    artifacts: Sequence[str],
    files: Sequence[Path] = (),
    data: Path | None = None,
    run: Path | None = None,
    source: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Bundle, dict[str, Parity], Images]:
    """`bundle` with more artifacts, made from its Keras model and measured as those of `bundle_from_run` are.

    They are measured on the test images of a data set, and static int8 is calibrated on its training images; or on
    image files, of which every second one then calibrates and is not measured on.

    Args:
        artifacts: some of `export.conversion.artifacts.ARTIFACTS`; one that is there already is replaced.
        files: image files or folders; the project's samples where nothing is named and nothing is calibrated.
        data: labelled folder in PSMM's or PALM's layout.
        run: finished run, whose data is used.
        source: a copy of the Keras model, for a bundle without it.
        tell: is handed a line as each step begins.

    Returns:
        The bundle, per new artifact how far it is from Keras, and the images on which that was measured.

    Raises:
        RealMNetError: an unknown artifact, no or another Keras model, no images where static int8 needs them, or the
            bundle was changed meanwhile.
        BundleMismatch: an artifact differs from Keras by more than the limits of `export.contract`; the bundle stays as
            it was.
    """
    data_set = _data_set(bundle, data, run)
    model = load_source(bundle, source)
    calibrated = [name for name in artifacts if needs_calibration(name, is_convolutional(model))]
    if calibrated and data_set is None and not files:
        raise RealMNetError(
            f"{', '.join(calibrated)}: static int8 needs images like those that are screened: name them by --images, "
            f"or what the network was trained on by --data or --run. {bundle.training_data['statement']}"
        )
    images, calibration = _images(bundle, data_set, files, bool(calibrated))
    if calibration is not None:
        tell(f"static int8: calibration on {len(calibration)} images")
    with tempfile.TemporaryDirectory() as folder:
        meaning = Meaning(bundle.task, bundle.spec)
        sources, parity, _ = make_and_measure(model, artifacts, Path(folder), calibration, images, meaning, tell)
        added = add_artifacts(
            bundle,
            sources,
            scores={against_keras(name): {**found.to_dict(), "on": images.origin} for name, found in parity.items()},
            versions=versions_with_added(bundle, sources),
        )
    return added, parity, images


def _data_set(bundle: Bundle, data: Path | None, run: Path | None) -> Any:
    if run is not None:
        return data_of_run(run)
    return data_of_folder(data, bundle) if data is not None else None


def _images(
    bundle: Bundle, data_set: Any, files: Sequence[Path], calibrated: bool
) -> tuple[Images, NDArray[np.uint8] | None]:
    """What is measured on, and where something is `calibrated` the images for that."""
    if data_set is not None:
        images = images_of_data_set(data_set, bundle, data_set.kind)
        return images, calibration_images(data_set, bundle.spec) if calibrated else None
    # What is stored names no folders: the bundle may go to others.
    origin = "image files" if files else "the project's sample images"
    images = replace(images_of_files(files or [SAMPLES], bundle), origin=origin)
    return halves(images) if calibrated else (images, None)


def make_again(
    bundle: Bundle,
    artifacts: Sequence[str],
    source: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Gives the folder of `bundle` the files of artifacts again that it is without. The bundle stays as it is.

    Args:
        artifacts, source, tell: as for `add_to_bundle`.

    Raises:
        RealMNetError: no or another Keras model; what is made here is not, byte for byte, what was there.
    """
    model = load_source(bundle, source)
    for name in artifacts:
        if needs_calibration(name, is_convolutional(model)):
            raise RealMNetError(
                f"{name}: made with images, static int8 does not become the same again; --replace, with images, puts "
                "another in its place"
            )
    with tempfile.TemporaryDirectory() as folder:
        maker = ArtifactMaker(model, Path(folder), None, **deployment_of(model, bundle.task))
        for name in artifacts:
            tell(f"making {name}")
            try:
                put_back(bundle, name, maker.make(name).path)
            except BundleMismatch as error:
                file = bundle.artifact(name).file
                raise RealMNetError(
                    f"{file}: what is made here has other bytes, as other packages may give (`versions` in "
                    f"{BUNDLE_FILE} has those of then); --replace puts it in, and the bundle's digest changes"
                ) from error
