"""Masks that teach where a finding may be seen, and that a deployed network answers by maps in their place.

An annotator says in which regions of the eye he saw a finding (`keras_realmnet.tasks.regions`). Their union is the mask
of an output of masks that stands beside the output of labels with the same codes. It holds back the network's
activation map outside of them (`keras_realmnet.losses.guidance`); it is no outline of anything, so a box is not told of
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from keras_realmnet.tasks.outputs import Activation, Labels, Maps, Masks, Output
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LabelSet

__all__ = ["MAP_ACTIVATION", "deployed", "guided_labels", "is_marked", "marked_regions"]

MARKED = "marked"  # the vocabulary's name, by which such masks are told from those of lesions and structures
MAP_ACTIVATION: Activation = "sigmoid"  # of the maps in their place: what the loss holds back


def marked_regions(labels: LabelSet) -> Masks:
    """The output of the regions in which each of the `labels` was marked."""
    return Masks(LabelSet(MARKED, labels.labels, condition=labels.condition))


def is_marked(output: Output) -> bool:
    """Whether an output is one of `marked_regions`."""
    return isinstance(output, Masks) and output.labels.name == MARKED


def guided_labels(outputs: Mapping[str, Output]) -> dict[str, str]:
    """{output of marked regions: the output of labels that they belong to, which has the same codes}.

    Raises ValueError for regions without such labels.
    """
    found = {}
    for name, output in outputs.items():
        if isinstance(output, Masks) and is_marked(output):
            codes = output.labels.codes
            fitting = [key for key, each in outputs.items() if isinstance(each, Labels) and each.labels.codes == codes]
            if not fitting:
                raise ValueError(f"{name}: marked regions stand beside labels {', '.join(codes)}. Received: none")
            found[name] = fitting[0]
    return found


def deployed(task: Task) -> Task:
    """`task` as the deployed network answers it: maps, of the same name, in the place of marked regions."""
    guided = guided_labels(task.outputs)
    maps = {name: Maps(of=labels) for name, labels in guided.items()}
    return replace(task, outputs={**task.outputs, **maps}) if maps else task
