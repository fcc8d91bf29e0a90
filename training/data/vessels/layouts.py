"""Where public data keeps its pictures, the masks of their vessels, and their fields of view.

Masks are black and one other value. Where there is no mask of the field, it is the illuminated part of the picture.
What lies outside of the field nobody looked at.

drive               DRIVE (Staal et al., IEEE TMI 2004): 20 pictures for training and 20 for test, each of another
                    person; TIFF, masks GIF. Older copies have masks of the test pictures, by two observers.
chase_db1           CHASE_DB1 (Fraz et al., IEEE TBME 2012): both eyes of 14 children, two observers, all files in one
                    folder.
chase_db1_folders   The same as it is passed on: images/, vessel/ and vessel_observer2/.
hrf                 HRF (Budai et al., International Journal of Biomedical Imaging 2013): 15 pictures each of healthy
                    eyes, diabetic retinopathy and glaucoma, 3504 x 2336 px.
hrf_av              HRF's pictures with labels of arteries and veins (Hemelings et al. 2019; Chen et al. 2022), of which
                    any is a vessel here; 1024 px wide. Its patients are those of hrf.
idrid_vessel        Pictures of IDRiD (Porwal et al., Data 2018) with masks of vessels whose origin is not known.
av_wide             AV-WIDE (Estrada et al., IEEE TMI 2015): ultra-widefield pictures of 30 people.
folders             Any data as images/, masks/ and, if there is one, fov/; a picture counts as a patient.
"""

from dataclasses import dataclass

__all__ = ["LAYOUTS", "Layout", "Part", "Place"]

COLOUR, ULTRA_WIDEFIELD = "colour_fundus", "uwf_red_green"


@dataclass(frozen=True)
class Place:
    """Masks in the first of `folders` that is there. `name`: what of a picture's name, without its ending, is replaced,
    a regular expression, and by what, so that it is the mask's."""

    folders: tuple[str, ...]
    name: tuple[str, str] = ("$", "")


@dataclass(frozen=True)
class Part:
    """Some pictures, and where the masks of their vessels are, those of the first observer first, and of their fields.

    `pictures`: their folder. All folders are below that of the data; where copies differ, several names stand, the most
    usual first. `only`: a regular expression for the pictures' names without their ending, where other files are
    beside them. `split`: the set they are in; None: no set is given.
    """

    pictures: tuple[str, ...]
    vessels: tuple[Place, ...]
    field: Place | None = None
    only: str = ""
    split: str | None = None


@dataclass(frozen=True)
class Layout:
    """`source`: whose data, and its terms where they are known. `roots`: below the data's folder, where it may lie.

    `patient`: what of a picture's name, without its ending, is replaced, a regular expression, and by what, so that it
    is the patient's id.
    """

    source: str
    parts: tuple[Part, ...]
    patient: tuple[str, str]
    roots: tuple[str, ...] = ("",)
    modality: str = COLOUR

    @property
    def has_sets(self) -> bool:
        return any(part.split is not None for part in self.parts)

    @property
    def observers(self) -> int:
        return max(len(part.vessels) for part in self.parts)


def _drive(folder: str, split: str, *observers: Place) -> Part:
    field = Place((f"{folder}/mask",), ("$", "_mask"))
    return Part((f"{folder}/images",), (Place((f"{folder}/1st_manual",), _DRIVE_MASK), *observers), field, split=split)


def _folders(*masks: str) -> Part:
    return Part(("images",), tuple(Place((name,)) for name in masks), Place(("fov",)))


_DRIVE_MASK = ("_(training|test)$", "_manual1")
_SECOND = Place(("test/2nd_manual",), ("_test$", "_manual2"))
_CHASE = "CHASE_DB1 (Fraz et al., IEEE TBME 2012; CC BY 4.0)"
_CHASE_CHILD = (r"^.*_(\d+)[LR]$", r"chase-\1")
_HRF = "HRF (Budai et al., International Journal of Biomedical Imaging 2013; CC BY 4.0)"
_HRF_EYE = ("^(hrf_)?", "hrf-")

LAYOUTS: dict[str, Layout] = {
    "drive": Layout(
        "DRIVE (Staal et al., IEEE TMI 2004)",
        (_drive("training", "train"), _drive("test", "test", _SECOND)),
        (r"^(\d+).*$", r"drive-\1"),
        roots=("", "DRIVE"),
    ),
    "chase_db1": Layout(
        _CHASE,
        (Part(("",), tuple(Place(("",), ("$", f"_{each}HO")) for each in ("1st", "2nd")), only=r"Image_\d+[LR]"),),
        _CHASE_CHILD,
        roots=("", "CHASEDB1", "CHASE_DB1"),
    ),
    "chase_db1_folders": Layout(_CHASE, (_folders("vessel", "vessel_observer2"),), _CHASE_CHILD),
    "hrf": Layout(
        _HRF,
        (Part(("images",), (Place(("manual1", "masks")),), Place(("mask",), ("$", "_mask"))),),
        _HRF_EYE,
    ),
    "hrf_av": Layout(
        f"{_HRF} with labels of arteries and veins (Hemelings et al. 2019; Chen et al. 2022)",
        (_folders("vessel"),),
        _HRF_EYE,
    ),
    "idrid_vessel": Layout(
        "IDRiD (Porwal et al., Data 2018; CC BY 4.0), masks of vessels of unknown origin",
        (_folders("masks"),),
        ("^", "idrid-"),
    ),
    "av_wide": Layout(
        "AV-WIDE (Estrada et al., IEEE TMI 2015; for research)",
        (_folders("vessel"),),
        ("^", "av-wide-"),
        modality=ULTRA_WIDEFIELD,
    ),
    "folders": Layout("a folder of pictures with masks of vessels", (_folders("masks"),), ("^", "")),
}
