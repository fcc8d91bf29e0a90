"""What is known about one screened image, in a form that outlives the program: one JSON object per image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.decision import OUTCOMES, Outcome
from keras_realmnet.screening.labels import LABEL_SETS
from keras_realmnet.screening.upgrade import Step, upgrade

__all__ = ["SCHEMA_VERSION", "ScreeningRecord"]

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class ScreeningRecord:
    """The result for one picture. What is not known is None (or absent from a mapping), never 0 or "".

    file, folder: name of the file and absolute path of the folder it was read from.
    frame, pictures: which picture of the file, from 1, of how many that can be screened (0: there is none).
    sha256: of the file's bytes; None where they could not be read.
    outcome, reasons, triggered: see `decision.decide`.
    probabilities: {code: probability} in label order; None where the image never reached the model.
    thresholds: {code: probability} of the pathologic labels, as they were when the image was decided; None likewise.
    label_names: {code: name} of all labels, for whoever reads the record without the bundle; None likewise.
    label_set: name of the vocabulary that the codes belong to.
    condition: what the bundle screens for, see `LabelSet.condition`.
    modality: the kind of picture the bundle screens, see `quality.MODALITIES`.
    evidence: code of the label whose class map the overlay shows; None without a class map.
    quality: measures by name, see `quality.assess`.
    bundle_digest: digest of bundle.json, which covers the thresholds and the hash of every file of the bundle.
    model_sha256: of the artifact that ran (or would have run).
    spec_hash: of the preprocessing spec.
    patient_name, birth_date, sex, patient_id_issuer, accession_number: as the file has them, see `ImageSource`.
    timings_ms: milliseconds of "decode", "quality", "preprocess", "inference", "overlay", "total", as far as it got.
    source: what the file says about itself (format, width, height, manufacturer, ...).
    overlay: file name in the folder `overlays`; None where there is no picture.
    error: name of the exception that stopped the analysis; None where none did.
    duplicate_of: name of the file with the same bytes whose result this is; None for a result of its own.
    """

    file: str
    folder: str
    sha256: str | None
    outcome: Outcome
    reasons: tuple[str, ...]
    bundle_name: str
    bundle_version: str
    bundle_digest: str
    artifact: str
    model_sha256: str
    spec_hash: str
    screened_at: str  # ISO 8601, UTC
    frame: int = 1
    pictures: int = 1
    triggered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    probabilities: dict[str, float] | None = None
    thresholds: dict[str, float] | None = None
    label_names: dict[str, str] | None = None
    label_set: str | None = None
    condition: str | None = None
    modality: str | None = None
    evidence: str | None = None
    patient_id: str | None = None
    eye: str | None = None  # "OD" | "OS"
    eye_source: str | None = None  # "dicom" | "file name" | "operator"
    study_date: str | None = None  # ISO 8601
    patient_name: str | None = None
    birth_date: str | None = None  # ISO 8601
    sex: str | None = None
    patient_id_issuer: str | None = None
    accession_number: str | None = None
    quality: dict[str, float] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    overlay: str | None = None
    error: str | None = None
    duplicate_of: str | None = None
    schema: int = SCHEMA_VERSION

    @property
    def title(self) -> str:
        """The file, and which of its pictures this is."""
        return self.file if self.pictures < 2 else f"{self.file}, picture {self.frame} of {self.pictures}"

    @property
    def analysed(self) -> bool:
        """Whether the model's answer became a decision (refer or negative)."""
        return self.outcome in ("refer", "negative")

    @property
    def missing(self) -> bool:
        """See `decision.GradedImage`."""
        return self.pictures > 1 and self.error is not None

    def warned(self, warnings: Sequence[str]) -> ScreeningRecord:
        """The record with more warnings, each once."""
        return replace(self, warnings=tuple(dict.fromkeys((*self.warnings, *warnings))))

    def to_dict(self) -> dict[str, Any]:
        """A mapping that `json.dumps(..., allow_nan=False)` takes: non-finite measures become None."""
        document: dict[str, Any] = _plain(asdict(self))
        return document

    def to_json(self) -> str:
        """One line of JSON, ASCII only, so that it survives any terminal encoding."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ScreeningRecord:
        """The record of a document that this release or an earlier one has written.

        Raises RealMNetError for one of a newer release, unknown or missing fields, or an unknown outcome.
        """
        document = upgrade(document, STEPS, "Screening record")
        unknown = set(document) - {f.name for f in fields(cls)}
        if unknown:
            raise RealMNetError(f"Screening record: unknown field {', '.join(sorted(map(repr, unknown)))}")
        if document.get("outcome") not in OUTCOMES:
            raise RealMNetError(
                f"Screening record: outcome must be one of {', '.join(OUTCOMES)}. Received: {document.get('outcome')!r}"
            )
        values = dict(document)
        for name in ("reasons", "triggered", "warnings"):
            values[name] = tuple(values.get(name, ()))
        try:
            return cls(**values)
        except TypeError as error:
            raise RealMNetError(f"Screening record: {error}") from error


def _with_label_set(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 → 2: the codes alone told of which vocabulary they are; all other new fields are unknown."""
    codes = tuple(document.get("label_names") or ())
    known = next((each for each in LABEL_SETS.values() if each.codes == codes), None)
    if known is None:
        return document
    return {**document, "label_set": known.name, "condition": known.condition}


STEPS: tuple[Step, ...] = (_with_label_set,)


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, NumPy scalars as Python's and NaN or infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value - value != 0.0:  # NaN and ±infinity
        return None
    return value
