"""Where labelled images come from: PSMM, phantoms drawn here, and the PALM challenge's photographs.

A data set is a small frozen description; `load` turns one of its splits into model-size images in a memory-mapped
cache (made once, in parallel, resumable) with labels and patients beside them. Every image passes through
`keras_realmnet.screening.preprocessing`, the code that the box runs.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.labels import LABEL_SETS, PALM, PSMM, LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from training.data.label_table import LabelTable, concatenate, problems_error, read_csv
from training.data.parallel import in_parallel
from training.data.psmm import ORIGINAL_TRAIN, check, image_paths, is_synthetic, read_tables
from training.data.stamp import read_stamp

if TYPE_CHECKING:
    from training.phantoms.cohorts import PhantomCase

__all__ = [
    "DATA_SETS",
    "MAIN_SOURCE",
    "PROTOCOLS",
    "SPLITS",
    "DataSet",
    "ImageSet",
    "PalmDataSet",
    "PhantomDataSet",
    "PsmmDataSet",
    "protocol_tables",
    "resize_square",
    "with_folder",
]

SPLITS = ("train", "validation", "test")
CHUNK = 32  # images a worker prepares at a time; the unit of resuming


@dataclass(frozen=True)
class ImageSet:
    """Images ready for the model, with their truth.

    `pixels`: uint8 (m, size, size, 3), usually memory-mapped; image k is `pixels[rows[k]]`, so that several sets share
    one cache and a resampled set may hold an image more than once. `labels`: float32 (n, classes), 1 present, 0 absent,
    NaN not known. `patients`: whose image it is, for patient-level intervals. `sha256`: of pixels, labels and names.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.float32]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    label_set: LabelSet
    sha256: str
    rows: NDArray[np.intp] = None  # type: ignore[assignment]  # image k is pixels[k] when not given

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.names)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """All of them, in memory: (n, size, size, 3)."""
        return self.pixels[self.rows]

    def image(self, k: int) -> NDArray[np.uint8]:
        """Image k, uint8 (size, size, 3)."""
        return self.pixels[self.rows[k]]

    def select(self, rows: NDArray[np.intp], labels: NDArray[Any] | None = None) -> "ImageSet":
        """The images at these indices, each as often as it is named, with other labels where given."""
        labels = self.labels[rows] if labels is None else labels.astype(np.float32)
        names, patients = (tuple(values[k] for k in rows) for values in (self.names, self.patients))
        digest = _content_hash(self.sha256, labels, names)
        return replace(self, rows=self.rows[rows], labels=labels, names=names, patients=patients, sha256=digest)

    def table(self) -> LabelTable:
        """The label list of these images; `origins` are their indices. Raises DataSetError where a label is unknown."""
        if np.isnan(self.labels).any():
            raise DataSetError(f"{self.names[0]} and others have unknown labels: they cannot be resampled")
        return LabelTable(
            labels=self.labels.astype(np.uint8),
            names=np.array(self.names, np.str_),
            patients=np.array(self.patients, np.str_),
            origins=np.arange(len(self)).astype(np.str_),
            label_set=self.label_set,
        )

    def like(self, table: LabelTable) -> "ImageSet":
        """The images of a table made from `table()` by taking, repeating or relabelling rows."""
        return self.select(table.origins.astype(np.intp), table.labels)


class DataSet(Protocol):
    """What a recipe needs of its data."""

    kind: ClassVar[str]
    modality: ClassVar[str]

    @property
    def label_set(self) -> LabelSet: ...

    def describe(self) -> str:
        """One sentence for the bundle: what the model learned from."""

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        """A split of `SPLITS`, prepared under `cache` unless it already is; None where there is no such split.

        Raises DataSetError.
        """


