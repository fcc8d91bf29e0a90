"""Small images on the disk for the data sets to find."""

import cv2
import numpy as np

from keras_realmnet.screening.preprocessing import PreprocessSpec

SPEC = PreprocessSpec(size=32)


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(60, 200, (48, 48, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return image
