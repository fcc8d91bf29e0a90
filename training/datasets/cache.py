"""Model-size images on the disk: made once, in parallel, resumable, and memory-mapped from then on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.parallel import in_parallel
from training.datasets.image_set import ImageSet, content_hash

__all__ = ["CHUNK", "cached_images", "cached_pixels", "file_identity", "read_and_preprocess"]

CHUNK = 32  # images a worker prepares at a time; the unit of resuming


def cached_images(
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
    pixels, digest = cached_pixels(title, prepare, sources, identity=identity, spec=spec, cache=cache)
    return ImageSet(pixels, labels, names, patients, label_set, content_hash(digest, labels, names))


def cached_pixels(
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
        images = _open_array(folder / "images.npy", shape)
        done = _open_array(folder / "done.npy", (len(starts),))
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


def _open_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
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


def read_and_preprocess(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """The image of a file as the model sees it, uint8 (size, size, 3)."""
    return preprocess(read_image(path, min_side=spec.min_side).pixels, spec)[0]


def file_identity(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of each: an image that was replaced is prepared anew; reading all takes hours."""
    return [(path.name, (facts := path.stat()).st_size, facts.st_mtime_ns) for path in files]
