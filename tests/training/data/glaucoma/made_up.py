"""Tiny folders laid out like the public sets of pictures with disc and cup, of made-up pictures."""

from pathlib import Path

import cv2
import numpy as np
from openpyxl import Workbook
from PIL import Image

WIDTH, HEIGHT = 60, 50


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(path: Path, tone: int = 120, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    width, height = size
    pixels = np.full((height, width, 3), (tone, tone // 2, tone // 4), np.uint8)
    save(path, pixels)
    return pixels


def levels(disc: int = 12, cup: int = 6) -> np.ndarray:
    """A mask as REFUGE has it: a square disc of so many pixels with a cup at its lower right."""
    pixels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    pixels[10 : 10 + disc, 20 : 20 + disc] = 128
    pixels[10 + disc - cup : 10 + disc, 20 + disc - cup : 20 + disc] = 0
    return pixels


def workbook(path: Path, *rows: tuple) -> None:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def write_refuge(root: Path) -> None:
    """Two pictures to train with, one for validation, two for test, as the archives of REFUGE unpack."""
    annotation = root / "Annotation-Training400" / "Annotation-Training400"
    for name, kind in (("g0001", "Glaucoma"), ("n0001", "Non-Glaucoma")):
        picture(root / "Training400" / kind / f"{name}.jpg")
        save(annotation / "Disc_Cup_Masks" / kind / f"{name}.bmp", levels(cup=9 if kind == "Glaucoma" else 3))
        picture(annotation / "Disc_Cup_Fovea_Illustration" / kind / f"{name}.jpg")
    workbook(
        annotation / "Fovea_location.xlsx",
        ("ID", "ImgName", "Fovea_X", "Fovea_Y"),
        (1, "g0001.jpg", 31.25, 20),
        (2, "n0001.jpg", 0, 0),
    )
    picture(root / "REFUGE-Validation400" / "V0001.jpg")
    save(root / "REFUGE-Validation400-GT" / "Disc_Cup_Masks" / "V0001.bmp", levels())
    workbook(
        root / "REFUGE-Validation400-GT" / "Fovea_locations.xlsx",
        ("ID", "ImgName", "Glaucoma Label", "Fovea_X", "Fovea_Y"),
        (1, "V0001.jpg", 1, 40, 30.5),
    )
    for name in ("T0001", "T0002"):
        picture(root / "Test400" / f"{name}.jpg")
    save(root / "REFUGE-Test-GT" / "Disc_Cup_Masks" / "G" / "T0001.bmp", levels())
    workbook(
        root / "REFUGE-Test-GT" / "Glaucoma_label_and_Fovea_location.xlsx",
        ("ID", "ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"),
        (1, "T0001.jpg", 1, 11, 12),
        (2, "T0002.jpg", 0, None, None),
    )


def ellipse(centre: tuple[float, float], axes: tuple[float, float], angle: float, shape: tuple[int, int]) -> np.ndarray:
    """bool (h, w): the pixels whose centre lies inside; `axes`: half ones."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turn = np.deg2rad(angle)
    dx, dy = x - centre[0], y - centre[1]
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return (u / axes[0]) ** 2 + (v / axes[1]) ** 2 <= 1


def drawn_on(pixels: np.ndarray, *ellipses: tuple, colour=(20, 20, 20), thickness: int = 2) -> np.ndarray:
    """A copy with the outlines of ellipses, (centre, half axes, angle) each."""
    marked = pixels.copy()
    for centre, axes, angle in ellipses:
        cv2.ellipse(marked, (centre, tuple(2 * each for each in axes), angle), colour, thickness, cv2.LINE_AA)
    return marked


def write_riga(root: Path, pictures: int = 2, annotators: int = 3) -> None:
    """Pictures with the outlines of some annotators, whose discs differ by two pixels."""
    for k in range(1, pictures + 1):
        place = root / "MESSIDOR"
        pixels = picture(place / f"image{k}prime.tif", 150 + k, (120, 100))
        for who in range(1, annotators + 1):
            disc, cup = ((60, 50), (28 + 2 * who, 30), 0), ((60, 50), (14, 12), 0)
            name = f"{'Image' if who == 1 else 'image'}{k}-{who}.tif"
            save(place / name, drawn_on(pixels, disc, cup))


def write_drishti_gs(root: Path) -> None:
    """As it is given: two pictures to train with, one for test; levels of four experts."""
    for part, truth, kind, name in (
        ("Training", "GT", "GLAUCOMA", "drishtiGS_002"),
        ("Training", "GT", "NORMAL", "drishtiGS_004"),
        ("Test", "Test_GT", "", "drishtiGS_001"),
    ):
        picture(root / part / "Images" / kind / f"{name}.png")
        for suffix, low in (("ODsegSoftmap", 10), ("cupsegSoftmap", 20)):
            soft = np.zeros((HEIGHT, WIDTH), np.uint8)
            for level in (64, 127, 191, 255):  # one expert after the other, each two pixels smaller
                soft[low : low + 16, low : low + 16], low = level, low + 2
            save(root / part / truth / name / "SoftMap" / f"{name}_{suffix}.png", soft)