@dataclass(frozen=True)
class PsmmDataSet:
    """The public PSMM data set, or any folder of label lists and images laid out like it (see `training.data.psmm`).

    `protocol` says which images train and which test (RealMNet, section "Evaluation protocols"):

    - "cip", common image protocol: the published lists. All hospitals in each of train, validation and test.
    - "mrp", main-to-rest: every image of the main hospital trains, all images of the others test, each a set by itself.
    - "cgp", cross-group: every image of all hospitals but `external` trains, all images of `external` test.

    The last two use the validation images for training, as published: they have no validation split, and a network of
    theirs has no operating point. `train_list` is the list under ImageSets/Main that trains, `labels` names the
    vocabulary ("psmm", or "peripheral" for peripheral lesions).
    """

    kind: ClassVar[str] = "psmm"
    modality: ClassVar[str] = "uwf_red_green"

    folder: str | None = None
    protocol: str = "cip"
    external: str | None = None
    train_list: str = ORIGINAL_TRAIN
    labels: str = "psmm"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {self.protocol!r}")
        if (self.external is not None) != (self.protocol == "cgp"):
            raise ValueError(f"protocol cgp, and no other, names an external hospital. Received: {self}")
        if self.labels not in LABEL_SETS:
            raise ValueError(f"labels must be one of {', '.join(LABEL_SETS)}. Received: {self.labels!r}")

    @property
    def label_set(self) -> LabelSet:
        return LABEL_SETS[self.labels]

    def describe(self) -> str:
        which = {"cip": "the training list", "mrp": f"all images of {MAIN_SOURCE}"}
        chosen = which.get(self.protocol, f"all images but those of {self.external}")
        text = f"{chosen} of the label lists in {Path(self._folder()).name} ({self.protocol}, {self.train_list})"
        return f"{text}; synthetic images, no real one" if is_synthetic(self._folder()) else text

    def tables(self) -> dict[str, LabelTable]:
        """The label lists of the protocol, without images: "train", "test" and, under "cip", "validation".

        Raises DataSetError.
        """
        return protocol_tables(self._lists(), self.protocol, self.external)

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        _check_split(split)
        folder = self._folder()
        lists = self._lists()
        tables = protocol_tables(lists, self.protocol, self.external)
        if split not in tables:
            return None
        if split == "train":  # all that is wrong, at once, before hours are spent
            problems = check(folder, lists, resampled=self.train_list != ORIGINAL_TRAIN)
            if problems:
                raise problems_error(problems)
        # One cache for all protocols and lists: every image that any list names.
        everything = concatenate(lists.values())
        names, first = np.unique(everything.names, return_index=True)
        paths = image_paths(folder, everything.take(first))
        stamp = read_stamp(folder)
        if stamp is not None and stamp != spec and not _shrinks(stamp, spec):
            raise DataSetError(
                f"{folder} was prepared with {stamp.to_dict()}; this run needs {spec.to_dict()}: prepare the raw images"
                " again with that size"
            )
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataSetError(
                f"{missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "") + ": no such file;"
                f" python -m training check {folder} lists all that is wrong"
            )
        pixels, digest = _cached_pixels(
            self.kind,
            partial(_read_file, spec=spec) if stamp is None else partial(_read_prepared, size=spec.size),
            paths,
            identity={
                "files": _identity(paths),
                "stamp": stamp.to_dict() if stamp else None,
            },
            spec=spec,
            cache=cache,
        )
        table = tables[split]
        labels, listed = table.labels.astype(np.float32), tuple(table.names.tolist())
        return ImageSet(
            pixels=pixels,
            labels=labels,
            names=listed,
            patients=tuple(table.patients.tolist()),
            label_set=self.label_set,
            sha256=_content_hash(digest, labels, listed),
            rows=np.searchsorted(names, table.names),
        )

    def _lists(self) -> dict[str, LabelTable]:
        return read_tables(self._folder(), train=self.train_list, label_set=self.label_set)

    def _folder(self) -> Path:
        if self.folder is None:
            raise DataSetError(
                "the PSMM folder is not given: pass it with --data PATH (python -m training download psmm)"
            )
        return Path(self.folder).expanduser().resolve()


PROTOCOLS = ("cip", "mrp", "cgp")
MAIN_SOURCE = "ShenzhenEye"


