"""Weights from elsewhere: reference checkpoints (timm, mmpretrain) and models of another input size."""

import math
import re
from dataclasses import dataclass, replace
from os import PathLike

import keras
import numpy as np

from keras_realmnet import compat
from keras_realmnet.errors import WeightsMismatch

__all__ = ["TORCH_LEAVES", "fit_attention_biases", "load_timm_weights", "resize_attention_biases", "transfer_weights"]

# What a reference checkpoint carries beside weights: an index table that follows from the window, a BatchNorm counter.
_NOT_WEIGHTS = ("attention_bias_idxs", ".attn.ab", "num_batches_tracked")
# mmpretrain's names → timm's. Its stages end with the merging that timm's next stage begins with.
_MMPRETRAIN = (
    (re.compile(r"^backbone\."), ""),
    (re.compile(r"^patch_embed\.seq\.0\."), "patch_embed.conv1."),
    (re.compile(r"^patch_embed\.seq\.2\."), "patch_embed.conv2."),
    (re.compile(r"\.conv2d\."), ".conv."),
    (re.compile(r"\.bn2d\."), ".bn."),
    (re.compile(r"^stages\.(\d)\.downsample\."), lambda match: f"stages.{int(match[1]) + 1}.downsample."),
    (re.compile(r"^norm3\."), "head.norm."),
)
TORCH_LEAVES = {  # Keras' variable → PyTorch's leaf
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_timm_weights(model, source):
    """Copies a reference TinyViT checkpoint into `model`, checking every name and shape before anything is written.

    Args:
        model: a `TinyViTBackbone`, `TinyViTImageClassifier` or `RealMNet`. A checkpoint's classifier that `model`
            does not have (`head.fc`, and for a backbone `head.norm`) is left out; nothing else may be.
        source: dict of arrays by timm's (or mmpretrain's) names in PyTorch layout, or the path of a `.safetensors`
            file, read without PyTorch. Attention-bias tables of another image size are resized, those of larger
            windows cut (`fit_attention_biases`); the windows of stage 3 are taken for its whole map. For a `RealMNet`
            head, `head.csra_heads.<h>.head.weight` is accepted.

    Returns:
        `model`.

    Raises:
        WeightsMismatch: names the keys that one side lacks, or the first shape that differs.
    """
    arrays = _from_mmpretrain(_read(source))
    targets = _targets_by_timm_name(model)
    has_classifier = any(name.startswith("head.fc") for name in targets)
    has_norm = any(name.startswith("head.norm") for name in targets)
    for name in list(arrays):
        if (name.startswith("head.fc.") and not has_classifier) or (name.startswith("head.norm.") and not has_norm):
            del arrays[name]
    csra = [name for name in targets if name.startswith("head.csra_heads")]
    if csra and not any(name in arrays for name in csra):
        targets = {name: target for name, target in targets.items() if name not in csra}  # a new head on old features
    missing, unknown = sorted(targets.keys() - arrays.keys()), sorted(arrays.keys() - targets.keys())
    if missing or unknown:
        raise WeightsMismatch(
            f"The checkpoint does not fit {model.name}: missing {_shorten(missing)}; not used {_shorten(unknown)}."
        )
    side = _side_of_last_map(arrays)
    for value, target in [(_to_keras(name, arrays[name], target, side), target) for name, target in targets.items()]:
        target.assign(value)
    return model


def transfer_weights(source, target):
    """Copies every weight of `source` into `target`, the same network built for another input size or other windows.

    Attention-bias tables are fitted to the target's windows (`fit_attention_biases`) and position embeddings to its
    patches; everything else must agree in name and shape.

    Returns:
        `target`.

    Raises:
        WeightsMismatch: names the first weight that differs.
    """
    old, new = list(_targets(source)), list(_targets(target))
    if len(old) != len(new):
        raise WeightsMismatch(f"{source.name} has {len(old)} weights, {target.name} has {len(new)}.")
    values = []
    for a, b in zip(old, new, strict=True):
        value = a.value()
        if a.grid is not None and b.grid is not None:
            value = _resized(a.variable.name, value, a.grid, b.grid)
        if value.shape != b.shape or a.variable.name != b.variable.name:
            raise WeightsMismatch(
                f"{a.variable.path} {value.shape} of {source.name} does not fit "
                f"{b.variable.path} {b.shape} of {target.name}."
            )
        values.append(value)
    for value, b in zip(values, new, strict=True):
        b.assign(value)
    return target


def resize_attention_biases(table, window, new_window):
    """Attention-bias table (heads, h·w) of `window` (h, w) → (heads, h'·w') of `new_window`.

    Bicubic with antialiasing, as timm's `resize_rel_pos_bias_table_levit` (PyTorch's interpolate with antialias).
    """
    if tuple(window) == tuple(new_window):
        return table
    table = np.asarray(table, "float64").reshape(len(table), *window)
    rows, columns = (_bicubic(old, new) for old, new in zip(window, new_window, strict=True))
    return np.einsum("yh,nhw,xw->nyx", rows, table, columns).reshape(len(table), -1).astype("float32")


def fit_attention_biases(table, window, whole, new_window, new_whole):
    """Attention-bias table (heads, h·w) of windows (h, w) of a map, for windows of the map of another image size.

    A table has one bias for each distance of two positions, |Δy| and |Δx|, so what windows that are smaller need is a
    part of it, exactly: a table is resized as the map is (`resize_attention_biases`), and then cut. Of larger windows
    the distances that are not known have the bias of the largest that is. Windows that stay as they are keep their
    table, whatever the map, as in timm.

    Args:
        window, new_window: (h, w) in positions. whole, new_whole: the maps that they are windows of, likewise.
    """
    if tuple(window) == tuple(new_window):
        return table
    sides = zip(window, whole, new_whole, strict=True)
    stretched = tuple(max(1, round(side * new / old)) for side, old, new in sides)
    known = resize_attention_biases(table, window, stretched).reshape(len(table), *stretched)
    rows, columns = (np.minimum(np.arange(new), old - 1) for new, old in zip(new_window, stretched, strict=True))
    return known[:, rows][:, :, columns].reshape(len(table), -1)


def _resized(name, value, grid, new_grid):
    """`value` of the variable `name`, laid out over a `_Grid`, for another one."""
    if name == "attention_biases":  # TinyViT: (heads, h·w)
        return fit_attention_biases(value, grid.window, grid.whole, new_grid.window, new_grid.whole)
    # Swin's relative_position_bias_table (h·w, heads); DeiT's position_embedding (1, tokens + h·w, dim).
    rows = value.reshape(-1, value.shape[-1])
    tokens = len(rows) - math.prod(grid.window)
    resized = resize_attention_biases(rows[tokens:].T, grid.window, new_grid.window).T
    rows = np.concatenate([rows[:tokens], resized])
    return rows.reshape(*value.shape[:-2], *rows.shape)


@dataclass(frozen=True)
class _Grid:
    """What a variable's values are laid out over, (h, w), and the map that it is a window of."""

    window: tuple[int, int]
    whole: tuple[int, int]


def _grid(layer, variable):
    """The `_Grid` of a variable; None for one that has none."""
    if variable.name == "attention_biases":
        return _Grid(layer.window_size, layer.map_size)
    sides = None
    if variable.name == "relative_position_bias_table":
        sides = 2 * layer.win_h - 1, 2 * layer.win_w - 1
    if variable.name == "position_embedding":
        sides = tuple(side // patch for side, patch in zip(layer.image_size, layer.patch_size, strict=True))
    return None if sides is None else _Grid(sides, sides)


def _bicubic(old, new):
    """(new, old) matrix of antialiased bicubic interpolation along one axis, a = −0.5, half-pixel centres."""
    scale = old / new
    stretch = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - 2 * stretch + 0.5).astype(int), 0)
    last = np.minimum((centre + 2 * stretch + 0.5).astype(int), old)
    index = np.arange(old)
    x = np.abs((index + 0.5 - centre[:, None]) / stretch)
    a = -0.5
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    weights *= (index >= first[:, None]) & (index < last[:, None])
    return weights / weights.sum(axis=1, keepdims=True)


