"""PSMM, the public ultra-widefield myopia data set, on disk: its lists, its file names, and what may be wrong with it.

    FOLDER/ImageSets/Main/MYOPIA/MYOPIA.csv                    training list, 30,420 images
    FOLDER/ImageSets/Main/MYOPIA_MLRUS-20/MYOPIA_MLRUS-20.csv  the same after ML-RUS 20 %
    FOLDER/ImageSets/Main/val.csv, test.csv
    FOLDER/JPEGImages/*.jpg

(RealMNet, npj Digital Medicine 2025 8:435; images and lists: https://huggingface.co/datasets/yo3nglau/PSMM.) Own images
with own lists can be laid out the same way, or with train.csv, val.csv and test.csv right in the folder.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import (
    ImageSource,
    LoadedImage,
    UnreadableImage,
    parse_file_name,
    read_header,
    read_image,
)
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet
from training.data.label_table import LabelTable, read_label_table, spellings
from training.data.parallel import in_parallel
from training.data.stamp import frame_stem, stamp_of

__all__ = [
    "IMAGES",
    "LISTS",
    "ORIGINAL_TRAIN",
    "RESAMPLED_TRAIN",
    "STUDY_STAMP",
    "PsmmName",
    "check",
    "image_paths",
    "is_synthetic",
    "parse_name",
    "print_summary",
    "read_tables",
    "unlisted",
]

IMAGES = "JPEGImages"
LISTS = "ImageSets/Main"
ORIGINAL_TRAIN = "MYOPIA/MYOPIA.csv"
RESAMPLED_TRAIN = "MYOPIA_MLRUS-20/MYOPIA_MLRUS-20.csv"  # the same after ML-RUS 20 %
STUDY_STAMP = "study.json"  # in the folder of a phantom study
CHECKED = ".checked_images.json"  # images decoded whole: name → [bytes, time of change in ns, SHA-256 where needed]

# What follows the patient's id, and the eye where the name has no OD or OS. At the two hospitals of Lishui the pictures
# of a visit are counted through both eyes, R and L. OU, both eyes, does not tell which of them a picture shows.
_DATE = "(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_FORMS = (
    (rf"_(?P<eye>OD|OS|OU)_{_DATE}_(?P<number>[0-9]+)", None),  # ShenzhenEye-2415460_OD_2020-12-27_2.jpg
    (r"_(?P<number>[0-9]+)", None),  # SUSTech-34_11.jpg
    (r"_(?P<date>[0-9]{8})@[0-9]{6}_R(?P<number>[0-9]+)", "OD"),  # LishuiR-027429_20230823@090310_R5.jpg
    (r"_(?P<date>[0-9]{8})@[0-9]{6}_L(?P<number>[0-9]+)", "OS"),
    (r"_(?:[0-9]+_)*(?P<number>[0-9]+)_(?:PRE-)?(?P<eye>OD|OS)[0-9]+", None),  # Zhongshan-33_3_OD3.jpg
)
_PATTERNS = tuple((re.compile(f"(?P<patient_id>[^_]+){form}"), eye) for form, eye in _FORMS)


class PsmmName(NamedTuple):
    """What a file name tells. `source`: the hospital; `eye`: "OD" (right), "OS" (left) or None; `date`: ISO 8601."""

    patient: str
    source: str
    eye: str | None
    date: str | None
    number: int


def parse_name(file_name: str) -> PsmmName:
    """Patient, hospital, eye, date and picture number, as far as a file name of PSMM has them.

    `ShenzhenEye-2415460_OD_2020-12-27_2.jpg` gives ("ShenzhenEye-2415460", "ShenzhenEye", "OD", "2020-12-27", 2) and
    `SUSTech-34_11.jpg` gives ("SUSTech-34", "SUSTech", None, None, 11).

    Raises:
        ValueError: the name has none of the forms of PSMM.
    """
    for pattern, eye in _PATTERNS:
        parsed = parse_file_name(file_name, pattern)
        if parsed is None or parsed.patient_id is None or parsed.number is None:
            continue
        if "date" in pattern.groupindex and parsed.date is None:
            break  # 2023-13-01
        source = parsed.patient_id.partition("-")[0]
        return PsmmName(parsed.patient_id, source, parsed.eye or eye, parsed.date, parsed.number)
    raise ValueError(f"expected a name such as ID_OD_2020-12-27_2.jpg or ID_2.jpg. Received: {file_name!r}")


# --- reading --------------------------------------------------------------------------------------------------------


def read_tables(folder: str | Path, train: str = ORIGINAL_TRAIN, label_set: LabelSet = PSMM) -> dict[str, LabelTable]:
    """The label lists "train", "validation" and "test"; no image is touched.

    Args:
        folder: laid out as at the top of this module; val.csv and test.csv (and train.csv in place of the default
            training list) may also lie right in the folder.
        train: the training list, below ImageSets/Main or in the folder, or a path of its own.
        label_set: what the label columns are; other data sets may be laid out like PSMM.

    Raises:
        DataSetError: a list is missing, with what was expected and found; or it has errors of its own
            (`read_label_table`).
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataSetError(f"{folder}: no such folder. {_HINT}")
    names = {"train": [train, *(["train.csv"] if train == ORIGINAL_TRAIN else [])]}
    names |= {"validation": ["val.csv"], "test": ["test.csv"]}
    paths = {split: _first_file(folder, candidates) for split, candidates in names.items()}
    missing = [names[split][0] for split, path in paths.items() if path is None]
    if missing:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.glob("**/*.csv"))[:10]
        found += sorted(path.name for path in folder.iterdir() if path.suffix != ".csv")[:10]
        raise DataSetError(
            f"{folder}: no {', '.join(missing)} (looked in {LISTS} and in the folder itself); "
            f"found: {', '.join(found) or 'nothing'}. {_HINT}"
        )
    tables = {split: read_label_table(path, label_set) for split, path in paths.items() if path is not None}
    for split, table in tables.items():
        if not len(table):
            raise DataSetError(f"{paths[split]}: lists no image")
    return tables


