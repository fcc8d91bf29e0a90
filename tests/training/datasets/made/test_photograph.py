import numpy as np
import pytest

from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.outputs import Labels
from training.data.glaucoma.findings import FINDINGS
from training.data.lesions.vocabulary import GRADES, lesion_masks
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.prepared import mask_in_square
from training.phantoms.photograph import render_photograph


def test_points_and_masks_lie_where_they_are_drawn(tmp_path):
    data = PhotographDataSet(3, 1, 0, width=128)
    images = data.load("train", PreprocessSpec(size=64), tmp_path)
    assert len(images) == 3
    assert data.load("test", PreprocessSpec(size=64), tmp_path) is None
    disc = images.masks["disc"]
    for k in range(3):
        fovea, centre = images.truth["landmarks"][k]
        if centre[2] == 1 and (disc[k] == 1).any():
            rows, columns = np.nonzero(disc[k] == 1)
            at = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / 64
            np.testing.assert_allclose(centre[:2], at, atol=0.04)
        drawn = render_photograph((2027, 0, k), width=128)
        assert fovea[2] == drawn.shows(drawn.fovea)
    assert (images.truth["landmarks"][..., 2] == 1).sum() >= 4
    again = PhotographDataSet(3, 1, 0, width=128).load("train", PreprocessSpec(size=64), tmp_path)
    np.testing.assert_array_equal(again.truth["landmarks"], images.truth["landmarks"])
    assert data.load("validation", PreprocessSpec(size=64), tmp_path).names != images.names


def test_values_out_of_range():
    with pytest.raises(ValueError, match=r"width must be a whole number, at least 64\. Received: 63"):
        PhotographDataSet(width=63)


def test_lesions_and_grades(tmp_path):
    data = PhotographDataSet(5, 0, 0, width=256, outputs=("lesions", "grade"), lesions=["HE", "EX"])
    assert data.task.trained == {"lesions": lesion_masks(("HE", "EX")), "grade": GRADES}
    spec = PreprocessSpec(size=128)
    images = data.load("train", spec, tmp_path)
    drawn = [render_photograph((2027, 0, k), width=256, label="N", retinopathy=k) for k in range(5)]
    assert images.truth["grade"].argmax(axis=1).tolist() == [each.grade for each in drawn]
    assert (images.truth["grade"].sum(axis=1) == 1).all()
    masks = images.masks["lesions"]
    assert masks.shape == (5, 128, 128, 2)
    for n, each in enumerate(drawn):
        expected = mask_in_square(
            np.stack([each.lesions["HE"], each.lesions["EX"]], -1), preprocess(each.image, spec)[1]
        )
        np.testing.assert_array_equal(masks[n], expected)
    assert all((masks[3, ..., k] == 1).sum() > 100 for k in range(2))
    assert not (masks[0] == 1).any()  # the first eye has grade 0
    wide = PhotographDataSet(5, 0, 0, width=256, outputs=("lesions",), lesions=("HE", "EX"), borders="ellipses")
    marked = wide.load("train", spec, tmp_path).masks["lesions"]
    assert (marked[masks == 1] == 1).all()
    assert (marked == 1).sum() > 1.5 * (masks == 1).sum()


def test_findings_that_are_drawn(tmp_path):
    """Of fifteen, six are known; they are there where their masks are."""
    data = PhotographDataSet(10, 0, 0, width=192, outputs=("findings",))
    assert data.task.trained == {"findings": Labels(FINDINGS)}
    truth = data.load("train", PreprocessSpec(size=64), tmp_path).truth["findings"]
    of = {code: truth[:, k] for k, code in enumerate(FINDINGS.codes)}
    known = {code for code, values in of.items() if not np.isnan(values).all()}
    assert known == {"HE", "EX", "SE", "VESSEL", "RNFLD", "GDISC"}
    drawn = [
        render_photograph((2027, 0, k), width=192, label="N", retinopathy=k % 5, glaucoma=k >= 5) for k in range(10)
    ]
    for n, each in enumerate(drawn):
        assert of["HE"][n] == each.lesions["HE"].any()
        assert of["RNFLD"][n] == each.defect_mask.any()
        expected = float(n >= 5) if each.shows(each.disc_centre) else np.nan
        np.testing.assert_equal(of["GDISC"][n], np.float32(expected))
    assert of["RNFLD"][:5].sum() == 0 < of["RNFLD"].sum()


def test_outputs_and_lesions_that_there_are_not():
    with pytest.raises(ValueError, match=r"outputs must be some of landmarks, .*, each once\. Received: \('cup',\)"):
        PhotographDataSet(outputs=("cup",))
    with pytest.raises(ValueError, match=r"lesions must be some of MA, HE, EX, SE, PHE, NV, each once"):
        PhotographDataSet(lesions=("MA", "FIP"))
    with pytest.raises(ValueError, match=r"borders must be exact or ellipses\. Received: 'wide'"):
        PhotographDataSet(borders="wide")
