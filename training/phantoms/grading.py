"""The grade of diabetic retinopathy that follows from the lesions of an eye."""

import numpy as np

__all__ = ["icdr_grade"]

MANY = 20  # haemorrhages in a quadrant: more are severe


def icdr_grade(*, microaneurysms: int, haemorrhages: np.ndarray, exudates: int, proliferative: int) -> int:
    """The international clinical scale (Wilkinson et al., Ophthalmology 2003), as far as its signs are drawn.

    0: no abnormality. 1: microaneurysms only. 2: more than that. 3: more than 20 haemorrhages in each of four
    quadrants. 4: new vessels, or haemorrhage in front of the retina. Venous beading and intraretinal microvascular
    abnormalities, the other signs of 3, are not drawn. The scale looks at the whole retina; here the quadrants are
    those of the field.

    Args:
        microaneurysms, exudates (hard and soft ones), proliferative (new vessels, preretinal haemorrhages): how many.
        haemorrhages: (n, 2), each one's place from the middle of the field.
    """
    if proliferative:
        return 4
    right, below = np.asarray(haemorrhages).reshape(-1, 2).T > 0
    if min(np.bincount(2 * right.astype(int) + below, minlength=4)) > MANY:
        return 3
    if len(right) or exudates:
        return 2
    return 1 if microaneurysms else 0
