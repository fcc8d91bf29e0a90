"""A synthetic multi-centre study: phantoms of five sources with different devices and patients, arranged as PSMM.

The sources carry PSMM's names and naming patterns. Each one has its own appearance and prevalence, so that what a
network loses on a source it was not trained on can be measured. Appearances are invented: they stand for the kinds of
difference that devices, exports and patients make, not for these hospitals.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from training.data.label_table import LabelTable, write_label_table
from training.data.psmm import STUDY_STAMP
from training.data.splits import split_patients
from training.phantoms.cohorts import EXPORT_SIZES, PSMM_CELLS, PhantomCase, cohort
from training.phantoms.drawing.device import add_lids
from training.phantoms.files import encode_jpeg, write_images
from training.phantoms.phantom import Phantom

__all__ = ["LISTS", "SOURCES", "Appearance", "Source", "StudyCase", "plan_study", "study_table", "write_study"]

# Where PSMM keeps the list of each split.
LISTS = {
    "train": "ImageSets/Main/MYOPIA/MYOPIA.csv",
    "validation": "ImageSets/Main/val.csv",
    "test": "ImageSets/Main/test.csv",
}


@dataclass(frozen=True)
class Appearance:
    """What a source does to the picture of an eye; the defaults leave it as it is drawn.

    Lengths are in image widths, light is in 0..1.
    """

    gains: tuple[float, float] = (1.0, 1.0)  # of red and green
    blue: float = 0.0  # share of the green light that is seen in blue too: 0 on devices with a red and a green laser
    contrast: float = 1.0  # about the mean colour of the field
    veil: float = 0.0  # scattered light that is added everywhere, by a cataract for one
    gamma: float = 1.0
    vignette: float = 0.0  # loss of light half an image width from the centre
    blur: float = 0.0  # sigma
    resolution: float = 1.0  # of the sensor, relative to the image's
    noise: float = 0.0  # standard deviation
    lids: float = 0.0  # probability of more lids and lashes
    tilt: float = 0.0  # standard deviation, degrees
    eccentricity: float = 0.0  # largest shift of the field, each way
    round_field: float | None = None  # radius of a round mask
    border: tuple[float, float, float] = (0.0, 0.0, 0.0)  # colour outside of that mask
    quality: int = 92  # of the JPEG

    def apply(self, phantom: Phantom, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The phantom's image as this source would show it: uint8 RGB (h, w, 3), of the phantom's size."""
        height, width = phantom.field_mask.shape
        image: NDArray[Any] = phantom.image.astype(np.float32) / 255
        inside: NDArray[Any] = cv2.GaussianBlur(phantom.field_mask.astype(np.float32), (0, 0), 0.004 * width)
        if rng.random() < self.lids:
            image = add_lids(image, inside, rng)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), self.tilt * rng.standard_normal(), 1.0)
        turn[:, 2] += width * self.eccentricity * rng.uniform(-1, 1, 2)
        image, inside = (cv2.warpAffine(plane, turn, (width, height)) for plane in (image, inside))

        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur * width)
        x = (np.arange(width, dtype=np.float32)[None] + 0.5) / width - 0.5
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - 0.5 * height) / width
        distance = np.sqrt(x * x + y * y)
        image = image * (1 - self.vignette * np.minimum(1, (2 * distance) ** 2))[..., None]
        image[..., 2] += self.blue * image[..., 1]
        image *= np.array([*self.gains, 1], np.float32)

        # Within the field only: outside of it the device is dark.
        mean = np.average(image.reshape(-1, 3), axis=0, weights=inside.ravel()).astype(np.float32)
        seen = mean + self.contrast * (image - mean) + self.veil
        seen += self.noise * rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(image + inside[..., None] * (seen - image), 0, 1) ** self.gamma
        if self.resolution < 1:
            small = (round(width * self.resolution), round(height * self.resolution))
            image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))
        if self.round_field is not None:
            border = np.array(self.border, np.float32)
            image = border + np.clip((self.round_field - distance[..., None]) / 0.006, 0, 1) * (image - border)
        return np.round(255 * image).astype(np.uint8)


@dataclass(frozen=True)
class Source:
    """A hospital: its share of the study, its patients, its file names, its exports and its appearance.

    `share` is in percent of the images. `cells` counts the source's images in PSMM by (staphyloma, grade). Patients
    get numbers up to `largest_id`, at least up to as many as they are. `file_name` is a format of `patient`, `eye`,
    `side` (L or R), `moment` of the exam and three counts of images from 1: `of_patient`, `of_eye`, `of_exam` (per
    eye and exam). Of `export_sizes`, (width, height) in pixels, only the aspect is used.
    """

    name: str
    share: int
    cells: Mapping[tuple[bool, int], int]
    patient_id: str
    largest_id: int
    file_name: str
    export_sizes: Sequence[tuple[int, int]]
    appearance: Appearance

    def prevalence(self) -> dict[tuple[bool, int], float]:
        """Frequencies by (staphyloma, grade), half way between the source's own in PSMM and those of PSMM's training
        list: the small sources have too few images here to show, for one, SUSTech's 0.5 % of macular atrophy."""
        own, all_sources = sum(self.cells.values()), sum(PSMM_CELLS.values())
        cells = sorted({*self.cells, *PSMM_CELLS})
        return {cell: (self.cells.get(cell, 0) / own + PSMM_CELLS.get(cell, 0) / all_sources) / 2 for cell in cells}


