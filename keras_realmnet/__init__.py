"""RealMNet in Keras: pathologic myopia screening in ultra-widefield fundus images.

Names are loaded on first use, so that `keras_realmnet.screening` works where Keras is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers
    from keras_realmnet import errors, losses, models, screening, weights
    from keras_realmnet.models.baselines import Baseline
    from keras_realmnet.models.heads import LinearHead, ResidualAttentionHead
    from keras_realmnet.models.map_offset import measure_map_offset
    from keras_realmnet.models.realmnet import RealMNet
    from keras_realmnet.models.tiny_vit import TinyViTBackbone, TinyViTImageClassifier
    from keras_realmnet.weights import load_timm_weights, transfer_weights

_HOMES = {
    "Baseline": "models.baselines",
    "LinearHead": "models.heads",
    "RealMNet": "models.realmnet",
    "ResidualAttentionHead": "models.heads",
    "TinyViTBackbone": "models.tiny_vit",
    "TinyViTImageClassifier": "models.tiny_vit",
    "load_timm_weights": "weights",
    "measure_map_offset": "models.map_offset",
    "transfer_weights": "weights",
}
_MODULES = ("errors", "losses", "models", "screening", "weights")

__all__ = [
    "Baseline",
    "LinearHead",
    "RealMNet",
    "ResidualAttentionHead",
    "TinyViTBackbone",
    "TinyViTImageClassifier",
    "errors",
    "load_timm_weights",
    "losses",
    "measure_map_offset",
    "models",
    "screening",
    "transfer_weights",
    "weights",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