def protocol_tables(lists: dict[str, LabelTable], protocol: str, external: str | None = None) -> dict[str, LabelTable]:
    """The label lists that train and test under a protocol of `PsmmDataSet`, from the published three.

    Raises:
        DataSetError: a hospital that no image is from.
    """
    if protocol == "cip":
        return lists
    everything = concatenate(lists.values())
    wanted = MAIN_SOURCE if protocol == "mrp" else external
    chosen = everything.sources == wanted
    if not chosen.any():
        raise DataSetError(f"no image is from {wanted}. Hospitals found: {', '.join(np.unique(everything.sources))}")
    train = chosen if protocol == "mrp" else ~chosen
    return {"train": everything.take(train), "test": everything.take(~train)}


_PHANTOM = {
    "train_patients": count(1),
    "validation_patients": count(0),
    "test_patients": count(0),
    "width": count(32),
    "seed": count(0),
}


@dataclass(frozen=True)
class PhantomDataSet:
    """Synthetic red/green ultra-widefield images; train, validation and test have their own patients and seeds.

    Half of the patients of each split follow PSMM's imbalance, half carry every grade equally often, so that the rare
    grades are learned and measured on more than a handful of images. A patient has five images on average.
    """

    kind: ClassVar[str] = "phantom"
    label_set: ClassVar[LabelSet] = PSMM
    modality: ClassVar[str] = "uwf_red_green"

    train_patients: int = 1200
    validation_patients: int = 80
    test_patients: int = 140
    width: int = 320  # px, of the drawn image, before preprocessing
    seed: int = 2025

    def __post_init__(self) -> None:
        check_arguments("phantom data", _PHANTOM, vars(self))

    def describe(self) -> str:
        return (
            f"{self.train_patients} synthetic patients (about {5 * self.train_patients} drawn red/green ultra-widefield"
            f" images, {self.width} px wide, seed {self.seed}); no real image"
        )

    def cases(self, split: str) -> tuple[list["PhantomCase"], list[str]]:
        """The images of a split, not yet drawn, and the patient of each; raises ValueError for another split."""
        from training.phantoms.cohorts import cohort

        _check_split(split)
        patients = getattr(self, f"{split}_patients")
        cases, owners = [], []
        for k, imbalance in enumerate(("psmm", "balanced")):
            share = (patients + 1) // 2 if k == 0 else patients // 2
            if share:
                members = cohort(share, seed=self.seed + 10 * SPLITS.index(split) + k, imbalance=imbalance)
                cases += members
                owners += [f"{split}-{imbalance}-{case.patient_id}" for case in members]
        return cases, owners

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        cases, owners = self.cases(split)
        return _prepared(
            f"phantom-{split}",
            partial(_render_phantom, width=self.width, spec=spec),
            cases,
            identity={**asdict(self), "split": split, "code": _drawing_code_hash()},
            labels=np.array([case.labels for case in cases], np.float32),
            names=tuple(
                f"{owner}_{case.eye}_{case.date}_{case.index}" for owner, case in zip(owners, cases, strict=True)
            ),
            patients=tuple(owners),
            label_set=self.label_set,
            spec=spec,
            cache=cache,
        )


