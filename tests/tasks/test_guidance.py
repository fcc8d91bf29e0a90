"""Marked regions beside the labels that they belong to, and the maps that a box is told of in their place."""

import pytest

from keras_realmnet.tasks.guidance import deployed, guided_labels, is_marked, marked_regions
from keras_realmnet.tasks.outputs import Labels, Maps, Masks
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet

EXUDATE = LabelSet("lesions", (Label("EX", "Hard exudate", "hard exudate"),), ("EX",))
DISC = Masks(LabelSet("disc", (Label("disc", "Optic disc", "optic disc"),)))
OUTPUTS = {"probabilities": Labels(EXUDATE), "disc": DISC, "class_maps": marked_regions(EXUDATE)}


def task(outputs):
    return Task("found", "colour_fundus", outputs, NoReferral())


def test_a_box_is_told_maps_in_the_place_of_marked_regions():
    assert guided_labels(OUTPUTS) == {"class_maps": "probabilities"}
    assert [is_marked(output) for output in OUTPUTS.values()] == [False, False, True]
    found = deployed(task(OUTPUTS))
    assert found.outputs == {**OUTPUTS, "class_maps": Maps(of="probabilities")}
    assert list(found.outputs) == list(OUTPUTS)
    assert Task.from_dict(task(OUTPUTS).to_dict()) == task(OUTPUTS)
    assert deployed(found) == found
    assert not marked_regions(EXUDATE).labels.pathologic


def test_masks_of_lesions_are_no_regions_though_their_codes_are_those_of_labels():
    lesions = {"probabilities": Labels(EXUDATE), "lesions": Masks(EXUDATE)}
    assert guided_labels(lesions) == {}
    assert deployed(task(lesions)) == task(lesions)


def test_regions_of_no_labels_are_refused():
    other = marked_regions(LabelSet("lesions", (Label("HE", "Haemorrhage", "haemorrhage"),)))
    with pytest.raises(ValueError, match=r"class_maps: marked regions stand beside labels HE. Received: none"):
        guided_labels({"probabilities": Labels(EXUDATE), "class_maps": other})
