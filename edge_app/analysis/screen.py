"""The path of an image: file → image_io → quality → preprocessing → runtime → decision → ScreeningRecord.

Every stage is a function of `keras_realmnet.screening`, the same that training and export call; this file only
composes them. Whatever goes wrong with an image becomes a record with its reason; nothing stops the run.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import EngineFailed, RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.decision import Analysis, Decision, decide
from keras_realmnet.screening.engines.base import available_threads
from keras_realmnet.screening.image_io import (
    DEFAULT_FILE_NAME_PATTERN,
    ImageSource,
    LoadedImage,
    parse_file_name,
    read_header,
    read_image,
)
from keras_realmnet.screening.preprocessing import FieldGeometry, preprocess
from keras_realmnet.screening.quality import Measured, measured
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.screening.runtimes import Runtime, open_runtime, self_check

__all__ = ["FileOrigin", "OnAnalysed", "Screener", "printable", "retryable"]

FILE_FIELDS = (  # fields of the record that the file itself fills
    *("sha256", "frame", "pictures", "patient_id", "eye", "eye_source", "study_date"),
    *("patient_name", "birth_date", "sex", "patient_id_issuer", "accession_number"),
)
# Faults of the file itself: screening it again cannot help. After any other error it is tried again.
CONTENT_FAULTS = frozenset({"UnreadableImage", "DecompressionBomb"})

# Is called with what a record does not hold: pixels, uint8 RGB (h, w, 3), and the analysis, unless the image was not
# gradable.
OnAnalysed = Callable[[NDArray[np.uint8], Analysis | None], None]


@dataclass(frozen=True)
class FileOrigin:
    """What is known of a file beside its contents: its `name` and `folder` where it came from.

    `pattern`: of file names that tell patient, eye and date.
    """

    name: str
    folder: str
    pattern: str = DEFAULT_FILE_NAME_PATTERN

    @classmethod
    def of(cls, path: Path) -> "FileOrigin":
        return cls(printable(path.name), printable(str(path.absolute().parent)))


@dataclass(frozen=True)
class Screener:
    """A verified bundle with one opened artifact, ready to screen.

    `read`: what reads a picture, as `read_image`. `measure`: what measures it for the verdict on its quality, as
    `measured`. `regions`: whether overlays show the regions of the posterior pole. `beside`: a thread that makes the
    model's input while the picture is measured; None: one after the other.
    """

    bundle: Bundle
    runtime: Runtime
    artifact: str
    read: Callable[..., LoadedImage] = read_image
    measure: Callable[[NDArray[np.uint8], ImageSource], Measured] = measured
    regions: bool = False
    beside: ThreadPoolExecutor | None = None

    @classmethod
    def open(cls, directory: Path, artifact: str | None = None, threads: int | None = None) -> "Screener":
        """Loads and verifies a bundle, opens an artifact and checks its golden output on this machine.

        `threads`: cores, by default all that the process may use.

        Raises:
            BundleMismatch: the bundle is incomplete or changed, or computes something else here.
            RealMNetError: no such artifact, or a package is missing.
        """
        bundle = Bundle.load(directory)
        runtime = open_runtime(bundle, artifact, threads)
        self_check(bundle, runtime, artifact)
        beside = ThreadPoolExecutor(1, "crop") if (threads or available_threads()) > 1 else None
        return cls(bundle, runtime, bundle.artifact(artifact).name, beside=beside)

    def failure(
        self, path: Path, sha256: str | None, error: Exception, origin: FileOrigin | None = None, frame: int = 1
    ) -> ScreeningRecord:
        """The record of a picture whose analysis `error` stopped; of the file itself only the header is read."""
        origin = origin or FileOrigin.of(path)
        facts = {**self._identity(origin, frame), "sha256": sha256, **_header_facts(path, origin, frame)}
        return ScreeningRecord(**{**facts, **_failure(error)})

    def screen(
        self,
        path: Path,
        sha256: str | None,
        overlays: Path | None,
        origin: FileOrigin | None = None,
        on_analysed: OnAnalysed | None = None,
        frame: int = 1,
    ) -> ScreeningRecord:
        """Screens one picture, writes its overlay, returns its record. Raises nothing on account of the image.

        After a failure that need not be the file's, the engine must give the golden output again.

        Args:
            overlays: folder for the overlay picture; None: none is drawn.
            origin: where the file came from; by default, where it lies.
            on_analysed: called with pixels and analysis once they are there.
            frame: which of the file's pictures, from 1.

        Raises:
            EngineFailed: the engine fails for good, or computes something else by now.
        """
        origin = origin or FileOrigin.of(path)
        started = perf_counter()
        timings: dict[str, float] = {}
        facts: dict[str, Any] = {**self._identity(origin, frame), "sha256": sha256, "timings_ms": timings}
        try:
            self._analyse(path, origin, facts, _stopwatch(timings), overlays, on_analysed)
        except Exception as error:
            # Whatever was found before the failure stays, but no outcome and no probability does.
            facts.update(_header_facts(path, origin, frame) if "source" not in facts else {})
            nothing = dict.fromkeys(("findings", "score", "evidence", "overlay", "distance", "distance_limit"))
            facts.update(triggered=(), shortfalls=(), **nothing, **_failure(error))
        timings["total"] = round((perf_counter() - started) * 1000, 2)
        record = ScreeningRecord(**facts)
        if retryable(record):
            self.check()
        return record

    def picture(self, path: Path, origin: FileOrigin, frame: int = 1) -> LoadedImage:
        """A picture of a file, as large as this bundle needs it. Raises as `read_image` does."""
        options = {"frame": frame, "min_side": self.bundle.spec.min_side, "file_name_pattern": origin.pattern}
        return self.read(path, origin.name, **options)

    def check(self) -> None:
        """Raises EngineFailed unless the engine gives the golden output, as it did when it was opened."""
        try:
            self_check(self.bundle, self.runtime, self.artifact)
        except Exception as error:
            raise EngineFailed(f"the engine fails on this machine, start again: {_reason(error)}") from error

    def _analyse(
        self,
        path: Path,
        origin: FileOrigin,
        facts: dict[str, Any],
        timed: Callable[[str], Any],
        overlays: Path | None,
        on_analysed: OnAnalysed | None,
    ) -> None:
        bundle = self.bundle
        with timed("decode"):
            loaded = self.picture(path, origin, facts["frame"])
        facts.update(_source_facts(loaded.source))
        crop: Callable[[], tuple[NDArray[np.uint8], FieldGeometry]] = partial(preprocess, loaded.pixels, bundle.spec)
        if self.beside is not None:  # of a picture that turns out not to be gradable this is wasted
            crop = self.beside.submit(crop).result
        with timed("quality"):
            seen = self.measure(loaded.pixels, loaded.source)
            quality = seen.quality(bundle.task.modality, bundle.task.looked_for)
        facts["quality"] = dict(quality.measures)

        analysis = None
        if quality.verdict == "gradable":  # nothing else may reach the model
            with timed("preprocess"):
                square, geometry = crop()
                width, height = loaded.source.size
                geometry = geometry.on((height, width))  # findings lie on the picture, not on a copy decoded smaller
            with timed("inference"):
                predicted = self.runtime.predict(square[None])
            analysis = Analysis({name: values[0] for name, values in predicted.items()}, square, geometry)
        decision = decide(analysis, quality, bundle.task)
        facts.update(outcome=decision.outcome, reasons=decision.reasons, triggered=decision.triggered)
        facts["shortfalls"] = decision.shortfalls
        if decision.distance is not None and bundle.task.reference is not None:
            facts.update(distance=decision.distance, distance_limit=bundle.task.reference.threshold)
        if decision.outcome == "not_analysed":  # also by the distance of its features
            analysis = None
        if analysis is not None:
            facts.update(findings=decision.findings, score=decision.score, evidence=decision.evidence)
            if decision.distance is not None and bundle.task.reference is not None:
                note = bundle.task.reference.note(decision.distance)
                facts["warnings"] = (*facts["warnings"], *filter(None, (note,)))

        if on_analysed is not None:
            on_analysed(loaded.pixels, analysis)
        if overlays is None:
            return
        with timed("overlay"):
            picture = (str(facts["frame"]),) if facts["pictures"] > 1 else ()
            name = _overlay_name(origin.name, loaded.source.sha256, bundle.digest, self.artifact, *picture)
            facts["overlay"] = name
            try:
                overlay.draw(overlays / name, loaded.pixels, self._evidence(analysis, decision))
            except Exception as error:  # the result stands without its picture
                facts["overlay"] = None
                facts["warnings"] = (*facts["warnings"], f"the overlay could not be drawn ({_reason(error)})")

    def _identity(self, origin: FileOrigin, frame: int) -> dict[str, Any]:
        """What is known before the file is opened."""
        artifact = self.bundle.artifact(self.artifact)
        patient_id, eye, date, _ = parse_file_name(origin.name, origin.pattern) or (None, None, None, None)
        return {
            "file": origin.name,
            "folder": origin.folder,
            "frame": frame,
            "patient_id": patient_id,
            "eye": eye,
            "eye_source": None if eye is None else "file name",
            "study_date": date,
            "bundle_name": self.bundle.name,
            "bundle_version": self.bundle.version,
            "bundle_digest": self.bundle.digest,
            "artifact": self.artifact,
            "model_sha256": artifact.sha256,
            "spec_hash": self.bundle.spec.hash,
            "task": self.bundle.task.name,
            "condition": self.bundle.task.condition,
            "modality": self.bundle.task.modality,
            "screened_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def duplicate(self, path: Path, twin: ScreeningRecord) -> ScreeningRecord:
        """The record of a picture whose bytes were screened under another name; a contradiction of names is told."""
        origin = FileOrigin.of(path)
        facts = self._identity(origin, twin.frame) | _header_facts(path, origin, twin.frame)
        record = replace(twin, **facts, duplicate_of=twin.duplicate_of or twin.file, timings_ms={})
        if (record.patient_id, record.eye) != (twin.patient_id, twin.eye):
            note = f"same contents as {twin.file}, which names another patient or eye: find out which is right"
            record = replace(record, warnings=(*record.warnings, note))
        return record

    def _evidence(self, analysis: Analysis | None, decision: Decision) -> overlay.Evidence | None:
        """What the right panel of the picture shows; None where the image was not given to the model."""
        if analysis is None:
            return None
        return overlay.evidence_of(self.bundle.task, analysis, decision, self.regions)


def printable(text: str) -> str:
    """`text` with bytes of a file name that are no UTF-8 replaced, so that it can be stored and shown."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _header_facts(path: Path, origin: FileOrigin, frame: int) -> dict[str, Any]:
    """The record's fields that the header fills, as far as it can be read; nothing is decoded."""
    try:
        return _source_facts(read_header(path, origin.name, frame=frame, file_name_pattern=origin.pattern))
    except RealMNetError:
        return {}


