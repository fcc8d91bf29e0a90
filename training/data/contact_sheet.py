"""Many images on one page, with a line of text beneath each: for eyes to judge what numbers do not show."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["contact_sheet"]

GAP = 8  # px, between and around the images
BACKGROUND, INK = (32, 32, 32), (230, 230, 230)  # dark, as the images are: their black corners should not dominate


def contact_sheet(
    images: Sequence[NDArray[Any]], captions: Sequence[str], columns: int, side: int = 256
) -> NDArray[np.uint8]:
    """A page of images in rows of `columns`, each scaled into a square of `side` pixels, its caption beneath.

    Args:
        images: uint8 RGB, each of any shape (h, w, 3); floats are rounded and clipped to 0-255.
        captions: one per image; "\\n" breaks a line. A line too long for the square loses its middle.

    Returns:
        uint8 RGB of shape (rows·(side + caption + 8) + 8, columns·(side + 8) + 8, 3), without compression; four
        images of side 100 without captions in two columns give (224, 224, 3).

    Raises:
        ValueError: no image, an image of another shape, another number of captions, or fewer than one column.
    """
    if not images or len(captions) != len(images):
        raise ValueError(f"expected a caption for each image. Received: {len(images)} images, {len(captions)} captions")
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1. Received: {columns}")
    columns = min(columns, len(images))
    font: Any = ImageFont.load_default(size=max(10, side // 16))
    ascent, descent = font.getmetrics()
    line_height = ascent + descent
    texts = [[_shortened(line, font, side) for line in caption.splitlines()] for caption in captions]
    cell = side + line_height * max(map(len, texts)) + GAP
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (GAP + columns * (side + GAP), GAP + rows * cell), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for k, (image, lines) in enumerate(zip(images, texts, strict=True)):
        left, top = GAP + k % columns * (side + GAP), GAP + k // columns * cell
        small = _fitted(np.asarray(image), side)
        page.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        for n, line in enumerate(lines):
            draw.text((left, top + side + n * line_height), line, INK, font)
    return np.asarray(page, np.uint8)


def _fitted(image: NDArray[Any], side: int) -> Image.Image:
    """The image with its long side scaled to `side`."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image must have the shape (h, w, 3). Received shape {image.shape}")
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))


def _shortened(text: str, font: Any, width: int) -> str:
    """The text with as much of its middle left out as it takes to fit into `width` pixels."""
    kept = len(text)
    shown = text
    while kept > 0 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
