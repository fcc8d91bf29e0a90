"""The accuracy contract: every artifact of a bundle against the Keras model, on a validation folder.

The images go the way they go on the box. What was found is printed, and written as JSON and one picture.

A board that builds its own engine has no Keras: there a reference file, written where Keras is, holds the images and
what Keras gives for them.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.parity import Parity, finite, limits_of, measure, runtime_predictions, unlike
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.arrays import ArrayArchive
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.form import check_form
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.image_io import UnreadableImage, may_be_image, read_image
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.screening.runtimes import open_runtime, self_check

__all__ = [
    "Images",
    "Verification",
    "data_of_folder",
    "data_of_run",
    "images_of_data",
    "images_of_files",
    "images_of_reference",
    "images_of_run",
    "of_data_set",
    "verify",
    "write_reference",
    "write_report",
]

CACHE = Path("data/cache")
ABOUT = {"source sha256": (str, None), "preprocessing hash": str, "origin": str, "left out": int}  # a reference file
DECODING_LIMIT = 0.01  # |Δ probability| of a JPEG decoded at half its size to the same one decoded whole


@dataclass(frozen=True)
class Images:
    """What is verified on: n images ready for the model, uint8 (n, size, size, 3).

    `origin`: what they are, for people. `truth`: (n, classes), 1, 0 or NaN where not known; `None` without labels.
    `patients`: (n,) names. `left_out`: files that are no gradable image. `expected`: what the Keras model gives for
    them; `None` until it has been asked. `whole`: of those decoded at half their size, {index: pixels after decoding
    whole}.
    """

    pixels: NDArray[np.uint8]
    origin: str
    truth: NDArray[np.floating] | None = None
    patients: Sequence[str] | None = None
    left_out: int = 0
    expected: Prediction | None = None
    whole: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """What was found: `parity` by artifact; `not_run`: why, of each artifact that this machine cannot run; `failed`:
    why, of each that its engine here cannot open, or that does not give its golden output.

    `differences`: |Δ probability| by artifact, each (n, classes). `decoding`: the same of Keras between the m images
    decoded at half their size and those images decoded whole, (m, classes); `None` without such images.
    """

    bundle: Bundle
    images: Images
    parity: dict[str, Parity]
    differences: dict[str, NDArray[np.floating]] = field(repr=False)
    not_run: dict[str, str] = field(default_factory=dict)
    decoding: NDArray[np.floating] | None = None
    failed: dict[str, str] = field(default_factory=dict)

    def refuse(self) -> None:
        """Raises BundleMismatch naming every artifact that failed and every limit that is broken; RealMNetError where
        no artifact runs here.
        """
        said = [f"{name}: {why}" for name, why in self.failed.items()]
        broken = [f"{name}: {line}" for name in self.parity for line in self.violations(name)]
        if broken:
            said.append(f"differs from Keras by more than allowed: {'; '.join(broken)}")
        if said:
            raise BundleMismatch(f"{self.bundle.directory}: {'; '.join(said)}")
        if not self.parity:
            reasons = "; ".join(self.not_run.values())
            raise RealMNetError(f"{self.bundle.directory}: no artifact runs on this machine: {reasons}")
        if self.max_decoding is not None and not self.max_decoding <= DECODING_LIMIT:
            raise BundleMismatch(
                f"{self.bundle.directory}: JPEGs decoded at half their size change a probability by up to "
                f"{self.max_decoding:.3g}, allowed {DECODING_LIMIT}"
            )

    @property
    def max_decoding(self) -> float | None:
        """The largest change by decoding at half size; None where it was not seen."""
        return None if self.decoding is None else float(self.decoding.max())

    def violations(self, name: str) -> list[str]:
        return self.parity[name].violations(limits_of(self.bundle.artifacts[name].precision))

    def unjudged(self) -> list[str]:
        """What these images could not show, a line each."""
        lines = {n: p.unjudged(limits_of(self.bundle.artifacts[n].precision)) for n, p in self.parity.items()}
        found = [f"{name}: {line}" for name, line in lines.items() if line]
        found += [f"{name}: not run on this machine: {reason}" for name, reason in self.not_run.items()]
        min_side = self.bundle.spec.min_side
        if min_side is not None and self.max_decoding is None:
            found.append(f"decoding at half size was not judged: JPEG files of {2 * min_side} px or more needed")
        return found


def images_of_files(sources: Iterable[Path], bundle: Bundle) -> Images:
    """Image files (or folders of them) as on the box: decoded, judged for quality, cropped and resized; no labels.

    Raises:
        RealMNetError: none of them is a gradable image.
    """
    sources = list(sources)
    files = [
        path
        for source in sources
        for path in (
            sorted(filter(may_be_image, filter(Path.is_file, source.rglob("*")))) if source.is_dir() else [source]
        )
    ]
    pixels: list[NDArray[np.uint8]] = []
    whole: dict[int, NDArray[np.uint8]] = {}
    left_out = 0
    for path in files:
        try:
            image = read_image(path, min_side=bundle.spec.min_side)
        except UnreadableImage:
            left_out += 1
            continue
        if assess(image.pixels, image.source, bundle.modality).verdict != "gradable":
            left_out += 1
            continue
        if max(image.pixels.shape) < max(image.source.size):
            whole[len(pixels)] = preprocess(read_image(path).pixels, bundle.spec)[0]
        pixels.append(preprocess(image.pixels, bundle.spec)[0])
    origin = ", ".join(map(str, sources))
    if not pixels:
        raise RealMNetError(f"none of the {left_out} files in {origin} is a gradable image")
    return Images(np.stack(pixels), f"files in {origin}", left_out=left_out, whole=whole)


def images_of_data(folder: Path, bundle: Bundle) -> Images:
    """The test split of a labelled folder in PSMM's or PALM's layout, by the bundle's labels (`training.datasets`)."""
    data = data_of_folder(folder, bundle)
    return of_data_set(data, bundle, f"{data.kind} in {folder}")