def _read(source):
    if isinstance(source, (str, PathLike)):
        from safetensors.numpy import load_file

        try:
            source = load_file(source)
        except Exception as error:
            raise WeightsMismatch(f"{source}: expected a .safetensors checkpoint. {error}") from error
    return {name: np.asarray(array) for name, array in source.items() if not name.endswith(_NOT_WEIGHTS)}


def _from_mmpretrain(arrays):
    if not any(".conv2d." in name for name in arrays):
        return dict(arrays)
    renamed = {}
    for name, array in arrays.items():
        for pattern, replacement in _MMPRETRAIN:
            name = pattern.sub(replacement, name)
        renamed[name] = array
    return renamed


@dataclass(frozen=True)
class _Target:
    """Where an array goes: a variable, or the part of it at an index, and what its values are laid out over."""

    layer_name: str
    variable: keras.Variable
    part: int | None = None
    grid: _Grid | None = None

    @property
    def shape(self):
        return tuple(self.variable.shape) if self.part is None else tuple(self.variable.shape[1:])

    def value(self):
        return keras.ops.convert_to_numpy(self.variable)

    def assign(self, value):
        if self.part is not None:
            whole = np.array(self.value())
            whole[self.part] = value
            value = whole
        self.variable.assign(value)


def _targets(model):
    for layer in compat.all_layers(model):
        for variable in compat.own_variables(layer):
            yield _Target(layer.name, variable, grid=_grid(layer, variable))


