"""Where labelled images come from: phantoms drawn here, and the PALM challenge's photographs.

A data set is a small frozen description; `load` turns one of its splits into model-size images in a memory-mapped
cache (made once, in parallel, resumable) with labels and patients beside them. Every image passes through
`keras_realmnet.screening.preprocessing`, the code that the box runs.
"""

import csv
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.labels import PALM, PSMM, LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess

__all__ = ["DATA_SETS", "SPLITS", "DataSet", "ImageSet", "PalmDataSet", "PhantomDataSet"]

SPLITS = ("train", "validation", "test")
CHUNK = 32  # images a worker prepares at a time; the unit of resuming


@dataclass(frozen=True)
class ImageSet:
    """Images ready for the model, with their truth.

    `images`: uint8 (n, size, size, 3), usually memory-mapped. `labels`: float32 (n, classes), 1 present, 0 absent,
    NaN not known. `patients`: whose image it is, for patient-level intervals. `sha256`: of images and labels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    label_set: LabelSet
    sha256: str

    def __len__(self) -> int:
        return len(self.names)


class DataSet(Protocol):
    """What a recipe needs of its data."""

    kind: ClassVar[str]
    label_set: ClassVar[LabelSet]
    modality: ClassVar[str]

    def describe(self) -> str:
        """One sentence for the bundle: what the model learned from."""

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        """A split of `SPLITS`, prepared under `cache` unless it already is. Raises DataSetError."""


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

    def describe(self) -> str:
        return (
            f"{self.train_patients} synthetic patients (about {5 * self.train_patients} drawn red/green ultra-widefield"
            f" images, {self.width} px wide, seed {self.seed}); no real image"
        )

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        from training.phantom import cohort

        _check_split(split)
        patients = getattr(self, f"{split}_patients")
        cases, owners = [], []
        for k, imbalance in enumerate(("psmm", "balanced")):
            share = (patients + 1) // 2 if k == 0 else patients // 2
            if share:
                members = cohort(share, seed=self.seed + 10 * SPLITS.index(split) + k, imbalance=imbalance)
                cases += members
                owners += [f"{split}-{imbalance}-{case.patient_id}" for case in members]
        return _prepared(
            f"phantom-{split}",
            partial(_render_phantom, width=self.width, spec=spec),
            cases,
            identity={**asdict(self), "split": split, "code": _code_hash("phantom.py")},
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
            identity={"files": [[path.name, path.stat().st_size] for path in files]},
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
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if not {"imgName", "Label"} <= set(reader.fieldnames or ()):
                raise DataSetError(f"{table}: expected the columns imgName and Label. Found: {reader.fieldnames}")
            truth = {}
            for row in reader:
                if row["Label"] not in ("0", "1"):
                    raise DataSetError(
                        f"{table}, line {reader.line_num}: Label must be 0 or 1. Found: {row['Label']!r}"
                    )
                truth[row["imgName"]] = row["Label"] == "1"
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

DATA_SETS: dict[str, Callable[..., Any]] = {data_set.kind: data_set for data_set in (PhantomDataSet, PalmDataSet)}


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")


def _render_phantom(case: Any, width: int, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return preprocess(case.render(width).image, spec)[0]


def _read_file(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    return preprocess(read_image(path).pixels, spec)[0]


def _code_hash(file: str) -> str:
    """A changed generator draws other images: its cache must not be taken for the old one's."""
    return hashlib.sha256((Path(__file__).parent / file).read_bytes()).hexdigest()[:16]


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
    """The images of `sources` through `prepare`, from the cache or into it.

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
        for start, pixels in _in_parallel(partial(_prepare_chunk, prepare), todo, title, len(starts)):
            images[start : start + len(pixels)] = pixels
            images.flush()
            done[start // CHUNK] = 1
            done.flush()
        pixels_hash = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        facts = {"sha256": pixels_hash, "preprocess": spec.to_dict(), "spec_hash": spec.hash, "from": identity}
        temporary = folder / "complete.json.tmp"
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
        temporary.replace(folder / "complete.json")
    digest = hashlib.sha256(json.loads((folder / "complete.json").read_text())["sha256"].encode())
    digest.update(labels.tobytes())
    digest.update("\n".join(names).encode())
    images = np.load(folder / "images.npy", mmap_mode="r")
    return ImageSet(images, labels, names, patients, label_set, digest.hexdigest())


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


def _in_parallel(function: Callable[[Any], Any], items: list[Any], title: str, total: int) -> Iterable[Any]:
    """Results as they come, from one process per core, with a progress bar counted in chunks."""
    from rich.console import Console
    from rich.progress import Progress

    workers = min(os.cpu_count() or 1, len(items))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"preparing {title}", total=total, completed=total - len(items))
        if workers <= 1:
            for item in items:
                yield function(item)
                progress.advance(task)
            return
        # Spawned, not forked: a process that already runs TensorFlow or OpenCV threads cannot be forked safely.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            for result in pool.map(function, items):
                yield result
                progress.advance(task)
