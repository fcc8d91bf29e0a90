import keras
import numpy as np
import pytest

from keras_realmnet import RealMNet, ResidualAttentionHead, TinyViTBackbone


@pytest.fixture(scope="session")
def small_model():
    """A RealMNet of 64 px with weights that respond to the image, as trained ones do."""
    keras.utils.set_random_seed(11)
    backbone = TinyViTBackbone(
        64, embed_dims=(16, 32, 64, 64), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), name="backbone"
    )
    model = RealMNet(backbone, ResidualAttentionHead(7, name="head"), name="small")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "gamma":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name == "attention_biases":
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture(scope="session")
def pictures():
    """uint8 (12, 64, 64, 3): noise at several scales."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (12, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (0.7 * coarse + 0.3 * rng.integers(0, 256, (12, 64, 64, 3))).astype("uint8")
