import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from tests.training.datasets.drawn import write_image
from training.data.files.mask_codings import IGNORE
from training.data.lesions.vocabulary import GRADES, lesion_masks
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.lesions import LesionDataSet
from training.datasets.registry import in_folds, with_folder

SPEC = PreprocessSpec(size=32)
EYES = 12


@pytest.fixture
def retinal(tmp_path):
    """Both eyes of six patients; microaneurysms in the left ones, beside them a strip that is not known."""
    lines = ["image id,our label"]
    for k in range(EYES):
        name = f"{k // 2}_{('left', 'right')[k % 2]}"
        write_image(tmp_path / "data" / "images_896x896" / f"{name}.jpg", k)
        lines.append(f"{name},{k % 5}")
        if k % 2 == 0:
            mask = np.zeros((48, 48), np.uint8)
            mask[:24, :24], mask[40:] = 255, 127
            folder = tmp_path / "data" / "lesion_segs_896x896" / name
            folder.mkdir(parents=True)
            Image.fromarray(mask).save(folder / "microaneurysm.png")
    (tmp_path / "data" / "dr_grades.csv").write_text("\n".join(lines))
    return tmp_path / "data"


def test_masks_and_grades_come_with_the_pixels(retinal, tmp_path):
    data = LesionDataSet(str(retinal), "retinal_lesions", ("MA", "EX"), grades=True)
    assert data.task.trained == {"lesions": lesion_masks(("MA", "EX")), "grade": GRADES}
    images = data.load("train", SPEC, tmp_path / "cache")
    assert len(images) == EYES
    left, right = images.truth_of("lesions")[:2]
    expected = np.zeros((32, 32))
    expected[:16, :16], expected[27:] = 1, IGNORE  # row 26 has its centre at 39.75
    np.testing.assert_array_equal(left[..., 0], expected)
    assert not left[..., 1].any()
    assert not right.any()
    assert images.truth["grade"].argmax(axis=1).tolist() == [k % 5 for k in range(EYES)]
    assert data.load("test", SPEC, tmp_path / "cache") is None


def test_patients_are_dealt_and_cut_into_folds(retinal, tmp_path):
    data = LesionDataSet(str(retinal), "retinal_lesions", ("MA",), held_out=0.4)
    sets = [data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test")]
    assert [len(images) for images in sets] == [8, 2, 2]
    assert len(set().union(*(images.patients for images in sets))) == EYES // 2
    cut = in_folds(data, (1, 3))
    assert cut == CrossValidation(LesionDataSet(str(retinal), "retinal_lesions", ("MA",)), (1, 3))
    assert len(cut.load("test", SPEC, tmp_path / "cache")) == 4


def test_data_with_sets_of_its_own_is_cut_as_any_other():
    assert in_folds(LesionDataSet("/data"), (1, 5)) == CrossValidation(LesionDataSet("/data"), (1, 5))
    combined = CombinedDataSet("both", (LesionDataSet("a"), LesionDataSet("b", "e_ophtha", held_out=0.2)))
    first, second = in_folds(with_folder(combined, "/data"), (1, 5)).parts
    assert first == LesionDataSet("/data/a")
    assert second == CrossValidation(LesionDataSet("/data/b", "e_ophtha"), (1, 5))
    assert combined.task.trained == {"lesions": lesion_masks(("MA", "HE", "EX", "SE"))}


def test_what_a_layout_does_not_mark_may_be_asked_for_beside_what_it_does():
    assert LesionDataSet(layout="e_ophtha").lesions == ("EX", "MA")
    assert LesionDataSet(lesions=["NV", "MA"]).lesions == ("NV", "MA")
    for arguments, message in (
        ({"lesions": ("NV",)}, r"the layout idrid marks MA, HE, EX, SE\. Received: NV"),
        ({"lesions": ("DISC",)}, r"lesions are some of MA, .*\. Received: DISC"),
        ({"layout": "messidor"}, r"layout must be idrid, .* or retinal_lesions\. Received: 'messidor'"),
        ({"grades": True}, r"grades are in the layouts retinal_lesions\. Received: idrid"),
        ({"held_out": 0.3}, r"the layout idrid has sets of its own\. Received: held_out=0.3"),
    ):
        with pytest.raises(ValueError, match=message):
            LesionDataSet(**arguments)
    with pytest.raises(DataSetError, match="pass it with --data PATH"):
        LesionDataSet().load("train", SPEC, None)
