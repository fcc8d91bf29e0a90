"""The label vocabularies: codes, their order in every label vector, and what they mean to a clinician."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_realmnet.tasks.fields import from_json

__all__ = ["LABEL_SETS", "PALM", "PERIPHERAL", "PSMM", "Concept", "Label", "LabelSet", "label_set_from_dict"]


CODE_LENGTH = 16  # of a code value in DICOM (value representation SH)
NAME_LENGTH = 64  # of a code meaning in DICOM (value representation LO)


@dataclass(frozen=True)
class Concept:
    """A code of a public terminology: `scheme` "SCT" (SNOMED CT) or "DCM", as DICOM says; `value`; `meaning`."""

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        if self.scheme not in ("SCT", "DCM") or not self.value.isdigit() or not 0 < len(self.meaning) <= NAME_LENGTH:
            raise ValueError(
                f"a concept is a number of SCT or DCM with its meaning, at most {NAME_LENGTH} characters. "
                f"Received: {self!r}"
            )


@dataclass(frozen=True)
class Label:
    """One label: its `code` (column name), short `name` and clinical `meaning`; its `concept`, where there is one.

    Raises ValueError for an empty one, or one that is not a line of printable text.
    """

    code: str
    name: str
    meaning: str
    concept: Concept | None = None

    def __post_init__(self) -> None:
        for value in (self.code, self.name, self.meaning):
            if not value.strip() or not value.isprintable():
                raise ValueError(f"a label has a code, a name and a meaning, a line of text each. Received: {self!r}")
        if len(self.name) > NAME_LENGTH:
            raise ValueError(f"the name of a label has at most {NAME_LENGTH} characters. Received: {self.name!r}")


@dataclass(frozen=True)
class LabelSet:
    """An ordered vocabulary; column k of every score matrix belongs to `labels[k]`.

    `pathologic` lists the codes whose presence makes an eye pathologic (and so a referral); structures and landmarks
    have none. Each group of `exclusive` lists codes of which a correctly labelled image carries exactly one.
    `condition`: what those who screen with it look for, in words that continue a sentence ("screening for ...");
    pathologic masks speak for the grades of the same condition, as lesions for a grade of retinopathy.

    Outside of this project a code is qualified by the set's name, "psmm:A3", and has at most 16 characters then: DICOM
    allows no more.

    Raises ValueError for codes or names that are not unique, codes that are longer or not plain, groups of unknown
    codes, and a set without a label.
    """

    name: str
    labels: tuple[Label, ...]
    pathologic: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    condition: str = "retinal disease"

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError(f"label set {self.name!r} needs a label. Received: none")
        for text in (self.name, self.condition):
            if not text.strip() or not text.isprintable():
                raise ValueError(f"a label set has a name and a condition, a line of text each. Received: {text!r}")
        for what, values in (("codes", self.codes), ("names", tuple(label.name for label in self.labels))):
            repeated = [value for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise ValueError(f"label set '{self.name}': {what} must be unique. Received twice: {repeated[0]!r}")
        for code in self.codes:
            qualified = f"{self.name}:{code}"
            if len(qualified) > CODE_LENGTH or not qualified.isascii() or set("\\ ") & set(qualified):
                raise ValueError(
                    f"a code qualified by its label set has at most {CODE_LENGTH} ASCII characters without blank and "
                    f"backslash, as DICOM demands. Received: {qualified!r}"
                )
        for group in (self.pathologic, *self.exclusive):
            unknown = sorted(set(group) - set(self.codes))
            if unknown:
                raise ValueError(f"label set '{self.name}' has no label {', '.join(unknown)}")
            if len(set(group)) < len(group):
                raise ValueError(
                    f"label set '{self.name}': pathologic and exclusive codes must be there once. "
                    f"Received: {', '.join(group)}"
                )
        if not all(self.exclusive):
            raise ValueError(f"label set '{self.name}': a group of exclusive codes needs some. Received: none")

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(label.code for label in self.labels)

    @property
    def pathologic_columns(self) -> list[int]:
        """Where the labels of `pathologic` stand in a label vector."""
        return [self.codes.index(code) for code in self.pathologic]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, code: str) -> Label:
        for label in self.labels:
            if label.code == code:
                return label
        raise KeyError(f"Label set '{self.name}' has the codes {', '.join(self.codes)}. Received: {code!r}")


# RealMNet (npj Digital Medicine 2025), Table 1: staphyloma S, META-PM myopic maculopathy A.
# Pathologic myopia = maculopathy of grade >= 2 or a posterior staphyloma.
PSMM = LabelSet(
    name="psmm",
    labels=(
        Label("S0", "No staphyloma", "no posterior staphyloma"),
        Label("S1", "Posterior staphyloma", "outpouching of the posterior wall of the eye"),
        Label("A0", "No myopic lesion", "no myopic retinal lesion (META-PM category 0)"),
        Label("A1", "Tessellation only", "tessellated fundus only (META-PM category 1)"),
        Label("A2", "Diffuse atrophy", "diffuse chorioretinal atrophy (META-PM category 2)"),
        Label("A3", "Patchy atrophy", "patchy chorioretinal atrophy (META-PM category 3)"),
        Label("A4", "Macular atrophy", "macular atrophy (META-PM category 4)"),
    ),
    pathologic=("S1", "A2", "A3", "A4"),
    exclusive=(("S0", "S1"), ("A0", "A1", "A2", "A3", "A4")),
    condition="pathologic myopia",
)

# PALM / iChallenge-PM (Fang et al., Scientific Data 2024): the class is the first letter of the file name.
PALM = LabelSet(
    name="palm",
    labels=(
        Label("N", "Normal", "no high myopia"),
        Label("H", "High myopia", "high myopia without pathologic change"),
        Label("P", "Pathologic myopia", "pathologic myopia"),
    ),
    pathologic=("P",),
    exclusive=(("N", "H", "P"),),
    condition="pathologic myopia",
)

# RealMNet, section "Peripheral lesions": the network that PSMM trained, with a new head.
PERIPHERAL = LabelSet(
    name="peripheral",
    labels=(
        Label("P0", "No peripheral lesion", "no peripheral retinal lesion"),
        Label("P1", "Lattice degeneration or cystic tuft", "lattice degeneration or cystic retinal tuft (LDoCRT)"),
        Label("P2", "Holes or tears", "retinal holes or tears (HoT)"),
        Label("P3", "Retinal detachment", "rhegmatogenous retinal detachment (RRD)"),
        Label("P4", "Postoperative", "postoperative change (PC)"),
    ),
    pathologic=("P1", "P2", "P3", "P4"),
    exclusive=(),  # lattice degeneration and holes are often seen together
    condition="peripheral retinal lesions",
)

LABEL_SETS = {label_set.name: label_set for label_set in (PSMM, PALM, PERIPHERAL)}


def label_set_from_dict(values: Any) -> LabelSet:
    """The label set of which `dataclasses.asdict` gave `values`. Raises ValueError for another field or value."""
    if not isinstance(values, Mapping):
        raise ValueError(f"a label set is an object. Received: {reprlib.repr(values)}")
    groups = values.get("exclusive", ())
    if not isinstance(values.get("labels"), list | tuple) or not isinstance(groups, list | tuple):
        raise ValueError(f"a label set has lists of labels and of exclusive codes. Received: {reprlib.repr(values)}")
    parts = {
        "labels": tuple(_label_from_dict(label) for label in values["labels"]),
        "pathologic": _codes(values.get("pathologic", ())),
        "exclusive": tuple(_codes(group) for group in groups),
    }
    return from_json(LabelSet, {**values, **parts}, "a label set")


def _label_from_dict(values: Any) -> Label:
    concept = values.get("concept") if isinstance(values, Mapping) else None
    if concept is not None:
        values = {**values, "concept": from_json(Concept, concept, "a concept")}
    return from_json(Label, values, "a label")


def _codes(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(code, str) for code in values):
        raise ValueError(f"a list of codes expected. Received: {reprlib.repr(values)}")
    return tuple(values)
