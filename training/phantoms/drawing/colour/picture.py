"""The three colour planes that a photograph is painted on."""

import numpy as np

from training.phantoms.drawing.canvas import Picture

__all__ = ["ColourPicture"]

# Blue of what is painted as a share of its green: over the field, 0.45 to 0.61 in half of the normal eyes of PALM.
BLUE_SHARE = 0.55


class ColourPicture(Picture):
    """Red, green and blue while they are painted. What is painted by its red and green has its blue from its green."""

    def __init__(self, red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
        super().__init__(red, green)
        self.blue = blue

    def window(self, window: tuple[slice, slice]) -> "ColourPicture":
        return ColourPicture(self.red[window], self.green[window], self.blue[window])

    def multiply(self, red: np.ndarray, green: np.ndarray) -> None:
        super().multiply(red, green)
        self.blue *= green

    def blend(self, weight: np.ndarray, red: np.ndarray | float, green: np.ndarray | float) -> None:
        super().blend(weight, red, green)
        self.blue += weight * (BLUE_SHARE * green - self.blue)

    def cover(self, weight: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Move towards a colour (red, green, blue) by a weight plane in 0..1: what has a blue of its own."""
        for plane, value in zip((self.red, self.green, self.blue), colour, strict=True):
            plane += weight * (np.float32(value) - plane)

    def veil(self, weight: np.ndarray, colour: np.ndarray) -> None:
        """Add light of a colour (red, green, blue) by a weight plane: what shines back from in front of the retina."""
        self.red += weight * np.float32(colour[0])
        self.green += weight * np.float32(colour[1])
        self.blue += weight * np.float32(colour[2])