def _source_facts(source: ImageSource) -> dict[str, Any]:
    """The record's fields that the file itself fills; the rest of what it says goes to `source`."""
    facts = {key: value for key, value in asdict(source).items() if value is not None and value != ()}
    own = {key: facts.pop(key, None) for key in FILE_FIELDS}
    own["warnings"] = facts.pop("warnings", ())
    return {**own, "source": facts}


def _stopwatch(timings: dict[str, float]) -> Callable[[str], Any]:
    """A context manager that writes the milliseconds of its block into `timings`, also when the block raises."""

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            timings[stage] = round((perf_counter() - started) * 1000, 2)

    return timed


def _failure(error: Exception) -> dict[str, Any]:
    """The record's fields that say why there is no result."""
    return {"outcome": "not_analysed", "reasons": (_reason(error),), "error": type(error).__name__}


def _reason(error: Exception) -> str:
    """One line for a person: our own errors speak for themselves, foreign ones are introduced."""
    text = " ".join(printable(str(error)).split())
    if isinstance(error, RealMNetError):
        return getattr(error, "problem", None) or text  # the record has the file's name already
    if isinstance(error, MemoryError):
        return "the memory of this machine did not suffice"
    if isinstance(error, OSError):
        return f"the file cannot be read on this machine: {error.strerror or text}"
    return f"the analysis failed: {type(error).__name__}{': ' + text if text else ''}"


def retryable(record: ScreeningRecord) -> bool:
    """Whether what stopped the analysis may not be the file's fault."""
    return record.error is not None and record.error not in CONTENT_FAULTS


def _overlay_name(name: str, *identity: str) -> str:
    """A file name that is safe on any system, readable, the same in every run and of no other image or model."""
    ascii_name = unicodedata.normalize("NFKD", Path(name).stem).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", ascii_name).strip("-")[:48] or "image"
    return f"{readable}-{hashlib.sha256(' '.join(identity).encode()).hexdigest()[:16]}.jpg"
