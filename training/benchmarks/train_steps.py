"""Networks whose training steps are timed, each in a process of its own: ours on PyTorch and JAX, and timm's TinyViT.

All take the same steps: bfloat16 computation with float32 weights, binary cross-entropy summed over labels, gradients
clipped to a norm of 1, AdamW. The batches lie on the device before the first step: what it costs to read, augment and
move them is measured by `training.benchmarks.pipeline`. Drop path is off: PyTorch draws it from generators that Keras
makes anew in each step, which no compiled graph can hold, and it costs next to nothing.

Nothing here needs more than NumPy, Keras and the framework that trains; of timm's network not even Keras.
"""

import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.presets import REALMNET_PRESETS

__all__ = [
    "KERAS_JAX",
    "KERAS_TORCH",
    "NOT_INSTALLED",
    "TIMM",
    "TRAINERS",
    "Ready",
    "Setting",
    "Turn",
    "batches",
    "serve",
]

KERAS_TORCH, KERAS_JAX, TIMM = "Keras, PyTorch", "Keras, JAX", "timm, PyTorch"
NOT_INSTALLED = "not installed: "
CLASSES = 7
BATCHES = 4  # different ones, which take turns
LEARNING_RATE = 5e-4  # from random weights
WEIGHT_DECAY, CLIP_NORM = 0.05, 1.0
PRECISION = "mixed_bfloat16"
# Before a framework is imported: whatever GPU there is, it is not seen.
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"},
    "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # else JAX takes three quarters of the memory for itself
}


@dataclass(frozen=True)
class Setting:
    """A RealMNet on TinyViT, and how it is trained.

    `preset`: of `REALMNET_PRESETS`; `options`: of its TinyViT that differ. `size`: of the images, px. `device`: "gpu"
    or "cpu". `compiled`: by torch.compile; JAX cannot do without its compiler.
    """

    preset: str
    size: int
    batch: int
    device: str = "gpu"
    compiled: bool = True
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def tiny_vit(self) -> dict[str, Any]:
        """The arguments of its TinyViT but for the size."""
        return {**REALMNET_PRESETS[self.preset], "drop_path_rate": 0.0, **self.options, "image_size": self.size}


@dataclass(frozen=True)
class Ready:
    """The first step is done. `seconds`: since the process began, most of them spent compiling."""

    seconds: float
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Turn:
    """Some steps. `losses`: of each. `peak`: bytes of the device's memory until now; on a CPU of the whole process."""

    seconds: float
    losses: tuple[float, ...]
    peak: int


class Trainer(Protocol):
    """A network on a device with its optimizer."""

    @property
    def device(self) -> str:
        """What it is called."""

    @property
    def versions(self) -> Mapping[str, str]:
        """{package: its version}."""

    def train(self, steps: int) -> list[float]:
        """The losses of the next steps, all of which are done, updates included."""

    def peak(self) -> int:
        """The most memory that was in use, bytes."""


