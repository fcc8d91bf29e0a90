"""The task of a deployed network: what it explains is added, nothing else of it is lost."""

from dataclasses import replace

import pytest

from export.conversion.deployment import with_class_maps
from keras_realmnet import LinearHead, RealMNet, TinyViTBackbone
from keras_realmnet.tasks.outputs import Maps
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES, labels_task
from keras_realmnet.tasks.vocabulary import Label, LabelSet

pytestmark = pytest.mark.tensorflow_only


def test_class_maps_are_added_and_all_else_stays():
    labels = LabelSet("two", (Label("A", "a", "a is there"), Label("B", "b", "b is there")), pathologic=("B",))
    task = labels_task(labels, "colour_fundus", OperatingPoint({"B": 0.4}, "by hand"))
    task = replace(task, outputs={PROBABILITIES: task.outputs[PROBABILITIES]}, needs=("macula",))
    backbone = TinyViTBackbone(32, (16, 32, 32, 32), (1, 1, 1, 1), (1, 1, 1, 1), name="backbone")
    explained = with_class_maps(RealMNet(backbone, LinearHead(2, name="head")), task)
    assert explained.outputs == {**task.outputs, CLASS_MAPS: Maps(of=PROBABILITIES)}
    assert replace(explained, outputs=task.outputs) == task
