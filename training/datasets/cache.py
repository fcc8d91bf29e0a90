"""Model-size images on the disk: made once, in parallel, resumable, and memory-mapped from then on."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Masks, Points
from keras_realmnet.tasks.task import Task
from training.data.files.mask_files import MaskTruth, MaskVotes
from training.data.files.once import make_once
from training.data.parallel import in_parallel
from training.datasets.image_set import ImageSet, content_hash
from training.datasets.prepared import Prepared, longer_sides_of, points_in_square, read_row, sides_of

__all__ = ["CHUNK", "IMAGES", "cached_arrays", "cached_files", "cached_images", "file_identity", "mask_identity"]

IMAGES, PLACES = "images", "places"  # names of arrays, and of their files
COMPLETE = "complete.json"  # the file that says so
CHUNK = 32  # images a worker prepares at a time; the unit of resuming


def cached_images(
    title: str,
    prepare: Callable[[Any], Prepared],
    sources: Sequence[Any],
    *,
    identity: dict[str, Any],
    task: Task,
    truth: Mapping[str, NDArray[np.float32]],
    names: tuple[str, ...],
    patients: tuple[str, ...],
    spec: PreprocessSpec,
    cache: Path,
) -> ImageSet:
    """The images of `sources` through `prepare`, from the cache or into it, as a set of its own.

    Args:
        identity: what the pixels and the masks follow from, JSON-safe.
        truth: of each output of `task` with labels, grades or points (n, ...); points in pixels of their pictures.
            Masks are what `prepare` gives, and so is what has no truth here.
    """
    made = tuple(name for name, each in task.trained.items() if not isinstance(each, Masks) and name not in truth)
    kept, digest = cached_arrays(
        title, prepare, sources, task=task, identity=identity, spec=spec, cache=cache, made=made
    )
    truth = {
        name: points_in_square(values, kept[PLACES], spec.size) if isinstance(task.trained[name], Points) else values
        for name, values in truth.items()
    } | {name: np.array(kept[made_array(name)]) for name in made}
    masks = {name: kept[mask_array(name)] for name, output in task.trained.items() if isinstance(output, Masks)}
    digest = content_hash(digest, truth.values(), names)
    sides, longer = (of(kept[PLACES]) if PLACES in kept else None for of in (sides_of, longer_sides_of))
    return ImageSet(kept[IMAGES], truth, names, patients, task, digest, masks=masks, sides=sides, longer_sides=longer)


def cached_files(
    title: str,
    paths: Sequence[Path],
    truth: Mapping[str, NDArray[np.float32] | MaskTruth | MaskVotes],
    *,
    task: Task,
    names: tuple[str, ...],
    patients: tuple[str, ...],
    spec: PreprocessSpec,
    cache: Path,
) -> ImageSet:
    """The pictures of n files with their truth as `cached_images` gives them; masks are read from their own files."""
    masks = {name: each for name, each in truth.items() if isinstance(each, MaskTruth | MaskVotes)}
    identity: dict[str, Any] = {"files": file_identity(paths)}
    if masks:
        identity["masks"] = {name: mask_identity(each) for name, each in masks.items()}
    return cached_images(
        title,
        partial(read_row, spec=spec, masks=masks),
        list(zip(paths, range(len(paths)), strict=True)),
        identity=identity,
        task=task,
        truth={name: each for name, each in truth.items() if not isinstance(each, MaskTruth | MaskVotes)},
        names=names,
        patients=patients,
        spec=spec,
        cache=cache,
    )


def cached_arrays(
    title: str,
    prepare: Callable[[Any], Prepared],
    sources: Sequence[Any],
    *,
    task: Task,
    identity: dict[str, Any],
    spec: PreprocessSpec,
    cache: Path,
    made: Sequence[str] = (),
) -> tuple[dict[str, NDArray[Any]], str]:
    """What `task` needs of `sources`, memory-mapped, each of n rows, and the hash of all of it.

    "images": uint8 (n, size, size, 3); for each output with masks `mask_array(name)`: uint8 (n, size, size[, labels]);
    where there are points "places": int32 (n, 8), see `Prepared.place`; for each of `made` `made_array(name)`:
    float32 (n, labels), of points (n, points, 3).

    The cache folder is named by the hash of what they follow from. `done.npy` marks the chunks that are written;
    `complete.json` appears last. Of several processes that need the same at once, one prepares and the others wait.
    """
    forms = _forms(task, spec.size, made)
    if len(forms) > 1:  # what was cached before there were masks and points stays valid
        identity = {**identity, "arrays": {name: list(shape) for name, (shape, _) in forms.items()}}
    key = hashlib.sha256(json.dumps([identity, spec.to_dict()], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{title}-{spec.size}-{key}"
    told = {"preprocess": spec.to_dict(), "spec_hash": spec.hash, "from": identity}
    make_once(folder / COMPLETE, lambda: _prepare_all(folder, title, prepare, sources, forms, told))
    facts = json.loads((folder / COMPLETE).read_text())
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in forms}, facts["sha256"]


def _prepare_all(
    folder: Path,
    title: str,
    prepare: Callable[[Any], Prepared],
    sources: Sequence[Any],
    forms: Mapping[str, tuple[tuple[int, ...], DTypeLike]],
    told: Mapping[str, Any],
) -> None:
    """Fills the folder from where an earlier process ended; what `told` says goes into its last file."""
    starts = range(0, len(sources), CHUNK)
    arrays = {
        name: _open_array(folder / f"{name}.npy", (len(sources), *shape), dtype)
        for name, (shape, dtype) in forms.items()
    }
    done = _open_array(folder / "done.npy", (len(starts),), np.uint8)
    todo = [(start, sources[start : start + CHUNK]) for k, start in enumerate(starts) if not done[k]]
    work = in_parallel(
        partial(_prepare_chunk, prepare, tuple(forms)), todo, f"preparing {title}", done=len(starts) - len(todo)
    )
    for start, prepared in work:
        for name, values in prepared.items():
            arrays[name][start : start + len(values)] = values
            arrays[name].flush()
        done[start // CHUNK] = 1
        done.flush()
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    temporary = folder / f"{COMPLETE}.tmp"
    temporary.write_text(json.dumps({"sha256": digest.hexdigest(), **told}, indent=1) + "\n")
    temporary.replace(folder / COMPLETE)


def _forms(task: Task, size: int, made: Sequence[str]) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
    """{array: its shape for one image, its type}, the images first."""
    forms: dict[str, tuple[tuple[int, ...], DTypeLike]] = {IMAGES: ((size, size, 3), np.uint8)}
    for name, output in task.trained.items():
        if isinstance(output, Masks):
            forms[mask_array(name)] = (size, size) if output.exclusive else (size, size, len(output.labels)), np.uint8
    points = {name: output for name, output in task.trained.items() if isinstance(output, Points)}
    if set(points) - set(made):
        forms[PLACES] = (8,), np.int32
    for name in made:
        labels = len(task.trained[name].labels)
        forms[made_array(name)] = (labels, 3) if name in points else (labels,), np.float32
    return forms


def mask_array(output: str) -> str:
    """What the array of an output's masks is called in the cache."""
    return f"masks_{output}"