def images_of_run(run: Path, bundle: Bundle) -> Images:
    """The test split that a finished run was scored on.

    Raises:
        RealMNetError: `run` is not the folder of a run, or its data has other labels than the bundle.
    """
    data = data_of_run(run)
    return of_data_set(data, bundle, f"{data.kind} images of {run}")


def data_of_folder(folder: Path, bundle: Bundle) -> Any:
    """The data set of a labelled folder in PSMM's or PALM's layout, by the bundle's labels."""
    from training.datasets.palm import PalmDataSet
    from training.datasets.psmm import PsmmDataSet

    name = bundle.label_set.name
    return PalmDataSet(str(folder)) if name == "palm" else PsmmDataSet(str(folder), labels=name)


def data_of_run(run: Path) -> Any:
    """The data set of a finished run. Raises RealMNetError where `run` is not the folder of one."""
    from training.recipe import Recipe

    path = Path(run) / "recipe.json"
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of a run")
    return Recipe.from_dict(json.loads(path.read_text())).data


def of_data_set(data: Any, bundle: Bundle, origin: str) -> Images:
    """The test images of a data set. Raises RealMNetError for one with other labels, or without test images."""
    if data.label_set.codes != bundle.label_set.codes:
        raise RealMNetError(
            f"{origin}: labelled {', '.join(data.label_set.codes)}; the bundle's labels are "
            f"{', '.join(bundle.label_set.codes)}"
        )
    test = data.load("test", bundle.spec, CACHE)
    if test is None or not len(test):
        raise RealMNetError(f"{origin}: there are no test images")
    return Images(test.images, f"test split of {origin}", test.labels, test.patients)


def verify(
    bundle: Bundle, images: Images, threads: int | None = None, tell: Callable[[str], None] = lambda line: None
) -> Verification:
    """Runs Keras, unless `images` says what it gives, and every artifact over the images.

    `tell` is handed a line as each begins.

    Every artifact has a result. One whose engine is not there (TensorRT on another machine) is named in `not_run`, one
    that its engine cannot open, or that does not give its golden output here, or no number for an image, in `failed`.

    Raises:
        RealMNetError: the bundle was stripped of its Keras model, or that gives no number for an image.
    """
    expected = images.expected
    decoding = None
    if expected is None:
        from export.contract.keras_source import keras_predictions, load_source

        tell(f"Keras float32 on {len(images.pixels)} images")
        model = load_source(bundle)
        expected = keras_predictions(model, images.pixels)
        if not finite(expected).all():
            raise BundleMismatch(f"{bundle.directory}: the Keras model's output is not finite")
        if images.whole:
            decoded_whole = keras_predictions(model, np.stack(list(images.whole.values())))
            decoding = np.abs(decoded_whole.probabilities - expected.probabilities[list(images.whole)])
    parity: dict[str, Parity] = {}
    differences: dict[str, NDArray[np.floating]] = {}
    not_run: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in bundle.artifacts:
        tell(f"{name} on {len(images.pixels)} images")
        try:
            runtime = open_runtime(bundle, name, threads)
        except RealMNetError as error:
            portable = bundle.artifacts[name].device is None
            (failed if portable and isinstance(error, BundleMismatch) else not_run)[name] = str(error)
            continue
        try:
            self_check(bundle, runtime, name)
        except BundleMismatch as error:
            failed[name] = str(error)
            continue
        received = runtime_predictions(runtime, images.pixels)
        reason = unlike(expected, received)
        if reason is not None:
            failed[name] = f"{bundle.artifacts[name].file}: {reason}"
            continue
        differences[name] = np.abs(received.probabilities - expected.probabilities)
        parity[name] = measure(
            expected, received, bundle.label_set, bundle.operating_point, images.truth, images.patients
        )
    return Verification(bundle, replace(images, expected=expected), parity, differences, not_run, decoding, failed)