def is_synthetic(folder: str | Path) -> bool:
    """Whether the images are phantoms: `training.phantoms.phantom_study` leaves a stamp beside them."""
    return (Path(folder).expanduser() / STUDY_STAMP).is_file()


def _first_file(folder: Path, names: list[str]) -> Path | None:
    places = [place / name for name in names for place in (folder / LISTS, folder)]
    return next((path for path in places if path.is_file()), None)


def image_paths(folder: str | Path, table: LabelTable) -> list[Path]:
    """The image file of each row, whether it exists or not.

    In a folder that `prepare` wrote, a name of the raw frame (sub/a.JPG) leads to the image made from it (a.jpg).

    Raises:
        DataSetError: there is no folder of images; if its zip archive is there, the error says how to unpack it.
    """
    images = Path(folder).expanduser() / IMAGES
    if not images.is_dir():
        raise DataSetError(_no_images(images))
    stamp = stamp_of(folder)
    if stamp is not None:
        return [images / f"{frame_stem(name)}.{stamp['format']}" for name in table.names.tolist()]
    return [images / name for name in table.names.tolist()]


def _no_images(images: Path) -> str:
    folder = images.parent
    parts = sorted(path.name for path in folder.glob(f"{IMAGES}.z*"))
    if not parts:
        return f"{images}: no such folder. {_HINT}"
    if f"{IMAGES}.zip.001" in parts:
        command = f"cat {IMAGES}.zip.* > joined.zip && unzip joined.zip"
    elif len(parts) > 1:
        command = f"zip -s 0 {IMAGES}.zip --out joined.zip && unzip joined.zip"
    else:
        command = f"unzip {parts[0]}"
    return (
        f"{images}: no such folder, but its archive is there ({', '.join(parts)}). Unpack it: python -m training "
        f"download psmm --unpack-only --out {folder}; or: cd {folder} && {command}"
    )


_HINT = (
    f"Expected the layout of PSMM: {LISTS}/{ORIGINAL_TRAIN}, {LISTS}/val.csv, {LISTS}/test.csv and {IMAGES}/*.jpg "
    "(python -m training download psmm --out FOLDER; https://huggingface.co/datasets/yo3nglau/PSMM, and "
    "https://github.com/yo3nglau/RealMNet in datasets/PSMM); own images need train.csv, val.csv and test.csv "
    "(python -m training split)"
)


# --- checking -------------------------------------------------------------------------------------------------------


