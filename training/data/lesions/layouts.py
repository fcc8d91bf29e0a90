"""Where public data keeps its pictures and the masks of their lesions.

None of it was at hand but IDRiD's masks in colours. The folders, names and values of the others are those on which
public readers of each agree, among them some whose authors had counted the files; their numbers are given.

idrid               IDRiD (Porwal et al., Data 2018): 54 pictures for training, 27 for test, none for validation. A mask
                    is black and one other value, as black and white, palette or colour. A picture has a file for each
                    lesion that it shows: of the 54, 54 have MA and EX, 53 HE, 26 SE. A missing file is an empty mask.
idrid_colours       IDRiD's masks as they are passed on, one picture for all: images/, masks/. White MA, red HE, blue
                    EX, green SE, yellow the optic disc. Where two meet the colours were added modulo 256 (checked on 20
                    pictures: all six mixtures there are such sums, and lie between the two).
hei_med_levels      HEI-MED's masks as they are passed on, in grey levels: images/, lesion/. 1 is an exudate, 2 another
                    bright lesion, 3 to 5 others, which are marked in a few pictures alone: they count as background of
                    the exudates. Non-commercial: no network that is shipped may learn from it.
ddr                 DDR (Li et al., Information Sciences 2019): 383, 149 and 225 pictures; masks are 0 and 255. Every
                    picture has a file of each lesion, so where one is missing nothing is known. The masks for
                    validation are in "segmentation label", those of the others in "label".
e_ophtha            e-ophtha (Decencière et al., IRBM 2013): a folder for each patient. e-ophtha EX: 47 pictures with
                    exudates, 35 without; MA: 148 with microaneurysms or other small red lesions, 233 without. In each
                    part the other lesion was not marked; a picture may be in both. The folders are spelled e_optha.
retinal_lesions     Retinal-Lesions (Wei et al., ICPR 2020; its page was read): 1,593 pictures of Kaggle's diabetic
                    retinopathy data, both eyes of a patient among them, 896 px. 255 is a lesion, 127 a mark that does
                    not follow the guidelines, left out there and here. A missing file is an empty mask: 17 pictures
                    have none at all. The grades of the same annotators are in dr_grades.csv.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from training.data.files.mask_codings import BinaryCoding, Colour, ColourCoding
from training.data.files.mask_files import Absent

__all__ = ["LAYOUTS", "GradeTable", "Layout", "Part"]


@dataclass(frozen=True)
class Part:
    """Some pictures, and where the masks of their lesions are.

    `pictures`: their folder. `masks`: {lesion: the folder of its masks, and the suffix of their names}. All folders are
    below that of the data; where copies differ, several names stand, the most usual first. `free_of`: lesions that no
    picture here has. `split`: the set they are in; None: no set is given.
    """

    pictures: tuple[str, ...]
    masks: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    free_of: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class GradeTable:
    """A file with a picture's name in one column and its grade, 0 to 4, in another."""

    file: str
    name: str
    grade: str


@dataclass(frozen=True)
class Layout:
    """`source`: whose data, and its terms where they are known. `roots`: below the data's folder, where it may lie.

    `colours`: those of each lesion where all are in one file, of which `others` are not asked for; else `coding` says
    what the pixels of a lesion's own file mean. `without_mask`: what a missing file means. `patient`: whose picture it
    is, by its name; None: that is not said.
    """

    source: str
    parts: tuple[Part, ...]
    without_mask: Absent
    roots: tuple[str, ...] = ("",)
    coding: BinaryCoding = field(default_factory=BinaryCoding)
    colours: Mapping[str, tuple[Colour, ...]] = field(default_factory=dict)
    others: tuple[Colour, ...] = ()
    patient: Callable[[str], str] | None = None
    grades: GradeTable | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """The lesions that are marked in some of its pictures."""
        return tuple(dict.fromkeys(code for part in self.parts for code in (*part.masks, *part.free_of)))

    @property
    def has_sets(self) -> bool:
        return any(part.split is not None for part in self.parts)

    def coding_of(self, lesions: tuple[str, ...]) -> BinaryCoding | ColourCoding:
        if not self.colours:
            return self.coding
        asked = tuple(self.colours.get(code, ()) for code in lesions)
        rest = {colour for colours in self.colours.values() for colour in colours} - {c for each in asked for c in each}
        return ColourCoding(asked, (0, 0, 0), others=(*self.others, *sorted(rest, key=str)))


