"""Tiny folders laid out like the public sets of fundus photographs, of drawn pictures."""

import csv
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.phantoms.photograph import ColourPhantom, render_photograph


def drawn(k: int, label: str | None = None) -> ColourPhantom:
    return render_photograph(k, width=72, label=label, poor=False)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def table(path: Path, header: str, rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def write_palm(root: Path) -> None:
    """The layout of the challenge: classes, foveas and discs of eight pictures to train with, and of four held out."""
    for part, count in (("Training", 8), ("Validation", 4)):
        rows = []
        for k in range(count):
            label = "NHP"[k % 3]
            picture, name = drawn(100 * len(part) + k, label), f"{label if part == 'Training' else 'V'}{k:04}"
            save(root / part / "Images" / f"{name}.jpg", picture.image)
            save(root / part / "Disc Masks" / f"{name}.bmp", np.where(picture.disc_mask, 0, 255).astype(np.uint8))
            x, y = picture.fovea if picture.shows(picture.fovea) else (0, 0)
            rows.append((f"{name}.jpg", x, y, int(label == "P")))
        table(root / part / "Fovea_Location.csv", "imgName,Fovea_X,Fovea_Y,Label", rows)


def write_landmarks(root: Path) -> None:
    """The four folders of the recipe fundus_landmarks."""
    rows = []
    for k in range(10):
        picture = drawn(k)
        save(root / "idrid_fovea_dr" / "images" / f"I{k}.jpg", picture.image)
        places = [point if picture.shows(point) else (0, 0) for point in (picture.fovea, picture.disc_centre)]
        rows.append((f"I{k}.jpg", *places[0], *places[1], "I3" if k == 2 else "", "D1.jpg" if k == 5 else ""))
    columns = "image,fovea_x,fovea_y,disc_x,disc_y,same_picture_as,shared_idrid_file"
    table(root / "idrid_fovea_dr" / "labels.csv", columns, rows)
    rows = []
    for k in range(5):  # a field that is cut off above and below: the native size is 2124 x 2056
        picture = cv2.resize(drawn(50 + k).image, (64, 64))
        picture[[0, -1], 16:48] = 90
        save(root / "palm224" / "val" / f"V{k:04}.png", picture)
        save(root / "palm224" / "train" / f"N{k:04}.png", picture)
        rows.append((f"V{k:04}.png", 1000 + k, 900, 0))
    table(root / "palm224" / "labels.csv", "imgName,Fovea_X,Fovea_Y,Label", rows)
    for k in range(5):
        picture = drawn(80 + k)
        coloured = np.zeros((*picture.disc_mask.shape, 3), np.uint8)
        coloured[picture.disc_mask == 1] = (255, 255, 0)
        coloured[:2, :2] = (255, 0, 0)
        save(root / "idrid" / "images" / f"D{k}.jpg", picture.image)
        save(root / "idrid" / "masks" / f"D{k}.png", coloured)
    for k in range(2):
        picture = drawn(90 + k)
        save(root / "palm_native" / f"H{k}.jpg", picture.image)
    save(root / "palm_native" / "masks" / "H1_mask.png", np.where(picture.disc_mask, 0, 255).astype(np.uint8))


def write_disc_and_cup(root: Path) -> None:
    """Eight pictures with masks of disc and cup, a folder each, as Drishti-GS' smaller form has them."""
    for k in range(8):
        picture = drawn(160 + k)
        save(root / "images" / f"P{k}.jpg", picture.image)
        for name, mask in (("disc", picture.disc_mask), ("cup", picture.cup_mask)):
            save(root / name / f"P{k}.png", 255 * mask)
    table(
        root / "labels.csv", "image,official_split", [(f"P{k}.jpg", "Test" if k % 3 else "Training") for k in range(8)]
    )


def write_grades(root: Path) -> None:
    """Fifteen graded pictures, two of which are also among those of `write_lesions`."""
    rows = []
    for k in range(15):
        save(root / "images" / f"G{k}.jpg", drawn(140 + k).image)
        rows.append((f"G{k}.jpg", k % 5, "G4" if k == 9 else "", f"L{k}.jpg" if k in (2, 3) else ""))
    table(root / "labels.csv", "image,dr_grade,same_picture_as,shared_idrid_file", rows)


def write_lesions(root: Path) -> None:
    """Ten pictures with the masks of four lesions in IDRiD's colours."""
    for k in range(10):
        picture, rng = drawn(120 + k).image.copy(), np.random.default_rng(k)
        coloured = np.zeros_like(picture)
        for colour, tone, radius in (
            ((255, 255, 255), (90, 20, 10), 1),
            ((255, 0, 0), (90, 20, 10), 4),
            ((0, 0, 255), (240, 230, 150), 2),
            ((0, 255, 0), (230, 220, 210), 4),
        ):
            place = tuple(map(int, rng.integers(20, 44, 2)))
            cv2.circle(picture, place, radius, tone, -1)
            cv2.circle(coloured, place, radius, colour, -1)
        save(root / "images" / f"L{k}.jpg", picture)
        save(root / "masks" / f"L{k}.png", coloured)