@dataclass(frozen=True)
class PalmDataSet:
    """PALM / iChallenge-PM colour fundus photographs (Fang et al., Scientific Data 2024; CC BY 4.0).

    Two layouts: `train/` (class = first letter of the file name: N, H, P), `val/` and `labels.csv` (imgName, Label)
    in the folder or in `val/`; or the challenge's own `PALM/Training/Images` and `PALM/Validation/Images`.
    The validation list says only whether myopia is pathologic: there N and H are not known (NaN) where Label is 0.
    It is the only held-out split: "validation" and "test" are the same images.
    """

    kind: ClassVar[str] = "palm"
    label_set: ClassVar[LabelSet] = PALM
    modality: ClassVar[str] = "colour_fundus"

    folder: str | None = None

    def describe(self) -> str:
        return "the 400 training photographs of PALM / iChallenge-PM (Fang et al., Scientific Data 2024; CC BY 4.0)"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        _check_split(split)
        files, labels = self._training() if split == "train" else self._held_out()
        return _prepared(
            "palm-train" if split == "train" else "palm-validation",
            partial(_read_file, spec=spec),
            files,
            identity={"files": _identity(files)},
            labels=labels,
            names=tuple(path.name for path in files),
            patients=tuple(path.stem for path in files),  # PALM names no patients
            label_set=self.label_set,
            spec=spec,
            cache=cache,
        )

    def _root(self) -> Path:
        if self.folder is None:
            raise DataSetError(f"the PALM folder is not given: pass it with --data PATH. {_PALM_HINT}")
        root = Path(self.folder).expanduser().resolve()
        if not root.is_dir():
            raise DataSetError(f"{root}: no such folder. {_PALM_HINT}")
        return root / "PALM" if (root / "PALM").is_dir() else root

    def _images(self, *folders: str) -> list[Path]:
        root = self._root()
        for folder in folders:
            found = sorted(p for p in (root / folder).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
            if found:
                return found
        raise DataSetError(f"{root}: no images in {' or '.join(folders)}. {_PALM_HINT}")

    def _training(self) -> tuple[list[Path], NDArray[np.float32]]:
        files = self._images("train", "Training/Images")
        for path in files:
            if path.name[0].upper() not in PALM.codes:
                raise DataSetError(f"{path}: a training image's name starts with N, H or P, its class")
        return files, np.array([[path.name[0].upper() == code for code in PALM.codes] for path in files], np.float32)

    def _held_out(self) -> tuple[list[Path], NDArray[np.float32]]:
        files, root = self._images("val", "Validation/Images"), self._root()
        if all(path.name[0].upper() in PALM.codes for path in files):  # named by class, like the training images
            return files, np.array([[p.name[0].upper() == code for code in PALM.codes] for p in files], np.float32)
        tables = [root / name for name in ("val/labels.csv", "labels.csv", "Validation/labels.csv")]
        table = next((path for path in tables if path.is_file()), None)
        if table is None:
            raise DataSetError(f"{tables[0]}: no such file; it lists the validation images (columns imgName, Label)")
        header, rows = read_csv(table, ("imgName", "Label"), "the labels of the validation images")
        truth = {}
        for line, row in rows:
            name, label = row[header.index("imgName")], row[header.index("Label")]
            if label not in ("0", "1"):
                raise DataSetError(f"{table}:{line}: Label must be 0 or 1. Found: {label!r}")
            truth[name] = label == "1"
        missing = [path.name for path in files if path.name not in truth]
        if missing:
            raise DataSetError(
                f"{table}: no label for {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
            )
        pathologic = [0.0, 0.0, 1.0]
        unknown = [np.nan, np.nan, 0.0]
        return files, np.array([pathologic if truth[path.name] else unknown for path in files], np.float32)


_PALM_HINT = (
    "PALM is public (Fang et al., Scientific Data 2024, https://doi.org/10.6084/m9.figshare.c.6224148); expected are "
    "train/ and val/ with labels.csv, or PALM/Training/Images and PALM/Validation/Images"
)

DATA_SETS: dict[str, Callable[..., Any]] = {
    data_set.kind: data_set for data_set in (PsmmDataSet, PhantomDataSet, PalmDataSet)
}


def with_folder(data: DataSet, folder: str) -> DataSet:
    """`data` in another place. Raises DataSetError for data that is made, not found."""
    if not isinstance(data, (PsmmDataSet, PalmDataSet)):
        raise DataSetError(f"{data.kind} data is made, not found: it takes no --data {folder}")
    return replace(data, folder=str(folder))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")


def _render_phantom(case: Any, width: int, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return preprocess(case.render(width).image, spec)[0]


def _read_file(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return preprocess(read_image(path, min_side=spec.min_side).pixels, spec)[0]


def _read_prepared(path: Path, size: int) -> NDArray[np.uint8]:
    return resize_square(read_image(path).pixels, size)


def _shrinks(stamp: PreprocessSpec, spec: PreprocessSpec) -> bool:
    """Whether images prepared by `stamp` only have to be made smaller for `spec`."""
    return replace(stamp, size=spec.size) == spec and stamp.size >= spec.size


def resize_square(image: NDArray[Any], size: int) -> NDArray[Any]:
    """uint8 (s, s, 3) → (size, size, 3); an image of that size is returned as it is."""
    if image.shape[0] == size:
        return image
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def _identity(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of each: an image that was replaced is prepared anew; reading all takes hours."""
    return [(path.name, (facts := path.stat()).st_size, facts.st_mtime_ns) for path in files]


def _drawing_code_hash() -> str:
    """A changed generator draws other images: its cache must not be taken for the old one's."""
    files = sorted((Path(__file__).parents[1] / "phantoms").rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _prepared(
    title: str,
    prepare: Callable[[Any], NDArray[np.uint8]],
    sources: Sequence[Any],
    *,
    identity: dict[str, Any],
    labels: NDArray[np.float32],
    names: tuple[str, ...],
    patients: tuple[str, ...],
    label_set: LabelSet,
    spec: PreprocessSpec,
    cache: Path,
) -> ImageSet:
    """The images of `sources` through `prepare`, from the cache or into it, as a set of its own."""
    pixels, digest = _cached_pixels(title, prepare, sources, identity=identity, spec=spec, cache=cache)
    return ImageSet(pixels, labels, names, patients, label_set, _content_hash(digest, labels, names))


def _content_hash(pixels_hash: str, labels: NDArray[np.float32], names: Sequence[str]) -> str:
    digest = hashlib.sha256(pixels_hash.encode())
    digest.update(labels.tobytes())
    digest.update("\n".join(names).encode())
    return digest.hexdigest()


def _cached_pixels(
    title: str,
    prepare: Callable[[Any], NDArray[np.uint8]],
    sources: Sequence[Any],
    *,
    identity: dict[str, Any],
    spec: PreprocessSpec,
    cache: Path,
) -> tuple[NDArray[np.uint8], str]:
    """uint8 (n, size, size, 3), memory-mapped, and its hash.

    The cache folder is named by the hash of what the pixels follow from. `done.npy` marks the chunks whose pixels
    are written; `complete.json` appears last.
    """
    key = hashlib.sha256(json.dumps([identity, spec.to_dict()], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{title}-{spec.size}-{key}"
    shape = (len(sources), spec.size, spec.size, 3)
    if not (folder / "complete.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, len(sources), CHUNK)
        images = _open(folder / "images.npy", shape)
        done = _open(folder / "done.npy", (len(starts),))
        todo = [(start, sources[start : start + CHUNK]) for k, start in enumerate(starts) if not done[k]]
        work = in_parallel(partial(_prepare_chunk, prepare), todo, f"preparing {title}", done=len(starts) - len(todo))
        for start, pixels in work:
            images[start : start + len(pixels)] = pixels
            images.flush()
            done[start // CHUNK] = 1
            done.flush()
        pixels_hash = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        facts = {"sha256": pixels_hash, "preprocess": spec.to_dict(), "spec_hash": spec.hash, "from": identity}
        temporary = folder / "complete.json.tmp"
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
        temporary.replace(folder / "complete.json")
    facts = json.loads((folder / "complete.json").read_text())
    return np.load(folder / "images.npy", mmap_mode="r"), facts["sha256"]


def _open(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A uint8 array on disk, kept where it already has that shape, else new and zero."""
    if path.is_file():
        try:
            array = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, EOFError):
            pass  # cut off while it was created
        else:
            if array.shape == shape and array.dtype == np.uint8:
                return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _prepare_chunk(prepare: Callable[[Any], NDArray[np.uint8]], chunk: tuple[int, Sequence[Any]]):
    start, sources = chunk
    return start, np.stack([prepare(source) for source in sources])
