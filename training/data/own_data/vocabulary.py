"""The vocabulary: one TOML file that says what a task looks for, and where in a researcher's data the truth of it is.

    name = "clinic"                     # of the set: a code leaves the house as clinic:HE, of at most 16 characters
    modality = "colour_fundus"
    condition = "diabetic retinopathy"  # continues "screening for ..."
    source = "our clinic, 2024"         # optional: where the pictures are from and their licence, for a bundle's reader

    [[outputs]]
    name = "findings"
    kind = "labels"                     # each present (1), absent (0) or unknown
    exclusive = [["N", "HE"]]           # optional: groups of which exactly one is present
    entries = [
      { code = "N", name = "Normal", meaning = "no retinopathy" },
      { code = "HE", name = "Haemorrhage", meaning = "retinal haemorrhage", pathologic = true, column = "bleeding" },
    ]

    [[outputs]]
    name = "grade"
    kind = "grades"                     # exactly one
    ordered = true                      # from the least to the worst
    column = "dr_grade"                 # optional: where it stands in the table; default: the output's name
    entries = [
      { code = "G0", name = "No retinopathy", meaning = "no retinopathy", value = 0 },
      { code = "G1", name = "Retinopathy", meaning = "any retinopathy", value = 1, pathologic = true },
    ]

    [[outputs]]
    name = "lesions"
    kind = "masks"
    exclusive = false                   # true: a pixel has one label at most
    folder = "masks"                    # below the pictures' folder, or a path of its own
    without_mask = "unknown"            # a picture without a file: "unknown" or "empty"
    suffix = "_mask"                    # optional: 17.jpg has 17_mask.png; of an entry, too: suffix = "_EX", or "/EX"
    ignore = [127]                      # optional: grey levels of where nothing is known
    entries = [                         # each in a folder of its own, masks/EX, or what it says; one alone in masks
      { code = "EX", name = "Hard exudate", meaning = "hard exudate", pathologic = true },
      { code = "MA", name = "Microaneurysm", meaning = "microaneurysm", folder = "microaneurysms" },
    ]

    [[outputs]]
    name = "disc_and_cup"
    kind = "masks"
    exclusive = false
    folder = "disc_and_cup"
    background = "#000000"
    ignore = ["#808080"]                # where nothing is known
    others = ["#0000ff"]                # what is not asked for: background
    single = true                       # each is there once: only the largest part that is found counts
    entries = [                         # all in one file, told by their colours
      { code = "DISC", name = "Optic disc", meaning = "optic disc", colours = ["#ffff00", "#ff0000"] },
      { code = "CUP", name = "Optic cup", meaning = "optic cup", colours = ["#ff0000"], within = "DISC" },
    ]

    [[outputs]]
    name = "drawn"
    kind = "masks"
    exclusive = false
    branching = false                   # true, of vessels: what is found encloses what it is not
    folder = "shapes"                   # 17.jpg has 17.json, as LabelMe writes it (training/data/files/shapes.py)
    ignore_shapes = ["unsure"]          # optional: names of shapes where nothing is known
    other_shapes = ["laser scar"]       # optional: of what is not asked for
    entries = [                         # polygons, rectangles, circles and ellipses, told by their names
      { code = "HE", name = "Haemorrhage", meaning = "retinal haemorrhage", shapes = ["blot", "flame"] },
      { code = "SE", name = "Soft exudate", meaning = "soft exudate", shapes = ["cotton wool"] },
    ]

    [[outputs]]
    name = "landmarks"
    kind = "points"
    confidence = true                   # optional: the network also says whether each point can be seen
    entries = [{ code = "FOVEA", name = "Fovea", meaning = "centre of the fovea", x = "fovea_x", y = "fovea_y" }]

A label's column in the table is its code unless it says `column`, a grade's value its code unless it says `value`, a
point's columns are CODE_x and CODE_y unless it says them. A structure `within` another one lies inside of it, and its
pixels belong to both; the ratio of their heights is a measure. Colours are grey levels or indices of a palette
(numbers), or "#rrggbb". Unknown keys are refused.
"""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.quality import MODALITIES
from keras_realmnet.tasks.vocabulary import CODE_LENGTH, NAME_LENGTH
from training.data.files.mask_codings import BinaryCoding, Colour, ColourCoding
from training.data.files.mask_files import Absent, Coding
from training.data.files.shapes import ShapeCoding

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Entry",
    "GradeEntry",
    "GradesOutput",
    "LabelEntry",
    "LabelsOutput",
    "MaskEntry",
    "MasksOutput",
    "Output",
    "PointEntry",
    "PointsOutput",
    "Vocabulary",
    "parse_vocabulary",
    "read_toml",
    "read_vocabulary",
]