def batches(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose colour is its class: images float32 (BATCHES, n, size, size, 3), 0–255, one-hot (BATCHES, n, 7).

    Class k is bright in the channels that are 1 in the binary digits of k + 1.
    """
    rng = np.random.default_rng(0)
    shape = BATCHES, setting.batch
    classes = rng.integers(0, CLASSES, shape)
    bright = (classes[..., None] + 1) >> np.arange(3) & 1
    images = rng.integers(0, 128, (*shape, setting.size, setting.size, 3), dtype=np.uint8)
    images += (127 * bright[..., None, None, :]).astype(np.uint8)
    return images.astype(np.float32), np.eye(CLASSES, dtype=np.float32)[classes]


def _keras_parts(setting: Setting) -> tuple[Any, Any, Any]:
    """RealMNet, its optimizer and its loss, on the backend in use."""
    import keras

    from keras_realmnet.losses import BinaryCrossentropy
    from keras_realmnet.models.realmnet import RealMNet

    keras.utils.set_random_seed(0)
    model = RealMNet.from_preset(setting.preset, CLASSES, dtype=PRECISION, **setting.tiny_vit)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)
    optimizer.build(model.trainable_variables)
    return model, optimizer, BinaryCrossentropy(alpha=0.5)


class _OnTorch:
    """What both networks on PyTorch share: the device, the batches there, what waits for it."""

    def __init__(self, setting: Setting):
        import torch

        if setting.device == "gpu" and not torch.cuda.is_available():
            raise RealMNetError("PyTorch finds no GPU; --device cpu shows that the program works, not how fast")
        torch.set_float32_matmul_precision("high")
        self.torch = torch
        self.place = torch.device("cuda" if setting.device == "gpu" else "cpu")
        self.device = torch.cuda.get_device_name() if setting.device == "gpu" else "CPU"
        self.versions = {"PyTorch": str(torch.__version__)}
        self.images, self.truth = (torch.from_numpy(each).to(self.place) for each in batches(setting))
        self.done = 0

    def step(self, images: Any, truth: Any) -> Any:
        raise NotImplementedError

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            losses.append(self.step(self.images[self.done % BATCHES], self.truth[self.done % BATCHES]))
            self.done += 1
        if self.place.type == "cuda":
            self.torch.cuda.synchronize()
        return [float(loss) for loss in losses]

    def peak(self) -> int:
        return self.torch.cuda.max_memory_allocated() if self.place.type == "cuda" else _peak_of_process()


class KerasOnTorch(_OnTorch):
    """RealMNet by `stateless_call`, compiled where it shall be.

    Not by Keras' own `jit_compile`: torch.compile then follows Keras' bookkeeping, such as the numbers it gives to
    names, which differ in each step, and compiles again each time until it gives up. Here the network is recorded once,
    as the operations of PyTorch that it consists of, and the record is compiled. Loss and optimizer are Keras', eager.
    """

    def __init__(self, setting: Setting):
        super().__init__(setting)
        import keras
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        self.versions = {"Keras": keras.__version__, **self.versions}
        self.model, self.optimizer, self.loss = _keras_parts(setting)
        self.weights = [variable.value for variable in self.model.trainable_variables]
        self.state = [variable.value for variable in self.model.non_trainable_variables]

        def forward(weights: Any, state: Any, images: Any) -> Any:
            return self.model.stateless_call(weights, state, images, training=True)

        self.forward: Callable[..., Any] = forward
        if setting.compiled:
            record = make_fx(forward, pre_dispatch=True)(self.weights, self.state, self.images[0])
            self.forward = torch.compile(record)

    def step(self, images: Any, truth: Any) -> Any:
        logits, state = self.forward(self.weights, self.state, images)
        loss = self.loss(truth, logits)
        gradients = self.torch.autograd.grad(loss, self.weights)
        with self.torch.no_grad():
            self.optimizer.apply(gradients, self.model.trainable_variables)
            for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
                variable.assign(value)
        return loss.detach()


class KerasOnJax:
    """RealMNet by `stateless_call`: network, loss and optimizer as one compiled step."""

    def __init__(self, setting: Setting):
        import jax
        import keras

        if setting.device == "gpu" and jax.default_backend() != "gpu":
            raise RealMNetError("JAX finds no GPU; --device cpu shows that the program works, not how fast")
        self.jax, self.place = jax, jax.devices()[0]
        self.device = self.place.device_kind if setting.device == "gpu" else "CPU"
        self.versions = {"Keras": keras.__version__, "JAX": jax.__version__}
        model, optimizer, loss_of = _keras_parts(setting)
        self.images, self.truth = ([jax.device_put(part, self.place) for part in each] for each in batches(setting))
        parts = model.trainable_variables, model.non_trainable_variables, optimizer.variables
        self.state: Any = tuple([variable.value for variable in part] for part in parts)
        self.done = 0

        def loss_and_state(weights: Any, state: Any, images: Any, truth: Any) -> Any:
            logits, state = model.stateless_call(weights, state, images, training=True)
            return loss_of(truth, logits), state

        def step(parts: Any, images: Any, truth: Any) -> Any:
            weights, state, moments = parts
            gradients_of = jax.value_and_grad(loss_and_state, has_aux=True)
            (loss, state), gradients = gradients_of(weights, state, images, truth)
            weights, moments = optimizer.stateless_apply(moments, gradients, weights)
            return (weights, state, moments), loss

        self.step = jax.jit(step, donate_argnums=0)

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            self.state, loss = self.step(self.state, self.images[self.done % BATCHES], self.truth[self.done % BATCHES])
            losses.append(loss)
            self.done += 1
        self.jax.block_until_ready(self.state)
        return [float(loss) for loss in losses]

    def peak(self) -> int:
        return (self.place.memory_stats() or {}).get("peak_bytes_in_use", _peak_of_process())


class TimmOnTorch(_OnTorch):
    """timm's TinyViT with the windows of ours and a linear head, as its users train it: torch.compile and autocast."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        import timm
        import torch

        self.versions = {"timm": timm.__version__, **self.versions}
        options = setting.tiny_vit
        size, windows = options.pop("image_size"), options.pop("stage_2_windows", 1)
        torch.manual_seed(0)
        # Any of them: what differs is given, the windows as ours follow from the size.
        model: Any = timm.create_model(  # timm's own types, where it is installed, do not know memory formats
            "tiny_vit_21m_224",
            num_classes=CLASSES,
            window_sizes=(size // 32, size // 32, size // 16 // windows, size // 32),
            **options,
        )
        model = model.to(self.place, memory_format=torch.channels_last).train()
        self.weights = list(model.parameters())
        fused = True if self.place.type == "cuda" else None  # None: PyTorch's choice
        self.optimizer = torch.optim.AdamW(self.weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused)
        self.model = torch.compile(model) if setting.compiled else model

    def step(self, images: Any, truth: Any) -> Any:
        torch = self.torch
        with torch.autocast(self.place.type, torch.bfloat16):
            logits = self.model(images.permute(0, 3, 1, 2) / 255)
        costs = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
        loss = 0.5 * costs.sum(dim=1).mean()  # half of it, as `keras_realmnet.losses.binary_crossentropy`
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, CLIP_NORM)
        self.optimizer.step()
        return loss.detach()


def _peak_of_process() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


TRAINERS: Mapping[str, tuple[str | None, Callable[[Setting], Trainer]]] = {  # {name: (Keras' backend, what trains)}
    KERAS_TORCH: ("torch", KerasOnTorch),
    KERAS_JAX: ("jax", KerasOnJax),
    TIMM: (None, TimmOnTorch),
}


def serve(name: str, setting: Setting, pipe: Connection) -> None:
    """The process of one of `TRAINERS`: says `Ready`, then answers each number of steps by a `Turn`.

    What goes wrong is said as text: "not installed: …" where a package is missing.
    """
    began = time.perf_counter()
    backend, make = TRAINERS[name]
    os.environ.update(ENVIRONMENTS[setting.device])
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    try:
        trainer = make(setting)
        trainer.train(1)
        pipe.send(Ready(time.perf_counter() - began, trainer.device, trainer.versions))
        while (steps := pipe.recv()) is not None:
            began = time.perf_counter()
            losses = trainer.train(steps)
            seconds = time.perf_counter() - began
            pipe.send(Turn(seconds, tuple(losses), trainer.peak()))
    except RealMNetError as error:
        pipe.send(str(error))
    except ModuleNotFoundError as error:
        pipe.send(f"{NOT_INSTALLED}{(error.name or str(error)).partition('.')[0]}")
    except Exception as error:  # whatever a compiler or a full memory brings: the others go on
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