def made_array(output: str) -> str:
    """What the array of an output's labels, grades or points is called in the cache, where they are kept there."""
    return f"made_{output}"


def _open_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap:
    """An array on disk, kept where it already has that form, else new and zero."""
    if path.is_file():
        try:
            array = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, EOFError):
            pass  # cut off while it was created
        else:
            if array.shape == shape and array.dtype == dtype:
                return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _prepare_chunk(prepare: Callable[[Any], Prepared], names: Sequence[str], chunk: tuple[int, Sequence[Any]]):
    start, sources = chunk
    prepared = [prepare(source) for source in sources]
    return start, {name: np.stack([_array(one, name) for one in prepared]) for name in names}


def _array(prepared: Prepared, name: str) -> NDArray[Any]:
    """What one picture adds to the array of that name."""
    if name == IMAGES:
        return prepared.pixels
    if name == PLACES:
        return prepared.place
    if name.startswith(made_array("")):
        return prepared.made[name.removeprefix(made_array(""))]
    return prepared.masks[name.removeprefix(mask_array(""))]


def file_identity(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of each: an image that was replaced is prepared anew; reading all takes hours."""
    return [(path.name, (facts := path.stat()).st_size, facts.st_mtime_ns) for path in files]


def mask_identity(truth: MaskTruth | MaskVotes) -> dict[str, Any]:
    """What masks follow from: their files, as `file_identity`, what it means that there is none, and the coding."""
    if isinstance(truth, MaskVotes):
        return {"annotators": [mask_identity(each) for each in truth.annotators]}
    files = [
        [
            bool(known) if path is None else file_identity([path])[0]
            for path, known in zip(each.paths, each.known, strict=True)
        ]
        for each in truth.files
    ]
    return {"files": files, "coding": repr(truth.coding), "exclusive": truth.exclusive}