def _idrid(folder: str, split: str) -> Part:
    places = {"MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard Exudates", "SE": "4. Soft Exudates"}
    truth = f"2. All Segmentation Groundtruths/{folder}"
    masks = {code: ((f"{truth}/{place}",), f"_{code}") for code, place in places.items()}
    return Part((f"1. Original Images/{folder}",), masks, split=split)


def _ddr(folder: str, split: str, *labels: str) -> Part:
    places = {code: tuple(f"{folder}/{each}/{code}" for each in labels) for code in ("MA", "HE", "EX", "SE")}
    return Part((f"{folder}/image",), {code: (place, "") for code, place in places.items()}, split=split)


def _e_ophtha(code: str, suffix: str) -> tuple[Part, Part]:
    def below(name: str) -> tuple[str, ...]:
        tops = (f"e_optha_{code}", f"e_ophtha_{code}", f"e_ophtha_{code}/e_optha_{code}")
        return tuple(f"{top}/{name}" for top in tops)

    marked = Part(below(code), {code: (below(f"Annotation_{code}"), suffix)})
    return marked, Part(below("healthy"), free_of=(code,))


_RETINAL_LESIONS = {
    "MA": "microaneurysm",
    "HE": "retinal_hemorrhage",
    "EX": "hard_exudate",
    "SE": "cotton_wool_spots",
    "VHE": "vitreous_hemorrhage",
    "PHE": "preretinal_hemorrhage",
    "NV": "neovascularization",
    "FIP": "fibrous_proliferation",
}

_PURE = {"MA": (255, 255, 255), "HE": (255, 0, 0), "EX": (0, 0, 255), "SE": (0, 255, 0), "": (255, 255, 0)}  # "": disc


def _idrid_colours() -> dict[str, tuple[Colour, ...]]:
    """Of each lesion its own colour, and the sums with each of the others but for those that another one has alone."""
    colours: dict[str, list[Colour]] = {code: [pure] for code, pure in _PURE.items()}
    for pair in combinations(_PURE, 2):
        red, green, blue = (sum(channel) % 256 for channel in zip(*(_PURE[code] for code in pair), strict=True))
        if (red, green, blue) not in _PURE.values():
            for code in pair:
                colours[code].append((red, green, blue))
    return {code: tuple(each) for code, each in colours.items()}


_COLOURS = _idrid_colours()
_DISC = _COLOURS.pop("")
_IDRID = "IDRiD (Porwal et al., Data 2018; CC BY 4.0)"

LAYOUTS: dict[str, Layout] = {
    "idrid": Layout(
        _IDRID,
        (_idrid("a. Training Set", "train"), _idrid("b. Testing Set", "test")),
        without_mask="empty",
        roots=("", "A. Segmentation"),
        coding=BinaryCoding(coloured=True),
    ),
    "idrid_colours": Layout(
        _IDRID,
        (Part(("images",), dict.fromkeys(_COLOURS, (("masks",), ""))),),
        without_mask="unknown",
        colours=_COLOURS,
        others=_DISC,
    ),
    "hei_med_levels": Layout(
        "HEI-MED (Giancardo et al., Medical Image Analysis 2012; non-commercial research)",
        (Part(("images",), {"EX": (("lesion",), "")}),),
        without_mask="unknown",
        colours={"EX": ((1, 1, 1),)},
        others=tuple((level, level, level) for level in (2, 3, 4, 5)),
    ),
    "ddr": Layout(
        "DDR (Li et al., Information Sciences 2019)",
        (
            _ddr("train", "train", "label"),
            _ddr("valid", "validation", "segmentation label", "label"),
            _ddr("test", "test", "label"),
        ),
        without_mask="unknown",
        roots=("", "lesion_segmentation", "DDR-dataset/lesion_segmentation"),
    ),
    "e_ophtha": Layout(
        "e-ophtha (Decencière et al., IRBM 2013)",
        (*_e_ophtha("EX", "_EX"), *_e_ophtha("MA", "")),
        without_mask="unknown",
        patient=lambda name: name.partition("/")[0],
    ),
    "retinal_lesions": Layout(
        "Retinal-Lesions (Wei et al., ICPR 2020; given on request)",
        (
            Part(
                ("images_896x896", "image"),
                {code: (("lesion_segs_896x896",), f"/{name}") for code, name in _RETINAL_LESIONS.items()},
            ),
        ),
        without_mask="empty",
        roots=("", "retinal-lesions-v20191227"),
        coding=BinaryCoding(structure=255, ignore=(127,)),
        patient=lambda name: f"kaggle-{name.rpartition('_')[0]}",
        grades=GradeTable("dr_grades.csv", "image id", "our label"),
    ),
}
