import pytest
from pydicom.sr.codedict import codes

from keras_realmnet.tasks.rules import GradeFrom
from training.data.lesions.vocabulary import (
    GRADES,
    LESIONS,
    grade_vocabulary,
    lesion_masks,
    lesion_vocabulary,
)
from training.data.own_data.vocabulary import parse_vocabulary
from training.datasets.found.own import task_of_vocabulary


def test_ones_own_vocabularies_have_the_same_labels():
    """So that CombinedDataSet puts them together."""
    written = lesion_vocabulary({"EX": {"colours": [1]}}, "a clinic", folder="../lesion", others=[2, 3])
    task = task_of_vocabulary(parse_vocabulary(written))
    assert task.trained == {"lesions": lesion_masks(("EX",))}
    grades = task_of_vocabulary(parse_vocabulary(grade_vocabulary("dr_grade", "a clinic")))
    assert grades.trained == {"grade": GRADES}
    assert grades.rule == GradeFrom("grade", "DR2", "the first pathologic one of icdr")


def test_concepts_are_those_of_dicom():
    concepts = {label.code: label.concept for label in LESIONS.labels if label.concept is not None}
    assert {code: each.value for code, each in concepts.items()} == {"HE": codes.SCT.Hemorrhage.value}
    assert concepts["HE"].meaning == codes.SCT.Hemorrhage.meaning
    assert "Hemorrhage" in dir(codes.cid7159)  # lesion segmentation types


def test_codes():
    assert LESIONS.codes == ("MA", "HE", "EX", "SE", "VHE", "PHE", "NV", "FIP")
    assert lesion_masks(("SE", "MA")).labels.codes == ("SE", "MA")
    with pytest.raises(ValueError, match=r"some of MA, HE, .*, each once\. Received: MA, MA"):
        lesion_masks(("MA", "MA"))
    with pytest.raises(ValueError, match=r"Received: IRMA"):
        lesion_masks(("IRMA",))
