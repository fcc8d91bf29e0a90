"""From raw frames of any size and format to model-size images: once, on all cores, with proof of how.

Each frame passes through `screening.image_io` and `screening.preprocessing`, the code that the box runs. The folder
gets

    JPEGImages/       one image per frame, named by the frame's stem
    prepared.csv      what each image was made from, and the crop; written as the work goes on
    preprocess.json   the preprocessing spec, its hash, counts and failures
    contact_sheet.jpg a sample to look at
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.image_io import EXTENSIONS, UnreadableImage, read_header, read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet
from training.data.contact_sheet import contact_sheet
from training.data.label_table import LabelTable, problems_error, read_label_table, write_label_table
from training.data.parallel import in_parallel
from training.data.psmm import IMAGES, LISTS
from training.data.stamp import STAMP, frame_stem, read_stamp, stamp_of

__all__ = ["FORMATS", "JOURNAL", "SHEET", "STAMP", "Prepared", "Summary", "prepare", "read_stamp"]

JOURNAL, SHEET = "prepared.csv", "contact_sheet.jpg"
FORMATS: dict[str, list[int]] = {  # ending → how OpenCV encodes it
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "png": [],
}
SAMPLE, COLUMNS = 48, 8  # images on the contact sheet, and in one of its rows


@dataclass(frozen=True)
class Prepared:
    """A row of prepared.csv: how the image `name` was made.

    `source`: the frame, below the folder it was found in; its bytes, time of change in ns, SHA-256, and size in pixels
    as displayed. `x0`, `y0`, `x1`, `y1`: the crop in frame pixels, x1 and y1 excluded.
    """

    name: str
    source: str
    bytes: int
    changed_ns: int
    sha256: str
    width: int
    height: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Summary:
    """`images` there are now, `new` ones made by this call, `failures` as (frame, reason), `missing` names of the lists
    for which no frame was found, `left_out` frames that no list names, `no_images` files that are none."""

    images: int
    new: int
    failures: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    left_out: int
    no_images: int


@dataclass(frozen=True)
class _Frame:
    path: Path
    source: str  # below the folder that was given
    bytes: int
    changed_ns: int


def prepare(
    images: Iterable[str | Path],
    out: str | Path,
    spec: PreprocessSpec,
    *,
    image_format: str = "jpg",
    labels: Sequence[str | Path] = (),
    label_set: LabelSet = PSMM,
    workers: int | None = None,
) -> Summary:
    """Prepares every frame below the folders `images` (a file stands for itself) into OUT/JPEGImages.

    An image that exists is made again only if its frame has changed; each appears under its name when it is complete,
    so that an interrupted call goes on where it stopped. Unreadable frames are reported, not fatal.

    Args:
        images: hidden files and folders are passed over; files count as images by their ending or their content.
        image_format: "jpg" (quality 95, 4:4:4) or "png" (lossless).
        labels: label lists; only images that they name (by stem) are made, and they are written to OUT/ImageSets/Main
            with the names of the images made. `label_set`: their columns.
        workers: processes; default: one per core.

    Raises:
        DataSetError: no frame, several frames for one image, lists of one name, an unusable list, or a folder that
            holds images prepared otherwise or not at all.
        RealMNetError: an image cannot be written (full disk).
    """
    if image_format not in FORMATS:
        raise ValueError(f"`image_format` must be one of {', '.join(FORMATS)}. Received: {image_format!r}")
    out = Path(out).expanduser()
    stamp = _check_folder(out, spec, image_format)
    lists = _read_lists(labels, label_set)
    frames, no_images = _find(images, out)
    if not frames:
        raise DataSetError(f"{', '.join(map(str, images))}: no image; expected JPEG, PNG, TIFF, BMP or DICOM files")
    by_stem = _by_stem(frames)
    wanted = {frame_stem(name): None for table in lists.values() for name in table.names.tolist()}
    missing = tuple(stem for stem in wanted if stem not in by_stem)
    chosen = {stem: found for stem, found in by_stem.items() if stem in wanted or not lists}
    journal = _read_journal(out / JOURNAL)
    _check_collisions(chosen, journal, image_format)

    folder = out / IMAGES
    jobs = [(frame, f"{stem}.{image_format}") for stem, [frame] in chosen.items()]
    todo = [job for job in jobs if not _is_done(*job, journal, folder)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_stamp(out, stamp)  # from here on the folder belongs to this spec
        _write_journal(out / JOURNAL, journal.values())  # again, without a line cut off by a crash
        convert = partial(_prepare, folder=folder, spec=spec, options=FORMATS[image_format])
        failures = _prepare_all(convert, todo, journal, out / JOURNAL, workers, done=len(jobs) - len(todo))
        _write_lists(out, lists, image_format)
        made = sorted(name for name in journal if (folder / name).is_file())
        _finish(out, stamp, made, failures, missing)
    except OSError as error:
        raise RealMNetError(f"{error.filename or out}: cannot be written ({error.strerror})") from error
    return Summary(
        images=len(made),
        new=len(todo) - len(failures),
        failures=tuple(failures),
        missing=missing,
        left_out=len(by_stem) - len(chosen),
        no_images=no_images,
    )


def _is_done(frame: _Frame, name: str, journal: dict[str, Prepared], folder: Path) -> bool:
    row = journal.get(name)
    if row is None or not (folder / name).is_file():
        return False
    return (row.bytes, row.changed_ns) == (frame.bytes, frame.changed_ns)


# --- finding frames -------------------------------------------------------------------------------------------------


def _find(images: Iterable[str | Path], out: Path) -> tuple[list[_Frame], int]:
    """The frames, and the number of files that are no images."""
    frames: dict[Path, _Frame] = {}
    others = 0
    for root in map(Path, images):
        if not root.exists():
            raise DataSetError(f"{root}: no such file or folder; expected raw images")
        base = root if root.is_dir() else root.parent
        for path in _walk(root, out.resolve()) if root.is_dir() else [root]:
            if root.is_dir() and not _is_image(path):
                others += 1
                continue
            facts = path.stat()
            frame = _Frame(path, path.relative_to(base).as_posix(), facts.st_size, facts.st_mtime_ns)
            frames.setdefault(path.absolute(), frame)
    return list(frames.values()), others


def _walk(root: Path, out: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(here, f).resolve() != out)
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        read_header(path)
    except UnreadableImage:
        return False
    return True


def _by_stem(frames: Iterable[_Frame]) -> dict[str, list[_Frame]]:
    found: dict[str, list[_Frame]] = {}
    for frame in frames:
        found.setdefault(frame_stem(frame.path.name), []).append(frame)
    return found


def _check_collisions(chosen: dict[str, list[_Frame]], journal: dict[str, Prepared], image_format: str) -> None:
    problems = []
    for stem, frames in chosen.items():
        name = f"{stem}.{image_format}"
        if len(frames) > 1:
            problems.append(f"{' and '.join(str(frame.path) for frame in frames)} would both become {name}")
        elif name in journal and journal[name].source != frames[0].source:
            problems.append(f"{name} was made from {journal[name].source}; now {frames[0].path} would become it")
    if problems:
        raise problems_error(problems)


def _read_lists(labels: Sequence[str | Path], label_set: LabelSet) -> dict[Path, LabelTable]:
    """The lists by their place below ImageSets/Main."""
    lists: dict[Path, LabelTable] = {}
    for path in map(Path, labels):
        parts = path.absolute().as_posix().rpartition(f"/{LISTS}/")
        place = Path(parts[2] if parts[1] else path.name)
        if place in lists:
            raise DataSetError(f"{path}: a second list named {place}; they would overwrite each other")
        lists[place] = read_label_table(path, label_set)
    return lists


def _write_lists(out: Path, lists: dict[Path, LabelTable], image_format: str) -> None:
    """The lists below OUT/ImageSets/Main, with the names of the images made."""
    for path, table in lists.items():
        names = np.array([f"{frame_stem(name)}.{image_format}" for name in table.names.tolist()], np.str_)
        write_label_table(out / LISTS / path, replace(table, names=names))


# --- making images --------------------------------------------------------------------------------------------------


def _prepare(
    job: tuple[_Frame, str], folder: Path, spec: PreprocessSpec, options: Sequence[int]
) -> Prepared | tuple[str, str]:
    """Writes one image; (frame, reason) if the frame cannot be read."""
    frame, name = job
    try:
        loaded = read_image(frame.path)
    except UnreadableImage as error:
        return str(frame.path), str(error)
    if loaded.source.pictures != 1:  # labels are of one picture
        return str(frame.path), f"{frame.path.name}: one picture was expected, {loaded.source.pictures} are in the file"
    image, geometry = preprocess(loaded.pixels, spec)
    _write_image(folder / name, image, options)
    source = loaded.source
    facts = (name, frame.source, frame.bytes, frame.changed_ns, source.sha256, *source.size)
    return Prepared(*facts, *geometry.box)


def _prepare_all(
    convert: Callable[[tuple[_Frame, str]], Prepared | tuple[str, str]],
    todo: Sequence[tuple[_Frame, str]],
    journal: dict[str, Prepared],
    path: Path,
    workers: int | None,
    done: int,
) -> list[tuple[str, str]]:
    """Adds each image that `convert` makes to the journal and at once to its file at `path`; returns the failures."""
    failures: list[tuple[str, str]] = []
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for result in in_parallel(convert, todo, "preparing images", workers, done):
            if isinstance(result, Prepared):
                journal[result.name] = result
                writer.writerow(astuple(result))
                file.flush()
            else:
                failures.append(result)
    return failures


def _write_image(path: Path, image: np.ndarray, options: Sequence[int]) -> None:
    ok, data = cv2.imencode(path.suffix, image[..., ::-1], options)
    if not ok:
        raise RealMNetError(f"{path}: the image could not be encoded")
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data.tobytes())
    temporary.replace(path)


# --- the folder's own records ---------------------------------------------------------------------------------------


def _check_folder(out: Path, spec: PreprocessSpec, image_format: str) -> dict[str, Any]:
    """The stamp the folder gets, after a look at what it holds."""
    old = stamp_of(out)
    new = {"spec": spec.to_dict(), "spec_hash": spec.hash, "format": image_format, "complete": False}
    if old is not None:
        for key in ("spec", "format"):
            if old[key] != new[key]:
                raise DataSetError(f"{out}: was prepared with {key} {old[key]}, not {new[key]}. Choose another --out")
    elif (out / IMAGES).is_dir() and any((out / IMAGES).iterdir()):
        raise DataSetError(f"{out / IMAGES}: holds images that were not prepared here. Choose another --out")
    return new


def _write_stamp(out: Path, stamp: dict[str, Any]) -> None:
    temporary = out / f".{STAMP}.part"
    temporary.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out / STAMP)


def _read_journal(path: Path) -> dict[str, Prepared]:
    """What was prepared, by name; a line that a crash cut off counts as not done."""
    if not path.is_file():
        return {}
    names = [field.name for field in fields(Prepared)]
    journal: dict[str, Prepared] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if len(row) == len(names) and row != names and all(row):
                name, source, size, changed, sha256, *numbers = row
                journal[name] = Prepared(name, source, int(size), int(changed), sha256, *map(int, numbers))
    return journal


def _write_journal(path: Path, rows: Iterable[Prepared]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Prepared))
        writer.writerows(map(astuple, rows))
    temporary.replace(path)


def _finish(
    out: Path, stamp: dict[str, Any], made: Sequence[str], failures: Sequence[tuple[str, str]], missing: Sequence[str]
) -> None:
    """Counts and failures into the stamp, and a sheet of the images made."""
    facts = {
        "complete": not failures and not missing,
        "images": len(made),
        "failures": [{"frame": frame, "reason": reason} for frame, reason in failures],
        "missing": list(missing),
    }
    _write_stamp(out, {**stamp, **facts})
    if made:
        _write_sheet(out, made)


def _write_sheet(out: Path, names: Sequence[str]) -> None:
    chosen = [names[k] for k in np.linspace(0, len(names) - 1, min(SAMPLE, len(names))).round().astype(int)]
    images = [read_image(out / IMAGES / name).pixels for name in chosen]
    captions = [frame_stem(name).replace("_", "\n", 1) for name in chosen]  # the patient; eye, date, number
    _write_image(out / SHEET, contact_sheet(images, captions, COLUMNS), FORMATS["jpg"])
