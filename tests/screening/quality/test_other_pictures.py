"""Ordinary photographs, text and drawings are no pictures of an eye."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.quality import MODALITIES, REDUCED_SIZE, assess

ROOT = Path(__file__).resolve().parents[3]


def text_page(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> np.ndarray:
    page = np.full((700, 500, 3), paper, np.uint8)
    for line in range(24):
        cv2.putText(
            page, "A missing result is never a negative one.", (20, 40 + 26 * line), 0, 0.6, ink, 1, cv2.LINE_AA
        )
    return page


def ordinary() -> dict[str, np.ndarray]:
    china, flower = load_sample_images().images
    photograph = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return {
        "china": china,
        "flower": flower,
        "a woman": read_image(photograph).pixels,
        "black on white": text_page((255, 255, 255), (0, 0, 0)),
        "brown on yellow": text_page((235, 170, 90), (90, 40, 20)),
        "white on red": text_page((150, 40, 20), (255, 250, 240)),
        **{name: read_image(ROOT / "docs" / "figures" / name).pixels for name in ("web-result.png", "cip_scores.png")},
    }


@pytest.mark.parametrize("modality", MODALITIES)
def test_ordinary_photographs_and_text_are_refused(modality: str) -> None:
    rng = np.random.default_rng(2)
    for name, image in ordinary().items():
        height, width = image.shape[:2]
        side = min(height, width) * 2 // 3
        corners = [(int(rng.integers(height - side)), int(rng.integers(width - side))) for _ in range(4)]
        for each in [image, *(image[y : y + side, x : x + side] for y, x in corners)]:
            quality = assess(np.ascontiguousarray(each), None, modality)
            assert quality.verdict == "not_analysed", (name, quality)


def test_the_reason_tells_a_document_from_a_photograph() -> None:
    page, china = ordinary()["black on white"], ordinary()["china"]
    for modality in MODALITIES:
        assert assess(page, None, modality).reasons[0].startswith("A document or a drawing, grey and")
        assert assess(china, None, modality).reasons[0].startswith("An ordinary photograph")


def test_a_cut_out_of_a_photograph_of_the_retina_shows_no_edge(shared: Path) -> None:
    file = sorted((shared / "fundus" / "hei_med" / "images").glob("*.jpg"))[0]
    image = read_image(file, min_side=REDUCED_SIZE).pixels
    assert assess(image, None, "colour_fundus").verdict == "gradable"
    quality = assess(np.ascontiguousarray(image[240:680, 300:740]), None, "colour_fundus")
    assert quality.verdict == "not_analysed"
    assert [(each.measure, each.limit) for each in quality.shortfalls] == [("corners", 0.5)]