def _targets_by_timm_name(model):
    targets = {}
    for target in _targets(model):
        leaf = target.variable.name
        if leaf == "kernel" and len(target.shape) == 3:  # the residual-attention head: one reference layer per head
            for head in range(target.shape[0]):
                targets[f"head.csra_heads.{head}.head.weight"] = replace(target, part=head)
        else:
            targets[f"{_timm_module(target.layer_name)}.{TORCH_LEAVES.get(leaf, leaf)}"] = target
    return targets


def _timm_module(layer_name):
    """`stages_1_blocks_0_mlp_fc1` → `stages.1.blocks.0.mlp.fc1`."""
    words = re.findall(r"patch_embed|local_conv|[a-z]+\d*|\d+", layer_name)
    return ".".join(words)


def _side_of_last_map(arrays):
    """Of the checkpoint's stage 3, whose windows are its whole map; None where it has no square one."""
    for name, array in arrays.items():
        if name.startswith("stages.3.") and name.endswith(".attention_biases"):
            side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
            return side if side and side**2 == array.shape[1] else None
    return None


def _to_keras(name, array, target, side_of_last_map):
    """`array` in Keras' layout: PyTorch has OIHW convolutions and (out, in) linear layers."""
    shape, value = target.shape, array
    if target.grid is not None:
        side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
        if side_of_last_map and side and side**2 == array.shape[1]:
            whole = side_of_last_map * 2 ** (3 - int(name.split(".")[1]))  # each stage halves the map
            window, whole = (side, side), (whole, whole)
            value = fit_attention_biases(array, window, whole, target.grid.window, target.grid.whole)
    elif array.ndim == 4 and len(shape) == 4:
        value = array.transpose((2, 3, 0, 1) if array.shape[1] == 1 and shape[3] == 1 else (2, 3, 1, 0))
    elif array.ndim == 4 and array.shape[2:] == (1, 1):  # a 1×1 convolution that is a matrix here
        value = array[:, :, 0, 0].T
    elif array.ndim == 2:
        value = array.T
    if value.shape != shape:
        raise WeightsMismatch(f"{name} has shape {tuple(array.shape)}, which does not become {shape}.")
    return value


def _shorten(names, most=5):
    shown = ", ".join(names[:most]) or "nothing"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
