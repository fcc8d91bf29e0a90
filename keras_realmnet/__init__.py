"""RealMNet in Keras: pathologic myopia screening in ultra-widefield fundus images.

Names are loaded on first use, so that `keras_realmnet.screening` works where Keras is not installed.
"""

from importlib import import_module

_HOMES = {
    "LinearHead": "models.heads",
    "RealMNet": "models.realmnet",
    "ResidualAttentionHead": "models.heads",
    "TinyViTBackbone": "models.tiny_vit",
    "TinyViTImageClassifier": "models.tiny_vit",
    "load_timm_weights": "weights",
    "transfer_weights": "weights",
}
_MODULES = ("errors", "losses", "models", "screening", "weights")

__all__ = [*_HOMES, *_MODULES]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