LISHUI_NAME = "{patient}_{moment:%Y%m%d@%H%M%S}_{side}{of_patient}.jpg"

SOURCES = (
    Source(
        name="ShenzhenEye",
        share=60,
        cells={
            (False, 0): 1661,
            (False, 1): 23699,
            (False, 2): 52,
            (False, 3): 118,
            (True, 1): 4723,
            (True, 2): 5582,
            (True, 3): 2384,
            (True, 4): 703,
        },
        patient_id="ShenzhenEye-{:07d}",
        largest_id=2_999_999,
        file_name="{patient}_{eye}_{moment:%Y-%m-%d}_{of_exam}.jpg",
        export_sizes=EXPORT_SIZES,
        appearance=Appearance(),
    ),
    Source(  # the same kind of device with another colour balance: greener, with more contrast
        name="SUSTech",
        share=12,
        cells={
            (False, 0): 365,
            (False, 1): 2027,
            (True, 1): 247,
            (True, 2): 169,
            (True, 3): 12,
            (True, 4): 15,
        },
        patient_id="SUSTech-{}",
        largest_id=0,
        file_name="{patient}_{of_patient}.jpg",
        export_sizes=((2600, 2048),),
        appearance=Appearance(gains=(0.65, 1.3), contrast=1.3, vignette=0.6, quality=85),
    ),
    Source(  # dark, red and grainy; lids often in the way
        name="LishuiR",
        share=10,
        cells={
            (False, 0): 17,
            (False, 1): 539,
            (True, 1): 146,
            (True, 2): 171,
            (True, 3): 54,
            (True, 4): 11,
        },
        patient_id="LishuiR-{:06d}",
        largest_id=29_999,
        file_name=LISHUI_NAME,
        export_sizes=((3900, 3072),),
        appearance=Appearance(gains=(0.8, 0.45), noise=0.035, lids=0.6, quality=80),
    ),
    Source(  # a device with a blue channel and a round, eccentric field in a grey border
        name="Zhongshan",
        share=9,
        cells={
            (False, 0): 15,
            (False, 1): 145,
            (True, 1): 55,
            (True, 2): 100,
            (True, 3): 104,
            (True, 4): 37,
        },
        patient_id="Zhongshan-{}",
        largest_id=0,
        file_name="{patient}_{of_patient}_{eye}{of_eye}.jpg",
        export_sizes=((4000, 4000), (3900, 3072)),
        appearance=Appearance(
            gains=(1.35, 0.85),
            blue=0.25,
            eccentricity=0.03,
            round_field=0.42,
            border=(0.07, 0.07, 0.08),
            quality=95,
        ),
    ),
    Source(  # small exports of hazy eyes, out of focus, tilted, compressed hard
        name="LishuiZ",
        share=9,
        cells={
            (False, 0): 12,
            (False, 1): 77,
            (True, 1): 43,
            (True, 2): 42,
            (True, 3): 27,
            (True, 4): 19,
        },
        patient_id="LishuiZ-{:06d}",
        largest_id=19_999,
        file_name=LISHUI_NAME,
        export_sizes=((2600, 2048), (4000, 4000)),
        appearance=Appearance(contrast=0.9, veil=0.045, blur=0.0012, resolution=0.7, tilt=8.0, quality=60),
    ),
)


@dataclass(frozen=True)
class StudyCase:
    """One image of the study, not yet drawn; `age` in years at the exam, `sex` "F" or "M"."""

    source: Source
    phantom: PhantomCase
    file_name: str
    age: int
    sex: str

    def render(self, width: int) -> NDArray[np.uint8]:
        """The image at a width in pixels, uint8 RGB (h, w, 3)."""
        rng = np.random.default_rng([*self.phantom.seed, self.phantom.view])
        return self.source.appearance.apply(self.phantom.render(width), rng)

    def jpeg(self, width: int) -> bytes:
        """The image at a width in pixels as the contents of a JPEG file of the source's quality."""
        return encode_jpeg(self.render(width), self.source.appearance.quality)


