"""What is known about one screened image, in a form that outlives the program: one JSON object per image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from keras_realmnet.errors import ModelOutOfOrder, RealMNetError
from keras_realmnet.screening.quality import Shortfall, shortfall_from_dict
from keras_realmnet.screening.upgrade import Step, upgrade
from keras_realmnet.tasks.findings import Finding, LabelFinding, MaskFinding, PointFinding, finding_from_dict
from keras_realmnet.tasks.rules import OUTCOMES, Outcome
from keras_realmnet.tasks.task import PROBABILITIES
from keras_realmnet.tasks.vocabulary import LABEL_SETS

__all__ = ["SCHEMA_VERSION", "ScreeningRecord"]

SCHEMA_VERSION = 3


@dataclass(frozen=True)
class ScreeningRecord:
    """The result for one picture. What is not known is None (or absent from a mapping), never 0 or "".

    file, folder: name of the file and absolute path of the folder it was read from.
    frame, pictures: which picture of the file, from 1, of how many that can be screened (0: there is none).
    sha256: of the file's bytes; None where they could not be read.
    outcome, reasons, triggered, score: see `decision.decide`.
    findings: what was found, with codes, names and thresholds, for whoever reads the record without the bundle; None
        where the image never reached the model.
    task: name of what the network was asked, see `tasks.task.Task`.
    condition: what the bundle screens for, see `LabelSet.condition`.
    modality: the kind of picture the bundle screens, see `quality.MODALITIES`.
    evidence: code of the label whose class map the overlay shows; None without a class map.
    quality: measures by name, see `quality.assess`.
    shortfalls: of these, what was beyond its limit, with it; the reasons say it in words.
    distance, distance_limit: how far the picture's features are from those of the pictures that the model knows, and
        the threshold, see `reference.Reference`; None where the bundle has no reference.
    bundle_digest: digest of bundle.json, which covers the thresholds and the hash of every file of the bundle.
    model_sha256: of the artifact that ran (or would have run).
    spec_hash: of the preprocessing spec.
    patient_name, birth_date, sex, patient_id_issuer, accession_number: as the file has them, see `ImageSource`.
    timings_ms: milliseconds of "decode", "quality", "preprocess", "inference", "overlay", "total", as far as it got. On
        several threads the model's input is made beside "quality"; "preprocess" is how much longer it took.
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
    findings: tuple[Finding, ...] | None = None
    score: float | None = None
    task: str | None = None
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
    shortfalls: tuple[Shortfall, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    overlay: str | None = None
    error: str | None = None
    duplicate_of: str | None = None
    distance: float | None = None
    distance_limit: float | None = None
    schema: int = SCHEMA_VERSION

    @property
    def title(self) -> str:
        """The file, and which of its pictures this is."""
        return self.file if self.pictures < 2 else f"{self.file}, picture {self.frame} of {self.pictures}"

    @property
    def analysed(self) -> bool:
        """Whether the model's answer became a result (refer, uncertain, negative or described)."""
        return self.outcome in ("refer", "uncertain", "negative", "described")

    @property
    def labels(self) -> tuple[LabelFinding, ...]:
        """The findings that are labels, in label order; empty where there are none."""
        return tuple(each for each in self.findings or () if isinstance(each, LabelFinding))

    @property
    def probabilities(self) -> dict[str, float] | None:
        """{code: probability} of the labels; None where there are none."""
        return {each.code: each.probability for each in self.labels} or None

    @property
    def thresholds(self) -> dict[str, float] | None:
        """{code: probability} of the labels that the rule looks at, as they were then; None where there are none."""
        return {each.code: each.threshold for each in self.labels if each.threshold is not None} or None

    @property
    def missing(self) -> bool:
        """See `decision.GradedImage`."""
        return self.error == ModelOutOfOrder.__name__ or (self.pictures > 1 and self.error is not None)

    @property
    def shown(self) -> str:
        """The outcome, or "missing", which people see in its place."""
        return "missing" if self.missing else self.outcome

    @property
    def located(self) -> tuple[MaskFinding | PointFinding, ...]:
        """The findings that have a place in the picture, other than by a class map."""
        found = self.findings or ()
        return tuple(each for each in found if isinstance(each, MaskFinding | PointFinding) and each.found)

    @property
    def panels(self) -> int:
        """Of the overlay picture: the image, and beside it where findings lie, if any has a place."""
        return 1 if self.evidence is None and not self.located else 2

    def warned(self, warnings: Sequence[str]) -> ScreeningRecord:
        """The record with more warnings, each once."""
        return replace(self, warnings=tuple(dict.fromkeys((*self.warnings, *warnings))))

    def to_dict(self) -> dict[str, Any]:
        """A mapping that `json.dumps(..., allow_nan=False)` takes: non-finite measures become None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        found = None if self.findings is None else [finding.to_dict() for finding in self.findings]
        beyond = [shortfall.to_dict() for shortfall in self.shortfalls]
        document: dict[str, Any] = _plain({**values, "findings": found, "shortfalls": beyond})
        if not beyond:  # as every record before there were shortfalls
            del document["shortfalls"]
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
            values["shortfalls"] = tuple(map(shortfall_from_dict, values.get("shortfalls", ())))
            if values.get("findings") is not None:
                values["findings"] = tuple(map(finding_from_dict, values["findings"]))
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise RealMNetError(f"Screening record: {error}") from error


def _with_label_set(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 → 2: the codes alone told of which vocabulary they are; all other new fields are unknown."""
    codes = tuple(document.get("label_names") or document.get("probabilities") or ())
    known = next((each for each in LABEL_SETS.values() if each.codes == codes), None)
    if known is None:
        return document
    return {**document, "label_set": known.name, "condition": known.condition}


def _with_findings(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 → 3: probabilities, thresholds and names of labels are findings; the label set's name is the task's."""
    old = dict(document)
    probabilities, thresholds, names = (
        old.pop(name, None) or {} for name in ("probabilities", "thresholds", "label_names")
    )
    label_set = old.pop("label_set", None)
    if not names and label_set in LABEL_SETS:  # the first release's records had none
        names = {label.code: label.name for label in LABEL_SETS[label_set].labels}
    findings = [
        {
            "kind": "label",
            "output": PROBABILITIES,
            "vocabulary": label_set or "",
            "code": code,
            "name": names.get(code, code),
            "probability": probability,
            **({"threshold": thresholds[code]} if code in thresholds else {}),
        }
        for code, probability in probabilities.items()
    ]
    above = [probabilities[code] - threshold for code, threshold in thresholds.items() if code in probabilities]
    score = max(above, default=None)
    return {**old, "task": label_set, "findings": findings or None, "score": score}


STEPS: tuple[Step, ...] = (_with_label_set, _with_findings)


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
