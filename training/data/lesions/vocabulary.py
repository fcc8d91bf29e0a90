"""The lesions of diabetic retinopathy and its grades, under the same codes in every data set.

The eight lesions are those of Wei et al., "Learn to Segment Retinal Lesions and Beyond" (ICPR 2020), who call HE, EX,
SE, VHE, PHE and FIP iHE, HaEx, CWS, vHE, pHE and FiP; the grades are those of the international clinical scale
(Wilkinson et al., Ophthalmology 2003).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_realmnet.arguments import one_of
from keras_realmnet.tasks.measures import MeasureOf, lesion_measures
from keras_realmnet.tasks.outputs import Grades, Masks
from keras_realmnet.tasks.vocabulary import Concept, Label, LabelSet

__all__ = ["GRADES", "LESIONS", "check_codes", "grade_vocabulary", "lesion_masks", "lesion_vocabulary", "measures_of"]

CONDITION = "diabetic retinopathy"
COUNTED = ("MA", "HE")  # in each quadrant: severe retinopathy has many haemorrhages in all four (Wilkinson et al.)
# The one concept that DICOM's dictionary knows (PS3.16, CID 7159); the retina is stated as its site. The microaneurysm
# of SNOMED CT that could be looked up, 25412000, is one of diabetes, which no picture tells.
HAEMORRHAGE = Concept("SCT", "50960005", "Hemorrhage")
LESIONS = LabelSet(
    name="lesions",
    labels=(
        Label("MA", "Microaneurysm", "microaneurysm"),
        Label("HE", "Haemorrhage", "haemorrhage within the retina", HAEMORRHAGE),
        Label("EX", "Hard exudate", "hard exudate"),
        Label("SE", "Cotton wool spot", "cotton wool spot (soft exudate)"),
        Label("VHE", "Vitreous haemorrhage", "haemorrhage into the vitreous"),
        Label("PHE", "Preretinal haemorrhage", "haemorrhage in front of the retina"),
        Label("NV", "Neovascularization", "new vessels on disc or retina"),
        Label("FIP", "Fibrous proliferation", "fibrous proliferation"),
    ),
    pathologic=("MA", "HE", "EX", "SE", "VHE", "PHE", "NV", "FIP"),
    condition=CONDITION,
)
GRADES = Grades(
    LabelSet(
        name="icdr",
        labels=(
            Label("DR0", "No retinopathy", "no apparent diabetic retinopathy"),
            Label("DR1", "Mild", "mild non-proliferative diabetic retinopathy"),
            Label("DR2", "Moderate", "moderate non-proliferative diabetic retinopathy"),
            Label("DR3", "Severe", "severe non-proliferative diabetic retinopathy"),
            Label("DR4", "Proliferative", "proliferative diabetic retinopathy"),
        ),
        pathologic=("DR2", "DR3", "DR4"),  # what screening programmes refer
        condition=CONDITION,
    )
)


def check_codes(codes: Sequence[str]) -> None:
    """Raises ValueError for codes that are none of `LESIONS`, or there twice."""
    known = one_of(*LESIONS.codes)
    if not codes or not all(map(known.holds, codes)) or len(set(codes)) < len(codes):
        raise ValueError(
            f"lesions are some of {', '.join(LESIONS.codes)}, each once. Received: {', '.join(codes) or '-'}"
        )


def lesion_masks(codes: Sequence[str]) -> Masks:
    """The output of some lesions, in this order; a pixel may belong to several. Raises ValueError as `check_codes`."""
    check_codes(codes)
    labels = tuple(LESIONS[code] for code in codes)
    return Masks(LabelSet(LESIONS.name, labels, pathologic=tuple(codes), condition=CONDITION))


def measures_of(lesions: Masks) -> tuple[MeasureOf, ...]:
    """What is measured of the lesions that are found, for their task."""
    return lesion_measures(lesions.labels, [code for code in COUNTED if code in lesions.labels.codes])


def lesion_vocabulary(marks: Mapping[str, Mapping[str, Any]], source: str, **keys: Any) -> dict[str, Any]:
    """A vocabulary with the one output "lesions", for pictures that have masks of some of them.

    Its labels are those of `lesion_masks`, so that `CombinedDataSet` puts both together.

    Args:
        marks: {code: where its masks are, in keys of `training.data.own_data.vocabulary.MaskEntry`}.
        source: where the pictures are from, and their licence.
        keys: other keys of the output, as `folder`.
    """
    check_codes(tuple(marks))
    entries = [_entry(LESIONS[code]) | {"pathologic": True} | dict(where) for code, where in marks.items()]
    output = {"name": "lesions", "kind": "masks", "exclusive": False, **keys, "entries": entries}
    return {**_of_fundus(LESIONS, source), "outputs": [output]}


def grade_vocabulary(column: str, source: str, values: Sequence[int | str] = (0, 1, 2, 3, 4)) -> dict[str, Any]:
    """A vocabulary with the one output "grade", for pictures whose table has one in a column.

    Args:
        column: of the table.
        source: where the pictures are from, and their licence.
        values: what stands there for each grade.
    """
    entries = [
        _entry(label) | {"value": value, "pathologic": label.code in GRADES.labels.pathologic}
        for label, value in zip(GRADES.labels.labels, values, strict=True)
    ]
    output = {"name": "grade", "kind": "grades", "column": column, "entries": entries}
    return {**_of_fundus(GRADES.labels, source), "outputs": [output]}


def _entry(label: Label) -> dict[str, Any]:
    return {"code": label.code, "name": label.name, "meaning": label.meaning}


def _of_fundus(labels: LabelSet, source: str) -> dict[str, Any]:
    return {"name": labels.name, "modality": "colour_fundus", "condition": labels.condition, "source": source}
