"""Synthetic cohorts: which patients, eyes and images there are, with the frequencies of PSMM or others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from training.data.label_table import LabelTable, write_label_table
from training.phantoms.files import encode_jpeg, write_images
from training.phantoms.phantom import Phantom, label_vector, render

__all__ = ["EXPORT_SIZES", "PSMM_CELLS", "PhantomCase", "cohort", "write_psmm_tree"]

# Images of PSMM's training list by (staphyloma, grade): the imbalance and the co-occurrence that cohort() follows.
PSMM_CELLS = {
    (False, 0): 1436,
    (False, 1): 18327,
    (False, 2): 35,
    (False, 3): 75,
    (True, 1): 3821,
    (True, 2): 4322,
    (True, 3): 1836,
    (True, 4): 568,
}
BALANCED_CELLS = {(staphyloma, grade): 1 for staphyloma in (False, True) for grade in range(5)}
CELLS = {"psmm": PSMM_CELLS, "balanced": BALANCED_CELLS}

# Sizes of the devices' exports, (width, height): only the aspect is used.
EXPORT_SIZES = ((3900, 3072), (2600, 2048), (4000, 4000))


@dataclass(frozen=True)
class PhantomCase:
    """One image of a cohort, not yet rendered.

    `seed` is the eye's, `view` numbers the image among those of the eye, `index` is the number in the file name
    (counted per patient, eye and date), `date` is ISO, `labels` follow `PSMM.codes`, `aspect` is height / width.
    """

    patient_id: str
    eye: str
    date: str
    index: int
    labels: tuple[int, ...]
    seed: tuple[int, ...]
    view: int
    aspect: float

    @property
    def file_name(self) -> str:
        return f"{self.patient_id}_{self.eye}_{self.date}_{self.index}.jpg"

    @property
    def staphyloma(self) -> bool:
        return bool(self.labels[1])

    @property
    def grade(self) -> int:
        return self.labels.index(1, 2) - 2

    def render(self, width: int) -> Phantom:
        """The image at a width in pixels; see `render`."""
        return render(
            self.seed,
            width=width,
            height=round(width * self.aspect),
            staphyloma=self.staphyloma,
            grade=self.grade,
            eye=self.eye,
            view=self.view,
        )

    def jpeg(self, width: int) -> bytes:
        """The image at a width in pixels as the contents of a JPEG file of quality 92."""
        return encode_jpeg(self.render(width).image, 92)


def cohort(
    patients: int,
    seed: int,
    imbalance: str | Mapping[tuple[bool, int], float] = "psmm",
    images_per_eye: tuple[int, int] = (1, 4),
) -> list[PhantomCase]:
    """The images of a synthetic cohort, in the order of patients; cheap, nothing is rendered.

    Args:
        patients: number of patients, each with two eyes. Ids count from PHANTOM-0001; cohorts of different seeds
            share ids but no eye.
        seed: of everything.
        imbalance: "psmm" follows the joint frequencies of staphyloma and grade in PSMM's training list; "balanced"
            has all grades equally often, with staphyloma in half of each; or weights by (staphyloma, grade).
        images_per_eye: least and most images of an eye, drawn uniformly. PSMM's patients have 9.5 images on average.

    Four of five patients have the same labels in both eyes; a fifth draws the second eye anew, as often as in PSMM.

    Raises:
        ValueError: unknown imbalance, or fewer than one patient or image.
    """
    if isinstance(imbalance, str):
        if imbalance not in CELLS:
            raise ValueError(f"imbalance is one of {', '.join(CELLS)} or weights. Received: {imbalance!r}")
        imbalance = CELLS[imbalance]
    if patients < 1 or not 1 <= images_per_eye[0] <= images_per_eye[1]:
        raise ValueError(
            f"A cohort has at least one patient and one image per eye. Received: {patients}, {images_per_eye}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    cells = list(imbalance)
    edges = np.cumsum(list(imbalance.values())) / sum(imbalance.values())
    # Stratified draws: the cohort's frequencies are as close to the wanted ones as its size allows.
    first, second = (np.searchsorted(edges, (rng.permutation(patients) + rng.random()) / patients) for _ in range(2))
    cases = []
    for number in range(patients):
        patient_id = f"PHANTOM-{number + 1:04d}"
        visit = date(2019, 1, 7) + timedelta(days=int(rng.integers(0, 2000)))
        differs = rng.random() < 0.2
        swap = rng.random() < 0.5
        pair = [cells[first[number]], cells[second[number] if differs else first[number]]]
        for eye_number, eye in enumerate(("OD", "OS")):
            staphyloma, grade = pair[eye_number ^ swap]
            count = int(rng.integers(images_per_eye[0], images_per_eye[1] + 1))
            later = visit + timedelta(days=int(rng.integers(90, 700)))
            first_visit = int(rng.integers(1, count + 1))
            for view in range(count):
                on_first = view < first_visit
                wide, high = EXPORT_SIZES[rng.choice(len(EXPORT_SIZES), p=[0.55, 0.25, 0.2])]
                cases.append(
                    PhantomCase(
                        patient_id=patient_id,
                        eye=eye,
                        date=(visit if on_first else later).isoformat(),
                        index=1 + (view if on_first else view - first_visit),
                        labels=tuple(int(value) for value in label_vector(staphyloma, grade)),
                        seed=(seed, number, eye_number),
                        view=view,
                        aspect=high / wide,
                    )
                )
    return cases


def write_psmm_tree(
    cases: Sequence[PhantomCase],
    directory: str | Path,
    width: int,
    workers: int | None = None,
    labels_csv: str = "ImageSets/Main/MYOPIA/MYOPIA.csv",
) -> Path:
    """Write cases as PSMM is laid out: `JPEGImages/*.jpg` and a label list. Returns the path of the list.

    See `write_images` for `width`, `workers`, what happens to images that exist, and what is raised.
    """
    directory = Path(directory)
    write_images(cases, directory / "JPEGImages", width, workers)
    path = directory / labels_csv
    table = LabelTable(
        labels=np.array([case.labels for case in cases], np.uint8),
        names=np.array([case.file_name for case in cases]),
        patients=np.array([case.patient_id for case in cases]),
        origins=np.array([str(path)] * len(cases)),
    )
    write_label_table(path, table)
    return path
