"""Small tasks of every kind that is trained."""

from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Output, Points
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet


def vocabulary(name: str, *codes: str) -> LabelSet:
    return LabelSet(name, tuple(Label(code, code.title(), code) for code in codes))


LESIONS = Labels(vocabulary("lesions", "he", "ex"))
SEVERITY = Grades(vocabulary("dr", "r0", "r1", "r2"))
DISC = Masks(vocabulary("disc", "disc", "cup"), exclusive=True)
SPOTS = Masks(vocabulary("spots", "ma", "se", "nv"))
LANDMARKS = Points(vocabulary("marks", "fovea", "centre"))


def task(**outputs: Output) -> Task:
    return Task("tiny", "colour_fundus", outputs, NoReferral())
