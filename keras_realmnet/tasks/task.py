"""What a network is asked, as data: outputs, what becomes of them, and the rule; a run and a bundle hold it whole."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.preprocessing import FieldGeometry, field_mask
from keras_realmnet.screening.quality import MODALITIES
from keras_realmnet.tasks.fields import from_json
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, PointFinding
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.masks import borders_of, found_masks, outlines_of, polygons
from keras_realmnet.tasks.measures import MeasureOf, ShareOfField, measure_from_dict
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Output, Points, output_from_dict
from keras_realmnet.tasks.reference import Reference, reference_from_dict
from keras_realmnet.tasks.rules import AnyAbove, NoReferral, OperatingPoint, Rule, Verdict, rule_from_dict
from keras_realmnet.tasks.vocabulary import NAME_LENGTH, LabelSet

__all__ = ["CLASS_MAPS", "FEATURES", "FOVEA_CODE", "NEEDS", "PROBABILITIES", "Task", "labels_task"]

PROBABILITIES, CLASS_MAPS = "probabilities", "class_maps"  # outputs of a network that answers labels and explains them
FEATURES = "features"  # and of one that also tells what it decides on
NEEDS = ("macula",)  # what a picture must show for a task to be answered
FOVEA_CODE = "FOVEA"  # the code of the point that tells a network with points whether it shows the macula
STRETCHED = ("uwf_red_green",)  # modalities whose projection stretches areas: no share of the field is stated there


@dataclass(frozen=True)
class Task:
    """What is asked of a network.

    name: qualifies what has no vocabulary of its own; at most 16 characters without blanks. modality: the kind of
    picture, see `quality.MODALITIES`. outputs: {name: output} of the deployed network. measures: what is computed from
    the findings. rule: what decides. needs: what a picture must show beside the retina, of NEEDS; one that does not is
    of insufficient quality for this task.

    fitted: what stands between output and rule: calibration, and what makes a negative result uncertain. reference:
    statistics of the pictures that the network knows, None where there are none.

    Raises ValueError where the parts do not fit each other.
    """

    name: str
    modality: str
    outputs: Mapping[str, Output]
    rule: Rule
    measures: tuple[MeasureOf, ...] = ()
    fitted: Fitted = field(default_factory=Fitted)
    reference: Reference | None = None
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,16}", self.name):
            raise ValueError(
                f"a task's name has 1 to 16 letters, digits, '_', '.' or '-', as it qualifies codes. "
                f"Received: {self.name!r}"
            )
        if self.modality not in MODALITIES:
            raise ValueError(f"modality must be one of {', '.join(MODALITIES)}. Received: {self.modality!r}")
        for name in self.outputs:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
                raise ValueError(f"an output's name has letters, digits and '_'. Received: {name!r}")
        if not self.trained:
            raise ValueError(f"the task {self.name!r} needs an output of labels, grades, masks or points")
        for output in self.outputs.values():
            output.shape_of_one(self.outputs)  # maps name what they explain
        if sum(isinstance(output, Maps) for output in self.outputs.values()) > 1:
            raise ValueError(f"the task {self.name!r} explains one output at most")
        self._check_codes()
        if self.reference is not None and not isinstance(self.outputs.get(self.reference.output), Features):
            raise ValueError(f"a reference needs an output of features. Received: {self.reference.output!r}")
        if not set(self.needs) <= set(NEEDS) or len(set(self.needs)) < len(self.needs):
            raise ValueError(f"needs are of {', '.join(NEEDS)}, each once. Received: {self.needs!r}")
        if self.needs and self.modality in STRETCHED and not self.locates_fovea:
            raise ValueError(f"in pictures of {self.modality} only a point {FOVEA_CODE!r} tells where the macula is")
        self.fitted.check(self.outputs)
        self.rule.check(self.outputs, [measure.code for measure in self.measures])

    def _check_codes(self) -> None:
        """Codes tell findings of one kind apart, also of several outputs; the task's name qualifies a measure's."""
        for kinds in ((Labels, Grades), (Masks,), (Points,)):
            sets = [each.labels for each in self.trained.values() if isinstance(each, kinds)]
            repeated = [c for c, n in Counter(code for labels in sets for code in labels.codes).items() if n > 1]
            if repeated:
                raise ValueError(f"the task {self.name!r} has the code {repeated[0]!r} in several outputs of a kind")
        kinds_of = {MaskFinding: Masks, PointFinding: Points}
        for measure in self.measures:
            if len(f"{self.name}:{measure.code}") > 16:
                raise ValueError(f"a measure's qualified code has at most 16 characters. Received: {measure.code!r}")
            if len(measure.name) > NAME_LENGTH:
                raise ValueError(f"a measure's name has at most {NAME_LENGTH} characters. Received: {measure.name!r}")
            for code, kind in measure.needs().items():
                known = [each.labels.codes for each in self.trained.values() if isinstance(each, kinds_of[kind])]
                if not any(code in codes for codes in known):
                    raise ValueError(f"the measure {measure.code!r} needs a {kind.kind} {code!r}; the task has none")
            if isinstance(measure, ShareOfField) and self.modality in STRETCHED:
                raise ValueError(
                    f"the measure {measure.code!r} needs pictures that stretch no areas. Received: {self.modality!r}"
                )

    @property
    def trained(self) -> dict[str, Labels | Grades | Masks | Points]:
        """The outputs that have a truth, by name."""
        kinds = (Labels, Grades, Masks, Points)
        return {name: output for name, output in self.outputs.items() if isinstance(output, kinds)}

    @property
    def questions(self) -> dict[str, Labels | Grades | Masks | Points]:
        """`trained` as the data asks it: the thresholds of masks, which are chosen once a network has learned, are
        those that nobody has chosen."""
        return {
            name: replace(output, threshold=Masks.threshold) if isinstance(output, Masks) else output
            for name, output in self.trained.items()
        }

    @property
    def condition(self) -> str:
        """What is looked for, in words that continue a sentence, see `LabelSet.condition`."""
        return next(iter(self.trained.values())).labels.condition

    @property
    def locates_fovea(self) -> bool:
        """Whether the network's own point tells where the macula is."""
        return any(isinstance(each, Points) and FOVEA_CODE in each.labels.codes for each in self.outputs.values())

    @property
    def looked_for(self) -> tuple[str, ...]:
        """Of its needs, what is looked for before the network sees a picture: what its own points do not tell."""
        return () if self.locates_fovea else self.needs

    @property
    def refers(self) -> bool:
        """Whether the rule decides; else pictures are described."""
        return not isinstance(self.rule, NoReferral)

    @property
    def abstains(self) -> bool:
        """Whether a picture may be uncertain."""
        return self.rule.abstains or (self.refers and bool(self.fitted.doubts))

    @property
    def label_set(self) -> LabelSet:
        """The vocabulary of its output of labels. Raises ValueError where there is none."""
        found = next((each.labels for each in self.outputs.values() if isinstance(each, Labels)), None)
        if found is None:
            raise ValueError(f"the task {self.name!r} has no labels")
        return found

    @property
    def operating_point(self) -> OperatingPoint:
        """The thresholds of its labels. Raises ValueError where the rule is another."""
        if not isinstance(self.rule, AnyAbove):
            raise ValueError(f"the task {self.name!r} has no thresholds of labels: its rule is {self.rule.kind}")
        return self.rule.point

    @property
    def thresholds(self) -> dict[str, float]:
        """{code: probability} of all labels that the rule compares."""
        return {code: value for output in self.outputs for code, value in self.rule.thresholds(output).items()}

    def class_maps(self, predicted: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """{code: its map (h', w')} of the labels or grades that the network explains for one image."""
        for name, output in self.outputs.items():
            if isinstance(output, Maps):
                maps = predicted[name]
                return {code: maps[..., k] for k, code in enumerate(self.trained[output.of].labels.codes)}
        return {}

    def signs(self, output: str) -> tuple[str, ...] | None:
        """The codes of the lesions that speak for the grades of an output: pathologic masks of the same condition."""
        condition = self.trained[output].labels.condition
        masks = (each.labels for each in self.trained.values() if isinstance(each, Masks))
        return tuple(code for labels in masks if labels.condition == condition for code in labels.pathologic) or None

    def maps_of(self, output: str) -> str | None:
        """The name of the output that explains this one; None where none does."""
        return next((name for name, each in self.outputs.items() if isinstance(each, Maps) and each.of == output), None)

    def check(self, predicted: Mapping[str, NDArray[Any]], outputs: Collection[str] | None = None) -> None:
        """Raises ValueError, naming the output, for an answer of n images that is none of this task.

        `outputs`: those of its outputs that are looked at; None: all.
        """
        for name, output in self.outputs.items():
            if outputs is not None and name not in outputs:
                continue
            if name not in predicted:
                raise ValueError(f"the network gives no {name}")
            try:
                output.check_shape((1, *predicted[name].shape[1:]), self.outputs)
                output.check(predicted[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def findings(
        self, predicted: Mapping[str, NDArray[Any]], geometry: FieldGeometry, image: NDArray[np.uint8]
    ) -> tuple[Finding, ...]:
        """What the network's answer means, with calibrated probabilities.

        Args:
            predicted: {output: its array for the image, without batch axis}.
            geometry: where the model's square lies on the picture.
            image: the square, uint8 (size, size, 3): its illuminated field is what shares are of.
        """
        found: list[Finding] = []
        for name, output in self.outputs.items():
            if not isinstance(output, Maps | Features):
                found += self._findings_of(name, output, self.calibrated(name, predicted[name]), geometry, image)
        return (*found, *(measure.finding(self.name, found, geometry.centre) for measure in self.measures))

    def calibrated(self, output: str, values: NDArray[Any]) -> NDArray[Any]:
        """The network's answer for an output, with calibrated probabilities, (..., labels), where that is fitted."""
        calibration = self.fitted.calibration.get(output)
        known = self.trained.get(output)
        return calibration.apply(known, values) if calibration and isinstance(known, Labels | Grades) else values

    def verdict(self, findings: Sequence[Finding]) -> Verdict:
        """What follows from the findings: what the rule says, but that no negative result is one that is doubted."""
        verdict = self.rule.decide(findings)
        if verdict.outcome != "negative":
            return verdict
        referred = [code for name, each in self.trained.items() for code in self.rule.referred(name, each.labels)]
        doubts = self.fitted.why_uncertain(findings, referred)
        return replace(verdict, outcome="uncertain", reasons=doubts) if doubts else verdict

    def _findings_of(
        self, name: str, output: Output, values: NDArray[Any], geometry: FieldGeometry, image: NDArray[np.uint8]
    ) -> Iterator[Finding]:
        if isinstance(output, Labels):
            yield from _labels(name, output, values, self.rule.thresholds(name))
        elif isinstance(output, Grades):
            yield _grade(name, output, values, self.rule.from_grade(name), self.signs(name))
        elif isinstance(output, Points):
            yield from _points(name, output, values, geometry)
        elif isinstance(output, Masks):
            field_of_view = None if self.modality in STRETCHED else field_mask(image)
            yield from _masks(name, output, values, geometry, field_of_view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `from_dict` gives an equal task back."""
        return {
            "name": self.name,
            "modality": self.modality,
            "outputs": {name: output.to_dict() for name, output in self.outputs.items()},
            "measures": [measure.to_dict() for measure in self.measures],
            "rule": self.rule.to_dict(),
            "fitted": self.fitted.to_dict(),
            "reference": {} if self.reference is None else self.reference.to_dict(),
            **({"needs": list(self.needs)} if self.needs else {}),  # as every task before there were needs
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """Raises ValueError for missing or unknown fields, and whatever no task can be."""
        expected = {"name", "modality", "outputs", "measures", "rule", "fitted", "reference"}
        if set(values) - {"needs"} != expected:
            different = ", ".join(sorted((set(values) - {"needs"}) ^ expected))
            raise ValueError(f"a task has the fields {', '.join(sorted(expected))}. Missing or unknown: {different}")
        for name, kind in (("outputs", Mapping), ("fitted", Mapping), ("reference", Mapping), ("measures", list)):
            if not isinstance(values[name], kind):
                raise ValueError(f"{name} of a task: another form expected. Received: {reprlib.repr(values[name])}")
        needs = values.get("needs", ())
        if not isinstance(needs, list | tuple):
            raise ValueError(f"needs of a task: a list expected. Received: {reprlib.repr(needs)}")
        parts = {
            "needs": tuple(needs),
            "outputs": {str(name): output_from_dict(output) for name, output in values["outputs"].items()},
            "rule": rule_from_dict(values["rule"]),
            "measures": tuple(map(measure_from_dict, values["measures"])),
            "fitted": Fitted.from_dict(values["fitted"]),
            "reference": reference_from_dict(values["reference"]) if values["reference"] else None,
        }
        return from_json(cls, {**values, **parts}, "a task")


def labels_task(label_set: LabelSet, modality: str, point: OperatingPoint) -> Task:
    """The task of a network that answers labels and shows by class maps where it sees them, as RealMNet's is."""
    outputs = {PROBABILITIES: Labels(label_set), CLASS_MAPS: Maps(of=PROBABILITIES)}
    return Task(label_set.name, modality, outputs, AnyAbove(PROBABILITIES, point))


def _labels(name: str, output: Labels, values: NDArray[Any], thresholds: Mapping[str, float]) -> Iterator[LabelFinding]:
    for label, probability in zip(output.labels.labels, values, strict=True):
        yield LabelFinding(
            name,
            output.labels.name,
            label.code,
            label.name,
            float(probability),
            thresholds.get(label.code),
            concept=label.concept,
        )


def _grade(
    name: str, output: Grades, values: NDArray[Any], from_grade: str | None, signs: tuple[str, ...] | None
) -> GradeFinding:
    labels = output.labels
    grade = int(np.argmax(values))
    label = labels.labels[grade]
    return GradeFinding(
        output=name,
        vocabulary=labels.name,
        code=label.code,
        name=label.name,
        grade=grade,
        probabilities=dict(zip(labels.codes, (float(value) for value in values), strict=True)),
        names={each.code: each.name for each in labels.labels},
        from_grade=from_grade,
        signs=signs,
        concept=label.concept,
    )


def _points(name: str, output: Points, values: NDArray[Any], geometry: FieldGeometry) -> Iterator[PointFinding]:
    """A point that would lie outside of the picture, or has too little confidence, was not found."""
    height, width = geometry.source
    places = geometry.to_source(np.asarray(values[:, :2], np.float64) * geometry.size - 0.5)
    for label, (x, y), row in zip(output.labels.labels, places, values, strict=True):
        confidence = float(row[2]) if output.confidence else None
        inside = -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
        found = inside and (confidence is None or confidence >= output.min_confidence)
        yield PointFinding(
            output=name,
            vocabulary=output.labels.name,
            code=label.code,
            name=label.name,
            x=round(float(x), 1) if found else None,
            y=round(float(y), 1) if found else None,
            confidence=confidence,
            concept=label.concept,
        )


def _masks(
    name: str, output: Masks, values: NDArray[Any], geometry: FieldGeometry, field_of_view: NDArray[np.bool_] | None
) -> Iterator[MaskFinding]:
    """`field_of_view`: bool (size, size), which pixels of the square shares are of; None: none is stated."""
    (width, height), (left, top), size = geometry.content, geometry.pad, geometry.size
    inside = np.zeros((size, size, len(output.labels)), np.float32)  # beside the picture there is nothing to find
    for k in range(len(output.labels)):
        channel = np.ascontiguousarray(values[..., k + output.exclusive], np.float32)
        probability = cv2.resize(channel, (size, size), interpolation=cv2.INTER_LINEAR)
        inside[top : top + height, left : left + width, k] = probability[top : top + height, left : left + width]
    masks = found_masks(output, inside)
    for k, label in enumerate(output.labels.labels):
        mask = np.ascontiguousarray(masks[..., k])
        share = None
        if field_of_view is not None and field_of_view.any():
            share = float(mask[field_of_view].sum() / field_of_view.sum())
        outlines, holes = borders_of(mask) if output.branching else (outlines_of(mask), None)
        yield MaskFinding(
            output=name,
            vocabulary=output.labels.name,
            code=label.code,
            name=label.name,
            outlines=polygons([geometry.to_source(corners) for corners in outlines]),
            holes=None if holes is None else polygons([geometry.to_source(corners) for corners in holes]),
            share=share,
            probability=float(inside[..., k][mask > 0].mean()) if mask.any() else None,
            concept=label.concept,
        )
