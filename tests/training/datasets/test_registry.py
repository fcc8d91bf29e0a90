import json

import pytest

from keras_realmnet.errors import DataSetError
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.annotated import AnnotatedDataSet
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.datasets.found.lesions import LesionDataSet
from training.datasets.found.own import OwnDataSet
from training.datasets.found.palm import PalmDataSet
from training.datasets.found.vessels import VesselDataSet
from training.datasets.made.drawn_annotated import DrawnAnnotatedDataSet
from training.datasets.made.phantom import PhantomDataSet
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.registry import DATA_SETS, data_from_dict, data_to_dict, with_folder
from training.input.augmentation import Augmentation
from training.recipe import Recipe

VOCABULARY = {
    "name": "mine",
    "modality": "colour_fundus",
    "outputs": [
        {"name": "found", "kind": "labels", "entries": [{"code": "A", "name": "First", "meaning": "first finding"}]}
    ],
}
RECIPE = Recipe("x", augmentation=Augmentation.none())
PARTS = (
    CrossValidation(OwnDataSet("idrid", "labels.csv", "path=image", VOCABULARY, held_out=0), (2, 5)),
    CrossValidation(PalmDataSet("palm224", "fovea"), (2, 5), "validation"),
    PalmDataSet("native", "disc"),
    PhotographDataSet(8, 0, 0),
)
DRAWN = PhotographDataSet(8, 0, 0, outputs=("lesions", "grade"), lesions=("EX", "MA"), borders="ellipses")
VESSELS = VesselDataSet("drive", "drive", observer=2)
GLAUCOMA = GlaucomaDataSet("refuge", outputs=("glaucoma", "disc_cup"), train_on=("train", "test"))
ANNOTATED = AnnotatedDataSet("hei_med", "said.json", "DRU", "Drusen", held_out=0)
MARKED = DrawnAnnotatedDataSet("HE", regions=False, train_eyes=8)
LESIONS = LesionDataSet("retinal", "retinal_lesions", ("EX", "MA"), grades=True, held_out=0.2)


def test_each_kind_names_its_class():
    assert sorted(DATA_SETS) == [
        "annotated",
        "combined",
        "cross_validation",
        "drawn_annotated",
        "drawn_photograph",
        "glaucoma",
        "lesions",
        "own",
        "palm",
        "phantom",
        "psmm",
        "vessels",
    ]
    assert all(DATA_SETS[kind].kind == kind for kind in DATA_SETS)


@pytest.mark.parametrize(
    "data",
    [
        *(*PARTS, CombinedDataSet("fundus", PARTS, (1, 1, 8, 1)), PhantomDataSet(), DRAWN, MARKED),
        *(LESIONS, VESSELS, GLAUCOMA, ANNOTATED),
    ],
    ids=lambda data: data.kind,
)
def test_a_recipes_file_holds_its_data_whole(data):
    written = json.loads(json.dumps(data_to_dict(data)))
    assert data_from_dict(written) == data
    recipe = Recipe.from_dict(json.loads(json.dumps({**RECIPE.to_dict(), "data": written})))
    assert recipe.data == data


def test_data_in_another_place():
    assert with_folder(PalmDataSet("/here"), "/there") == PalmDataSet("/there")
    own, fovea, native, drawn = with_folder(CombinedDataSet("fundus", PARTS), "/there").parts
    assert [own.of.folder, fovea.of.folder, native.folder] == ["/there/idrid", "/there/palm224", "/there/native"]
    assert (own.of.table, fovea.part, drawn) == ("labels.csv", "validation", PARTS[-1])
    assert with_folder(PARTS[1], "/there").of == PalmDataSet("/there", "fovea")
    with pytest.raises(DataSetError, match="phantom data is made, not found: it takes no --data /x"):
        with_folder(PhantomDataSet(), "/x")