def write_reference(verification: Verification, path: Path) -> None:
    """Writes the images and what Keras gave for them as one file (npz), for `images_of_reference` elsewhere."""
    images, bundle = verification.images, verification.bundle
    about = {
        "source sha256": bundle.source_sha256,
        "preprocessing hash": bundle.spec.hash,
        "origin": images.origin,
        "left out": images.left_out,
    }
    arrays: dict[str, Any] = {"about": json.dumps(about), "pixels": images.pixels, **vars(images.expected)}
    known = {"truth": images.truth, "patients": images.patients}
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
            size, classes = bundle.spec.size, len(bundle.label_set)
            probabilities = arrays.read("probabilities", "float32", (None, classes))
            n, map_shape = len(probabilities), bundle.artifact().output_shapes["class_maps"][1:]
            expected = Prediction(probabilities, arrays.read("class_maps", "float32", (n, *map_shape)))
            pixels = arrays.read("pixels", "uint8", (n, size, size, 3))
            truth = arrays.read("truth", "float32", (n, classes)) if "truth" in arrays else None
            patients = arrays.read("patients", "text", (n,)).tolist() if "patients" in arrays else None
        if finite(expected).sum() < n or not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError("Keras' output is not finite or no probability")
        if truth is not None and not (np.isnan(truth) | (truth == 0) | (truth == 1)).all():
            raise ValueError("truth: 0, 1 or NaN expected")
    except (ValueError, RecursionError) as error:
        raise RealMNetError(f"{path}: not a reference file of `export verify --save-reference`: {error}") from error
    return Images(pixels, about["origin"], truth, patients, about["left out"], expected)


def write_report(verification: Verification, folder: Path) -> None:
    """Writes `verification.json` and `verification.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle, images = verification.bundle, verification.images
    document = {
        "bundle": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "images": {"origin": images.origin, "verified": len(images.pixels), "left_out": images.left_out},
        "artifacts": {
            name: {
                "precision": bundle.artifacts[name].precision,
                "sha256": bundle.artifacts[name].sha256,
                "bytes": bundle.artifacts[name].bytes,
                "costs": None if (costs := bundle.artifacts[name].costs) is None else asdict(costs),
                **found.to_dict(),
                "limits": asdict(limits_of(bundle.artifacts[name].precision)),
                "broken": verification.violations(name),
            }
            for name, found in verification.parity.items()
        },
        "decoding at half size": None
        if verification.decoding is None
        else {
            "images": len(verification.decoding),
            "max_probability": verification.max_decoding,
            "limit": DECODING_LIMIT,
        },
        "failed": verification.failed,
        "not judged": verification.unjudged(),
    }
    (folder / "verification.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    _picture(verification).savefig(folder / "verification.png", dpi=150)


def _picture(verification: Verification):
    """Left, which share of |Δ probability| is larger than some value; right, changes of scores with intervals."""
    from matplotlib.figure import Figure

    rows = [
        (f"{name}: {title}", change)
        for name, found in verification.parity.items()
        for title, change in (("AUROC", found.macro_auroc), ("mAP", found.mean_ap))
        if change is not None and change.difference is not None and change.low is not None
    ]
    figure = Figure(figsize=(10 if rows else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if rows else 1, squeeze=False)[0]
    for name, difference in verification.differences.items():
        values = np.sort(difference.ravel())[::-1]
        axes[0].plot(np.maximum(values, 1e-9), np.arange(1, len(values) + 1) / len(values) * 100, label=name)
    axes[0].axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axes[0].set(xscale="log", yscale="log", xlabel="|Δ probability| to Keras", ylabel="% of images × labels above it")
    axes[0].legend(frameon=False)
    if rows:
        for y, (_, change) in enumerate(rows):
            axes[1].plot((change.low, change.high), (y, y), color="#0072B2")
            axes[1].plot(change.difference, y, "o", color="#0072B2")
        axes[1].axvline(0, color="grey", linewidth=0.8)
        axes[1].axvline(-0.005, color="#D55E00", linewidth=0.8, linestyle="--", label="limit for int8")
        axes[1].set_yticks(range(len(rows)), [title for title, _ in rows])
        axes[1].set(xlabel="artifact − Keras, 95 % interval", ylim=(len(rows) - 0.5, -0.5))
        axes[1].legend(frameon=False)
    figure.suptitle(
        f"{verification.bundle.name}: {len(verification.images.pixels)} images, {verification.images.origin}"
    )
    return figure