def check(
    folder: str | Path,
    tables: Mapping[str, LabelTable],
    *,
    fast: bool = False,
    resampled: bool = False,
    workers: int | None = None,
) -> list[str]:
    """Everything that is wrong with a data set, one line each with file and line of the list; [] if nothing is.

    Images that are missing or cannot be decoded, patients in two sets or written in two ways, one image in two sets,
    file names that contradict the ID column, files listed twice, rows without exactly one label of each exclusive
    group.

    Args:
        tables: of `read_tables`.
        fast: look only at the images' headers, and do not compare images. Else each is decoded whole, in parallel,
            once: what passed is remembered in the folder by size and time of change.
        resampled: the training list was resampled, so files may repeat and labels need not be exclusive in it.

    Raises:
        DataSetError: there is no folder of images.
    """
    folder = Path(folder).expanduser()
    paths = {split: image_paths(folder, table) for split, table in tables.items()}
    prepared = stamp_of(folder) is not None
    problems: list[str] = []
    for split, table in tables.items():
        problems += _name_problems(table, may_have_folders=prepared)
        if not (resampled and split == "train"):
            problems += [*_repeat_problems(table, paths[split]), *_exclusivity_problems(table)]
    problems += [*_shared_patients(tables), *spellings(tables.values())]
    return problems + _image_problems(folder, tables, paths, fast, workers)


def unlisted(folder: str | Path, tables: Mapping[str, LabelTable]) -> int:
    """The number of files in the folder of images that no list names."""
    names = {path.name for table in tables.values() for path in image_paths(folder, table)}
    files = (path for path in (Path(folder).expanduser() / IMAGES).iterdir() if not path.name.startswith("."))
    return sum(path.name not in names for path in files)


