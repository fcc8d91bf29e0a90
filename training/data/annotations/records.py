"""What several annotators say of pictures: in which regions of the eye each of them saw a finding. A JSON file:

    {
      "schema": 1,
      "findings": {"EX": "Hard exudate", "HE": "Haemorrhage"},
      "pictures": [
        {
          "picture": "images/17.jpg",
          "patient": "P-4",
          "disc": [731.5, 408.0],
          "fovea": [402.0, 431.5],
          "marks": {
            "A": {"EX": ["macula", "temporal"], "HE": []},
            "B": {"EX": ["macula"], "HE": []},
            "C": {"EX": []}
          }
        }
      ]
    }

findings: {code: name} of all that was looked for. picture: its path below the folder of the pictures. patient: whose it
is; where it is not said, a picture counts as a patient of its own. disc, fovea: the centre of the optic disc and the
fovea, x and y in pixels of the picture, the centre of the upper left one at (0, 0); null where that is not known.
marks: of each annotator the findings that he looked for, each with the regions, of
`keras_realmnet.tasks.regions.REGIONS`, in which he saw it; none: it is not there. What he does not name he did not look
for.

A finding is present where at least two of three annotators mark it, and absent where none does; one vote of three
leaves it unknown. Its mask is the union of the regions that were marked, by whomever.

Source: Son et al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally Guided
CNN (OMIA 2018). The paper says "more than 2" of three; at least two, and two thirds of any other number, are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.fields import from_json
from keras_realmnet.tasks.regions import REGIONS, region_map
from training.data.files.mask_codings import IGNORE

__all__ = ["Annotations", "Marks", "Picture", "read_annotations", "write_annotations"]

SCHEMA = 1

Point = tuple[float, float]
Marks = Mapping[str, Mapping[str, tuple[str, ...]]]  # {annotator: {finding: regions}}


@dataclass(frozen=True)
class Picture:
    """One picture as its annotators see it, see the module. Raises ValueError for a region that there is not."""

    picture: str
    marks: Marks
    disc: Point | None = None
    fovea: Point | None = None
    patient: str | None = None

    def __post_init__(self) -> None:
        for annotator, findings in self.marks.items():
            for finding, regions in findings.items():
                if not set(regions) <= set(REGIONS) or len(set(regions)) < len(regions):
                    raise ValueError(
                        f"{annotator}, {finding}: regions are some of {', '.join(REGIONS)}, each once. "
                        f"Received: {', '.join(regions)}"
                    )
        if self.disc is not None and self.fovea is not None:
            region_map((1, 1), self.disc, self.fovea)  # refuses an eye without sides

    def votes(self, finding: str) -> tuple[int, int]:
        """How many annotators mark a finding, and how many looked for it."""
        said = [findings[finding] for findings in self.marks.values() if finding in findings]
        return sum(map(bool, said)), len(said)

    def label(self, finding: str) -> float:
        """1 present, 0 absent, NaN unknown."""
        marking, looking = self.votes(finding)
        if not marking:
            return 0.0 if looking else np.nan
        return 1.0 if 3 * marking >= 2 * looking else np.nan

    def marked(self, finding: str) -> tuple[str, ...]:
        """The regions in which any annotator saw a finding, in the order of `REGIONS`."""
        said = {region for findings in self.marks.values() for region in findings.get(finding, ())}
        return tuple(region for region in REGIONS if region in said)

    def mask(self, finding: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Of a picture that is (width, height) large, uint8 (height, width, 1): 1 where a finding was marked, else 0.

        255 everywhere where nobody looked for it, or where it was marked and the regions are not known.
        """
        shape, marked = size[::-1], self.marked(finding)
        if not marked:
            return np.full((*shape, 1), 0 if self.votes(finding)[1] else IGNORE, np.uint8)
        if self.disc is None or self.fovea is None:
            return np.full((*shape, 1), IGNORE, np.uint8)
        chosen = np.isin(REGIONS, marked).astype(np.uint8)
        return chosen[region_map(shape, self.disc, self.fovea)][..., None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class Annotations:
    """`findings`: {code: name}. Raises ValueError for a picture that is there twice, or marks of another finding."""

    findings: Mapping[str, str]
    pictures: tuple[Picture, ...]

    def __post_init__(self) -> None:
        names = [each.picture for each in self.pictures]
        repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if repeated:
            raise ValueError(f"every picture must be there once. Received twice: {repeated[0]}")
        for each in self.pictures:
            unknown = {code for findings in each.marks.values() for code in findings} - set(self.findings)
            if unknown:
                raise ValueError(
                    f"{each.picture}: findings are {', '.join(self.findings)}. Received: {', '.join(sorted(unknown))}"
                )


def read_annotations(path: Path) -> Annotations:
    """The records of a file.

    Raises:
        DataSetError: it cannot be read, or is not what the module describes; names the picture, what was expected and
            what was found.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror}); expected records of annotators") from error
    except ValueError as error:
        raise DataSetError(f"{path}: not JSON ({error})") from error
    try:
        known = {"schema", "findings", "pictures"}
        if not isinstance(values, Mapping) or set(values) != known or values["schema"] != SCHEMA:
            raise ValueError(f"records of annotators have {', '.join(sorted(known))}, schema {SCHEMA}")
        findings, pictures = values["findings"], values["pictures"]
        if not isinstance(findings, Mapping) or not all(isinstance(name, str) and name for name in findings.values()):
            raise ValueError(f"findings are {{code: name}}. Received: {findings!r}")
        if not isinstance(pictures, list) or not pictures:
            raise ValueError("pictures are a list, with at least one")
        return Annotations(dict(findings), tuple(map(partial(_picture, path), pictures, range(1, len(pictures) + 1))))
    except ValueError as error:
        raise DataSetError(f"{path}: {error}") from error


def _picture(path: Path, values: Any, number: int) -> Picture:
    what = f"picture {number}"
    if isinstance(values, Mapping):
        what = f"{what} ({values.get('picture')})"
        points = {name: _point(values[name], f"{what}: {name}") for name in ("disc", "fovea") if name in values}
        values = {**values, **points, "marks": _marks(values.get("marks"), what)}
    try:
        return from_json(Picture, values, what)
    except ValueError as error:
        raise DataSetError(f"{path}: {str(error) if what in str(error) else f'{what}: {error}'}") from error


def _marks(values: Any, what: str) -> Marks:
    fits = isinstance(values, Mapping) and all(
        isinstance(findings, Mapping)
        and all(isinstance(regions, list) and all(isinstance(r, str) for r in regions) for regions in findings.values())
        for findings in values.values()
    )
    if not fits:
        raise ValueError(f"{what}: marks are {{annotator: {{finding: [region, …]}}}}. Received: {values!r}")
    return {
        str(who): {str(finding): tuple(regions) for finding, regions in findings.items()}
        for who, findings in values.items()
    }


def _point(value: Any, what: str) -> Point | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
    if not numbers or not np.isfinite(value).all():
        raise ValueError(f"{what} must be [x, y] in pixels, or null. Received: {value!r}")
    return float(value[0]), float(value[1])


def write_annotations(path: Path, annotations: Annotations) -> None:
    """All of it or nothing; `read_annotations` gives equal records back."""
    pictures = [each.to_dict() for each in annotations.pictures]
    content = {"schema": SCHEMA, "findings": dict(annotations.findings), "pictures": pictures}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
