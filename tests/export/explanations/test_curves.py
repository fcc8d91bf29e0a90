import cv2
import numpy as np
import pytest

from export.explanations.curves import STEPS, Seen, blurred, curve_images, curves, order_of

SIZE = 84


def picture() -> np.ndarray:
    """A grey disc on black, with a white spot in the cell (1, 3) of seven."""
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    cv2.circle(square, (42, 42), 40, (90, 90, 90), -1)
    square[14:22, 38:46] = 255
    return square


def spot_seen(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that looks at the spot alone: how white it is."""
    seen = images[:, 14:22, 38:46].mean(axis=(1, 2, 3)) / 255
    return np.stack([0 * seen, seen], axis=-1).astype(np.float32), np.zeros((len(images), 7, 7, 2), np.float32)


def test_a_picture_changes_in_order_and_begins_and_ends_whole():
    before, after = picture(), np.full((SIZE, SIZE, 3), 7, np.uint8)
    inside = before[..., 0] > 0
    importance = np.zeros((7, 7), np.float32)
    importance[1, 3] = 1
    order = order_of(importance, inside, np.random.default_rng(0))
    assert sorted(order) == np.flatnonzero(inside).tolist()
    images = curve_images(before, after, order)
    assert images.shape == (STEPS + 1, SIZE, SIZE, 3)
    assert (images[0] == before).all()
    assert (images[-1][inside] == 7).all()
    assert (images[-1][~inside] == 0).all()
    assert (images[1][17:19, 41:43] == 7).all()  # the peak comes first
    changed = [(image != before).any(axis=-1).sum() for image in images]
    assert np.diff(changed) == pytest.approx(inside.sum() / STEPS, abs=1)


def test_blur_brings_in_no_black_from_beside_the_field():
    square = picture()
    inside = square[..., 0] > 0
    soft = blurred(square, inside)
    assert soft[inside].min() >= 89
    assert soft[14:22, 38:46].max() < 130  # the spot is gone
    assert not soft[~inside].any()


def test_a_map_on_what_the_network_uses_beats_centre_and_chance():
    good, bad = np.zeros((7, 7), np.float32), np.zeros((7, 7), np.float32)
    good[1, 3], bad[6, 3] = 1, 1
    seen = [
        Seen(code, 1, f"patient {i}", picture(), each) for i in range(3) for code, each in (("A", good), ("B", bad))
    ]
    found = curves(spot_seen, seen, 100)
    assert list(found) == ["A", "B", "all"]
    of_good, of_bad = found["A"], found["B"]
    assert (of_good.maps, of_good.patients, of_good.sharp) == (3, 3, 1)
    assert of_good.blurred < 0.5
    assert of_good.deletion["map"].value < of_good.deletion["centre"].value
    assert of_good.deletion_differences["random"].high < 0 < of_good.insertion_differences["random"].low
    assert of_bad.deletion["map"].value > of_good.deletion["map"].value
    assert of_bad.insertion["map"].value < of_good.insertion["map"].value
    # The area is the mean of the curve, by the trapezoidal rule.
    curve = np.array(of_good.deletion_curve["map"])
    assert len(curve) == STEPS + 1
    assert of_good.deletion["map"].value == pytest.approx((curve[:-1] + curve[1:]).mean() / 2)
    assert curve[0] == of_good.sharp
    assert curve[-1] == pytest.approx(of_good.blurred)
    assert curves(spot_seen, seen, 100) == found
