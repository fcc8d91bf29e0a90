"""RealMNet in Keras: pathologic myopia screening in ultra-widefield fundus images.

Names are loaded on first use, so that `keras_realmnet.screening` works where Keras is not installed. Where Keras is
used, importing this package, before Keras or after it, is enough for `keras.saving.load_model` to know our classes.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers
    from keras_realmnet import errors, losses, models, schedules, screening, weights
    from keras_realmnet.models.baselines.baseline import Baseline
    from keras_realmnet.models.layers.heads import LinearHead, ResidualAttentionHead
    from keras_realmnet.models.map_offset import measure_map_offset
    from keras_realmnet.models.realmnet import RealMNet
    from keras_realmnet.models.tiny_vit import TinyViTBackbone, TinyViTImageClassifier
    from keras_realmnet.schedules import WarmupCosine
    from keras_realmnet.weights import load_timm_weights, transfer_weights

_HOMES = {
    "Baseline": "models.baselines.baseline",
    "LinearHead": "models.layers.heads",
    "RealMNet": "models.realmnet",
    "ResidualAttentionHead": "models.layers.heads",
    "TinyViTBackbone": "models.tiny_vit",
    "TinyViTImageClassifier": "models.tiny_vit",
    "WarmupCosine": "schedules",
    "load_timm_weights": "weights",
    "measure_map_offset": "models.map_offset",
    "transfer_weights": "weights",
}
_MODULES = ("errors", "losses", "models", "schedules", "screening", "weights")
# Where classes and functions are registered with Keras: all that a saved model of ours may hold.
_REGISTERED = (
    "losses",
    "schedules",
    "models.baselines.baseline",
    "models.edge",
    "models.encoders.encoder",
    "models.lesions.decoders",
    "models.lesions.patches",
    "deploy.layers",
    "models.realmnet",
    "models.tiny_vit",
    "models.vessels.adversarial",
)


__all__ = [
    "Baseline",
    "LinearHead",
    "RealMNet",
    "ResidualAttentionHead",
    "TinyViTBackbone",
    "TinyViTImageClassifier",
    "WarmupCosine",
    "errors",
    "load_timm_weights",
    "losses",
    "measure_map_offset",
    "models",
    "schedules",
    "screening",
    "transfer_weights",
    "weights",
]
__version__ = "0.1.0"  # of everything here: the wheel, the commands, the box and what it writes


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _register() -> None:
    for module in _REGISTERED:
        import_module(f"{__name__}.{module}")


class _RegisterAfterKeras(MetaPathFinder, Loader):
    """Finds Keras where Python would, and registers our classes when it has been imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name) if name == "keras" else None
        if spec is None or spec.loader is None:
            return None
        self.found, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)
        module.__loader__ = self.found
        if module.__spec__ is not None:
            module.__spec__.loader = self.found
        self.found.exec_module(module)
        _register()


if sys.modules.get("keras"):  # None: importing it is forbidden
    _register()
else:
    sys.meta_path.insert(0, _RegisterAfterKeras())