def plan_study(images: int = 3600, seed: int = 2026) -> list[StudyCase]:
    """The images of the study, source by source; cheap, nothing is drawn.

    A patient has one or two images of each eye. With 3,600 images the sources have 2160, 432, 360, 324 and 324: in
    PSMM they have 38922, 2835, 938, 456 and 220 of 43,371, so its small ones are a smaller part of the whole. Labels
    follow `Source.prevalence`; the rare grades are therefore somewhat more frequent than in PSMM. The default study
    has S0 64, S1 36, A0 4.4, A1 71, A2 15, A3 6.7 and A4 2.6 % (PSMM's training list: 65, 35, 4.7, 73, 14, 6.3 and
    1.9 %), and at least 16 test images of every label.

    Raises:
        ValueError: fewer than 100 images.
    """
    if images < 100:
        raise ValueError(f"a study has at least 100 images. Received: {images}")
    cases: list[StudyCase] = []
    for number, source in enumerate(SOURCES):
        wanted = images * source.share // 100 if number else images - sum(images * s.share // 100 for s in SOURCES[1:])
        patients = wanted // 3
        drawn: list[PhantomCase] = []
        while len(drawn) < wanted:
            drawn = cohort(patients, 10 * seed + number, source.prevalence(), images_per_eye=(1, 2))
            patients += 1
        cases += _named(source, drawn[:wanted], np.random.default_rng([seed, number]))
    return cases


def _named(source: Source, drawn: Sequence[PhantomCase], rng: np.random.Generator) -> Iterator[StudyCase]:
    """A source's images under its patients' ids and with its naming; ages and sexes, which the images do not show."""
    groups = [list(group) for _, group in groupby(drawn, key=attrgetter("patient_id"))]
    ids = 1 + rng.choice(max(source.largest_id, len(groups)), len(groups), replace=False)
    for group, number in zip(groups, ids.tolist(), strict=True):
        patient = source.patient_id.format(number)
        sex = str(rng.choice(["F", "M"], p=[0.55, 0.45]))
        # Maculopathy progresses with age (Hayashi et al., Ophthalmology 2010).
        age = float(np.clip(rng.normal(28 + 7 * max(case.grade for case in group), 11), 6, 85))
        first = min(date.fromisoformat(case.date) for case in group)
        for of_patient, case in enumerate(group, start=1):
            day = date.fromisoformat(case.date)
            # One exam has one time: it follows from the day, 8:00 to 17:00.
            moment = datetime.combine(day, time(8)) + timedelta(seconds=day.toordinal() * 7919 % (9 * 3600))
            wide, high = source.export_sizes[int(rng.integers(len(source.export_sizes)))]
            name = source.file_name.format(
                patient=patient,
                eye=case.eye,
                side="R" if case.eye == "OD" else "L",
                moment=moment,
                of_patient=of_patient,
                of_eye=case.view + 1,
                of_exam=case.index,
            )
            yield StudyCase(
                source=source,
                phantom=replace(case, patient_id=patient, aspect=high / wide),
                file_name=name,
                age=int(age + (day - first).days / 365.25),
                sex=sex,
            )


def study_table(cases: Sequence[StudyCase]) -> LabelTable:
    """The cases as a label list with the extra columns age and sex."""
    return LabelTable(
        labels=np.array([case.phantom.labels for case in cases], np.uint8),
        names=np.array([case.file_name for case in cases]),
        patients=np.array([case.phantom.patient_id for case in cases]),
        origins=np.array([f"image {k} of the study" for k in range(1, len(cases) + 1)]),
        extra={
            "age": np.array([str(case.age) for case in cases]),
            "sex": np.array([case.sex for case in cases]),
        },
    )


def write_study(
    out: str | Path, images: int = 3600, width: int = 192, seed: int = 2026, workers: int | None = None
) -> None:
    """Write a study as PSMM is laid out: `JPEGImages/*.jpg` and, when all of them are there, the lists of `LISTS`.

    An interrupted run continues where it was. `study.json` holds what the study was made from.

    Args:
        out: folder for the study.
        images: number of images. With fewer than about 1,200 a split in three may lack patients of the rarest label.
        width: of the images, pixels.
        seed: of everything, also of the split: patient-disjoint 7 : 1.5 : 1.5.
        workers: processes; None is one per core.

    Raises:
        DataSetError: the folder holds another study, or the patients are too few to split.
        ValueError: fewer than 100 images.
    """
    out = Path(out)
    cases = plan_study(images, seed)
    # The first image of each source tells whether the same code drew the images that are already there.
    firsts = [next(case for case in cases if case.source is source) for source in SOURCES]
    drawn = hashlib.sha256(b"".join(case.jpeg(width) for case in firsts)).hexdigest()[:16]
    facts = {"images": images, "width": width, "seed": seed, "drawn": drawn}
    stamp = out / STUDY_STAMP
    if stamp.is_file() and (found := json.loads(stamp.read_text())) != facts:
        raise DataSetError(f"{stamp}: this folder holds another study; expected {facts}. Found: {found}")
    splits = split_patients(study_table(cases), seed)
    out.mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps(facts, indent=1) + "\n")
    write_images(cases, out / "JPEGImages", width, workers)
    for split, path in LISTS.items():
        write_label_table(out / path, splits[split])