def _colour(value: Any) -> Any:
    """`"#ff0000"` as (255, 0, 0); a number stays."""
    if isinstance(value, str):
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError('expected a number from 0 to 255 or "#rrggbb"')
        return tuple(bytes.fromhex(value[1:]))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise ValueError('expected a number from 0 to 255 or "#rrggbb"')
    return value


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected a line of text")
    return text


def _named(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]*", text):
        raise ValueError("expected small letters, digits and _, first a letter")
    return text


def _modality(text: str) -> str:
    if text not in MODALITIES:
        raise ValueError(f"expected one of {', '.join(MODALITIES)}")
    return text


Line = Annotated[str, AfterValidator(_printable)]
Identifier = Annotated[str, AfterValidator(_named)]
Modality = Annotated[str, AfterValidator(_modality)]
TomlColour = Annotated[Colour, BeforeValidator(_colour)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(_Part):
    """One label: a plain `code`, a short `name`, its clinical `meaning`; `pathologic`: its presence is a referral."""

    code: Line
    name: Annotated[Line, Field(max_length=NAME_LENGTH)]
    meaning: Line
    pathologic: bool = False


class LabelEntry(Entry):
    column: Line | None = None


class GradeEntry(Entry):
    value: int | Line | None = None


class MaskEntry(Entry):
    folder: Line | None = None
    suffix: Line | None = None
    colours: Annotated[tuple[TomlColour, ...], Field(min_length=1)] | None = None
    shapes: Annotated[tuple[Line, ...], Field(min_length=1)] | None = None
    within: Line | None = None


class PointEntry(Entry):
    x: Line | None = None
    y: Line | None = None


class _Output(_Part):
    name: Identifier

    @property
    def codes(self) -> tuple[str, ...]:
        """Of its entries, in the order of every vector and channel of this output."""
        return tuple(entry.code for entry in self._entries())

    @property
    def pathologic(self) -> tuple[str, ...]:
        return tuple(entry.code for entry in self._entries() if entry.pathologic)

    def _entries(self) -> Sequence[Entry]:
        entries: Sequence[Entry] = self.__dict__["entries"]
        return entries

    @model_validator(mode="after")
    def _each_once(self) -> "_Output":
        for what, values in (("code", self.codes), ("name", tuple(entry.name for entry in self._entries()))):
            _once(values, f"every entry to have a {what} of its own")
        return self


class LabelsOutput(_Output):
    """Labels that may be present together; each group of `exclusive` has codes of which exactly one is present."""

    kind: Literal["labels"]
    entries: Annotated[tuple[LabelEntry, ...], Field(min_length=1)]
    exclusive: tuple[tuple[str, ...], ...] = ()

    @model_validator(mode="after")
    def _groups(self) -> "LabelsOutput":
        for group in self.exclusive:
            if len(group) < 2 or len(set(group)) < len(group) or not set(group) <= set(self.codes):
                raise ValueError(f"groups of two or more of the codes {', '.join(self.codes)}, not {list(group)}")
        return self

    def columns(self) -> tuple[str, ...]:
        """The column of the table of each entry."""
        return tuple(entry.code if entry.column is None else entry.column for entry in self.entries)


class GradesOutput(_Output):
    """One of the entries holds; `ordered`: from the least to the worst."""

    kind: Literal["grades"]
    entries: Annotated[tuple[GradeEntry, ...], Field(min_length=2)]
    ordered: bool = True
    column: Line | None = None

    @model_validator(mode="after")
    def _values(self) -> "GradesOutput":
        _once(self.values(), "every grade to have a value of its own")
        refers = [entry.pathologic for entry in self.entries]
        if self.ordered and refers != sorted(refers):
            raise ValueError(f"of ordered grades the last ones to be pathologic, not {', '.join(self.pathologic)}")
        return self

    def columns(self) -> tuple[str, ...]:
        """The one column of the table."""
        return (self.name if self.column is None else self.column,)

    def values(self) -> tuple[str, ...]:
        """What stands in the table for each entry."""
        return tuple(entry.code if entry.value is None else str(entry.value) for entry in self.entries)


class MasksOutput(_Output):
    """A mask for each entry: in a folder for each, or in one file where the entries have colours or shapes."""

    kind: Literal["masks"]
    entries: Annotated[tuple[MaskEntry, ...], Field(min_length=1)]
    exclusive: bool
    folder: Line
    background: TomlColour | None = None  # default: black
    ignore: tuple[TomlColour, ...] = ()
    others: tuple[TomlColour, ...] = ()
    ignore_shapes: tuple[Line, ...] = ()
    other_shapes: tuple[Line, ...] = ()
    suffix: Line | None = None
    without_mask: Absent = "unknown"
    single: bool = False
    branching: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "MasksOutput":
        for way in ("colours", "shapes"):
            if len({getattr(entry, way) is None for entry in self.entries}) > 1:
                raise ValueError(f"{way} for every entry, or for none")
        told_by = self._in_one_file
        if told_by and any(entry.folder is not None or entry.suffix is not None for entry in self.entries):
            raise ValueError(f"{told_by}, or folders and suffixes, for the entries, not both")
        if told_by != "shapes" and (self.ignore_shapes or self.other_shapes):
            raise ValueError("`ignore_shapes` and `other_shapes` only where the entries have shapes")
        if told_by == "shapes":
            self._check_shapes()
        elif told_by == "colours":
            self._check_colours()
        else:
            self._check_files()
        self._check_within()
        return self

    @property
    def _in_one_file(self) -> str | None:
        """By what the entries are told apart that are in one file: "colours" or "shapes"."""
        first = self.entries[0]
        if first.colours is not None and first.shapes is not None:
            raise ValueError("colours or shapes for the entries, not both")
        return "colours" if first.colours is not None else "shapes" if first.shapes is not None else None

    def _check_files(self) -> None:
        if self.others or any(isinstance(colour, tuple) for colour in (self._background(), *self.ignore)):
            raise ValueError(
                "background and `ignore` to be numbers, and no `others`, where the entries have no colours"
            )
        _once([self._background(), *self.ignore], "background and `ignore` to have levels of their own, each once")
        places = list(zip(self.folders(), self.suffixes(), strict=True))
        _once(places, "every entry to have a folder or a suffix of its own")

    def _check_colours(self) -> None:
        colours = [colour for entry in self.entries for colour in entry.colours or ()]
        special = [self._background(), *self.ignore, *self.others]
        if len({isinstance(colour, int) for colour in (*colours, *special)}) > 1:
            raise ValueError('colours, background and ignore to be all numbers, or all "#rrggbb"')
        _once(special, "background, `ignore` and `others` to have colours of their own, each once")
        if set(special) & set(colours):
            raise ValueError("entries to have other colours than background, `ignore` and `others`")
        if self.exclusive:
            _once(colours, "every entry to have colours of its own where they exclude each other")

    def _check_shapes(self) -> None:
        if self.background is not None or self.ignore or self.others:
            raise ValueError("no background, `ignore` and `others` where the entries have shapes")
        named = [name for entry in self.entries for name in entry.shapes or ()]
        special = [*self.ignore_shapes, *self.other_shapes]
        _once(special, "`ignore_shapes` and `other_shapes` to have names of their own, each once")
        if set(special) & set(named):
            raise ValueError("entries to have other shapes than `ignore_shapes` and `other_shapes`")
        if self.exclusive:
            _once(named, "every entry to have shapes of its own where they exclude each other")

    def _check_within(self) -> None:
        outer = [entry.code for entry in self.entries if entry.within is None]
        for entry in self.entries:
            if entry.within is not None and (self.exclusive or entry.within not in outer):
                raise ValueError(
                    "`within` to name an entry that lies in none itself, of masks that are not exclusive, not "
                    f"{entry.within}"
                )

    @property
    def within(self) -> tuple[tuple[MaskEntry, MaskEntry], ...]:
        """(inner, outer) of each entry that lies inside of another one."""
        by_code = {entry.code: entry for entry in self.entries}
        inner = [entry for entry in self.entries if entry.within is not None]
        return tuple((entry, by_code[entry.within]) for entry in inner if entry.within is not None)

    def folders(self) -> tuple[str, ...]:
        """Of the masks of each entry; a single one where they are in one file."""
        if self._in_one_file:
            return (self.folder,)
        own = f"{self.folder}/{{}}" if len(self.entries) > 1 else self.folder
        return tuple(own.format(entry.code) if entry.folder is None else entry.folder for entry in self.entries)

    def suffixes(self) -> tuple[str, ...]:
        """What the names of masks have behind the pictures', in each of `folders`."""
        if self._in_one_file:
            return (self.suffix or "",)
        return tuple(self.suffix or "" if entry.suffix is None else entry.suffix for entry in self.entries)

    def coding(self) -> Coding:
        """What a file means."""
        if self._in_one_file == "shapes":
            shapes = tuple(entry.shapes or () for entry in self.entries)
            return ShapeCoding(shapes, self.ignore_shapes, self.other_shapes)
        if self._in_one_file == "colours":
            colours = tuple(entry.colours or () for entry in self.entries)
            return ColourCoding(colours, self._background(), self.ignore, self.others)
        background = self._background()
        assert isinstance(background, int)
        return BinaryCoding(background, ignore=tuple(level for level in self.ignore if isinstance(level, int)))

    def _background(self) -> Colour:
        """What is said, else black in the way in which the entries have their colours."""
        if self.background is not None:
            return self.background
        first = next((colour for entry in self.entries for colour in entry.colours or ()), 0)
        return 0 if isinstance(first, int) else (0, 0, 0)


class PointsOutput(_Output):
    """A place for each entry."""

    kind: Literal["points"]
    entries: Annotated[tuple[PointEntry, ...], Field(min_length=1)]
    confidence: bool = False

    def columns(self) -> tuple[str, ...]:
        """x and y of the first entry, of the second, and so on."""
        pairs = [(entry.x or f"{entry.code}_x", entry.y or f"{entry.code}_y") for entry in self.entries]
        return tuple(name for pair in pairs for name in pair)


Output = LabelsOutput | GradesOutput | MasksOutput | PointsOutput


class Vocabulary(_Part):
    """A whole task: what pictures it is for, what it looks for, and how each finding is called and counted."""

    name: Line
    modality: Modality
    condition: Line = "retinal disease"
    source: Line | None = None
    outputs: Annotated[tuple[Annotated[Output, Field(discriminator="kind")], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> "Vocabulary":
        _once([output.name for output in self.outputs], "every output to have a name of its own")
        for kinds in ((LabelsOutput, GradesOutput), (MasksOutput,), (PointsOutput,)):
            alike = [code for output in self.outputs if isinstance(output, kinds) for code in output.codes]
            _once(alike, "every code to belong to one output of a kind")
        for code in (code for output in self.outputs for code in output.codes):
            qualified = f"{self.name}:{code}"
            if len(qualified) > CODE_LENGTH or not qualified.isascii() or set("\\ ") & set(qualified):
                raise ValueError(
                    f"name and codes that make at most {CODE_LENGTH} ASCII characters without blank and backslash, as "
                    f"DICOM demands, not {qualified!r}"
                )
        return self

    def columns(self) -> tuple[str, ...]:
        """All columns of the table that hold truth, each once."""
        named = [name for output in self.outputs if not isinstance(output, MasksOutput) for name in output.columns()]
        return tuple(dict.fromkeys(named))


def read_vocabulary(path: str | Path) -> Vocabulary:
    """Reads a vocabulary as at the top of this module.

    Raises:
        DataSetError: the file cannot be read, or a key is unknown, missing or wrong; names the key, the value and what
            was expected.
    """
    return parse_vocabulary(read_toml(path), path)


def read_toml(path: str | Path) -> dict[str, Any]:
    """What is in the file, not yet checked. Raises DataSetError: it cannot be read as TOML."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataSetError(f"{path}: cannot be read as TOML ({error}); expected a vocabulary") from error


def parse_vocabulary(values: Mapping[str, Any], source: str | Path = "the vocabulary") -> Vocabulary:
    """The vocabulary of what `read_toml` gives, or of the same written in Python.

    Args:
        source: where it stands, for messages.

    Raises:
        DataSetError: as `read_vocabulary`.
    """
    try:
        return Vocabulary.model_validate(_tuples(values))
    except ValidationError as error:
        # pydantic counts entries that are wrong as missing ones, too
        errors = [each for each in error.errors() if each["type"] != "too_short" or not each["input"]]
        raise DataSetError(f"{source}: {'; '.join(map(_message, errors))}") from error


def _once(values: Sequence[Any], expected: str) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{expected}, not {repeated[0]!r} twice")


def _tuples(value: Any) -> Any:
    """TOML's arrays as tuples, which is what a frozen model holds."""
    if isinstance(value, Mapping):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _message(error: ErrorDetails) -> str:
    """`outputs[0].entries[1].colour = 3: unknown key`."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in _keys(error["loc"])).lstrip(".")
    if error["type"] == "missing":
        return f"{key}: is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} = {error['input']!r}: unknown key"
    message = error["msg"].removeprefix("Value error, ").removeprefix("expected ")
    if isinstance(error["input"], (dict, _Part)):  # the parts do not fit together
        return f"{key or 'the vocabulary'}: expected {message}"
    return f"{key} = {error['input']!r}: expected {message[0].lower()}{message[1:]}"


def _keys(location: Sequence[int | str]) -> list[int | str]:
    """Without the kind of an output, which pydantic puts behind its number."""
    kinds = ("labels", "grades", "masks", "points")
    return [part for k, part in enumerate(location) if not (k == 2 and location[0] == "outputs" and part in kinds)]