def print_summary(tables: Mapping[str, LabelTable]) -> None:
    """Images, patients and label counts of each set, and of each hospital within it, as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    summary = Table()
    for column in ("set", "source"):
        summary.add_column(column, no_wrap=True)
    for column in ("images", "patients", *next(iter(tables.values())).label_set.codes):
        summary.add_column(column, justify="right", no_wrap=True)
    for split, table in tables.items():
        sources, counts = np.unique(table.sources, return_counts=True)
        rows = [(str(source), table.sources == source) for source in sources[np.argsort(-counts, kind="stable")]]
        for source, mask in [("all", np.ones(len(table), bool)), *(rows if len(rows) > 1 else [])]:
            part = table.take(mask)
            numbers = [len(part), len(np.unique(part.patients)), *part.labels.sum(axis=0, dtype=int).tolist()]
            first = source == "all"
            summary.add_row(split if first else "", source, *map(str, numbers), style="bold" if first else None)
        summary.add_section()
    Console(width=200).print(summary)  # as wide as its numbers, whatever the terminal


def _name_problems(table: LabelTable, may_have_folders: bool) -> Iterator[str]:
    columns = (table.names.tolist(), table.patients.tolist(), table.origins.tolist())
    for name, patient, origin in zip(*columns, strict=True):
        if Path(name).name != name and not may_have_folders:
            yield f"{origin}: filename must be a file's name without folders. Found: {name!r}"
        try:
            parsed = parse_name(Path(name).name).patient
        except ValueError:
            continue  # another hospital's own way of naming contradicts nothing
        if parsed != patient:
            yield f"{origin}: {name} is of patient {parsed}, the ID column says {patient}"


def _repeat_problems(table: LabelTable, paths: list[Path]) -> Iterator[str]:
    first: dict[Path, str] = {}
    for path, name, origin in zip(paths, table.names.tolist(), table.origins.tolist(), strict=True):
        if first.setdefault(path, origin) != origin:
            yield f"{origin}: {name} is listed again, after {first[path]}"


def _exclusivity_problems(table: LabelTable) -> Iterator[str]:
    for group in table.label_set.exclusive:
        columns = [table.label_set.codes.index(code) for code in group]
        counts = table.labels[:, columns].sum(axis=1)
        for row in np.flatnonzero(counts != 1).tolist():
            yield f"{table.origins[row]}: {counts[row]} of {', '.join(group)} are 1; expected exactly one"


def _shared_patients(tables: Mapping[str, LabelTable]) -> Iterator[str]:
    first: dict[str, tuple[str, str]] = {}
    for split, table in tables.items():
        reported: set[str] = set()
        for patient, origin in zip(table.patients.tolist(), table.origins.tolist(), strict=True):
            where = first.setdefault(patient, (split, origin))
            if where[0] != split and patient not in reported:
                reported.add(patient)
                yield f"{origin}: patient {patient} is in the {split} set and, at {where[1]}, in the {where[0]} set"


def _image_problems(
    folder: Path, tables: Mapping[str, LabelTable], paths: Mapping[str, list[Path]], fast: bool, workers: int | None
) -> list[str]:
    origins: dict[Path, str] = {}
    for split, table in tables.items():
        for path, origin in zip(paths[split], table.origins.tolist(), strict=True):
            origins.setdefault(path, origin)
    problems: dict[Path, str] = {}
    stamps: dict[Path, list[int]] = {}
    for path in origins:
        try:
            facts = path.stat()
            stamps[path] = [facts.st_size, facts.st_mtime_ns]
        except OSError:
            problems[path] = f"{path} is missing"
    known = _checked(folder)
    todo = [path for path, stamp in stamps.items() if known.get(path.name, [])[:2] != stamp]
    look: Callable[..., ImageSource | LoadedImage] = read_header if fast else read_image
    shared: list[str] = []
    try:
        done = len(stamps) - len(todo)
        results = in_parallel(partial(_reason, look), todo, "checking images", workers, done, chunk=16)
        for reason, path in zip(results, todo, strict=True):
            if reason is not None:
                problems[path] = str(path.parent / reason)
            elif not fast:
                known[path.name] = stamps[path]
        if not fast:
            shared = _shared_images(tables, paths, stamps, known, workers)
    finally:  # an interrupted check goes on where it stopped
        if not fast:
            _remember(folder, known)
    return [f"{origins[path]}: {problems[path]}" for path in origins if path in problems] + shared


def _shared_images(
    tables: Mapping[str, LabelTable],
    paths: Mapping[str, list[Path]],
    stamps: Mapping[Path, list[int]],
    known: dict[str, list[Any]],
    workers: int | None,
) -> list[str]:
    """The same bytes in two sets, by different patients' names; only files of equal size are read.

    `known` gets their SHA-256 as a third entry.
    """
    sizes: dict[int, set[str]] = {}
    for split in tables:
        for path in paths[split]:
            if path in stamps:
                sizes.setdefault(stamps[path][0], set()).add(split)
    candidates = [path for path, (size, _) in stamps.items() if len(sizes[size]) > 1]
    todo = [path for path in candidates if len(known.get(path.name, [])) < 3]
    digests = {path: known[path.name][2] for path in candidates if path not in set(todo)}
    done = len(candidates) - len(todo)
    for path, digest in zip(todo, in_parallel(_sha256, todo, "comparing images", workers, done, chunk=16), strict=True):
        digests[path] = digest
        if path.name in known:
            known[path.name] = [*known[path.name][:2], digest]
    problems = []
    first: dict[str, tuple[str, str, str]] = {}
    for split, table in tables.items():
        reported: set[Path] = set()
        rows = zip(paths[split], table.names.tolist(), table.patients.tolist(), table.origins.tolist(), strict=True)
        for path, name, patient, origin in rows:
            digest = digests.get(path)
            if digest is None:
                continue
            where = first.setdefault(digest, (split, patient, origin))
            if where[0] != split and where[1] != patient and path not in reported:  # else the patient is reported
                reported.add(path)
                problems.append(
                    f"{origin}: {name} in the {split} set is the same image as the one at {where[2]}, in the "
                    f"{where[0]} set"
                )
    return problems


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None  # the look at the image has said so


def _reason(look: Callable[[Path], ImageSource | LoadedImage], path: Path) -> str | None:
    """Why the image cannot be read; it begins with the file's name."""
    try:
        found = look(path)
    except UnreadableImage as error:
        return str(error)
    source = found if isinstance(found, ImageSource) else found.source
    if source.pictures != 1:  # labels are of one picture
        return f"{path.name}: one picture was expected, {source.pictures or 'none'} can be read"
    return None


def _checked(folder: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads((folder / CHECKED).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(folder: Path, known: dict[str, list[Any]]) -> None:
    temporary = folder / f"{CHECKED}.part"
    try:
        temporary.write_text(json.dumps(known))
        temporary.replace(folder / CHECKED)
    except OSError:
        temporary.unlink(missing_ok=True)  # a read-only data set is checked again next time
