"""What a training run is: one frozen `Recipe`; the published RealMNet settings are its defaults.

A file in `recipes/` states only what differs and says in its docstring how to run it, how long it takes and what it
scores. Everything a run needs to be repeated follows from the recipe and the data.
"""

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from runpy import run_path
from typing import Any

from keras_realmnet.arguments import (
    DISTILLATION,
    HEADS,
    LOSSES,
    RATE,
    SHARE,
    Rule,
    check,
    count,
    number,
    one_of,
    optional,
)
from keras_realmnet.errors import DataSetError
from keras_realmnet.presets import (
    BASELINE_PRESETS,
    LESION_GUIDED_PRESETS,
    NETWORKS,
    PART,
    REALMNET_PRESETS,
    SCHEMES,
    frozen_part,
    network_options,
    point_loss,
)
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Grades, Labels, Points
from keras_realmnet.tasks.task import Task
from training.data.resampling import Resampling
from training.datasets.data_set import DataSet
from training.datasets.found.psmm import PsmmDataSet
from training.datasets.registry import data_from_dict, data_to_dict, with_folder
from training.input.augmentation import Augmentation, check_mixing
from training.input.windows import Windows, check_windows
from training.tasks.figures import VALIDATION_LOSS, figure_columns
from training.tasks.objective import objectives

__all__ = ["Phase", "Recipe", "load_recipe", "override", "recipe_modules", "recipe_names", "with_data"]

TAUGHT = Labels, Grades  # of which a teacher can tell more than whether they are there
_POSITIVE, _NOT_NEGATIVE = number(0, above=True), number(0)
_OWN_OPTIONS = ("head", "head_options", "drop_path_rate")  # of the network, which are fields of the recipe
_LOSS = Rule(
    f"{one_of(*LOSSES).expected}, or of several outputs {{output: loss}}",
    lambda value: all(
        one_of(*LOSSES).holds(name) for name in (value.values() if isinstance(value, Mapping) else [value])
    ),
)
_FIELDS: Mapping[str, Rule] = {
    "preset": one_of(*NETWORKS),
    "head": one_of(*HEADS),
    "loss": optional(_LOSS),
    "fake_quantization": optional(one_of(*SCHEMES)),
    "train_share": number(0, 1, above=True),
    "drop_path_rate": RATE,
    "teacher_temperature": DISTILLATION["temperature"],
    "teacher_weight": DISTILLATION["weight"],
    "batch_size": count(1),
    "accumulate": count(1),
    "learning_rate": _POSITIVE,
    "warmup_epochs": _NOT_NEGATIVE,
    "warmup_start": SHARE,
    "final_learning_rate": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "momentum": optional(number(0, 1, above=True, below=True)),
    "nesterov": Rule("True or False", lambda value: isinstance(value, bool)),
    "beta_1": RATE,
    "beta_2": RATE,
    "epsilon": _POSITIVE,
    "clip_norm": _POSITIVE,
    "reduction": one_of(1, 2),
    "ema_momentum": optional(RATE),
    "validate_every": count(1),
    "validation_loss": Rule("True or False", lambda value: isinstance(value, bool)),
    "keep": optional(Rule("a column of history.csv", lambda value: isinstance(value, str))),
    "patience": optional(count(1)),
    "drop_after": optional(count(1)),
    "restart_below": optional(_POSITIVE),
    "seed": count(0),
}


@dataclass(frozen=True)
class Phase:
    """`epochs` epochs at an input of `size` x `size` pixels."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Recipe:
    """A training run. Defaults: RealMNet (npj Digital Medicine 2025, section "Training" and its public code).

    `phases`: one input size after the other (progressive resizing); the learning rate follows one schedule over all
    of them, and weights, moments and averages move along. Epochs elsewhere count over all phases.
    """

    name: str
    data: DataSet = field(default_factory=PsmmDataSet)
    train_share: float = 1.0  # of the training patients: label efficiency
    resampling: Resampling | None = None  # of the training images, after that

    preset: str = "realmnet_21m_384"  # a row of keras_realmnet.presets
    head: str = "residual_attention"  # or "linear"; for networks that offer the choice
    head_options: Mapping[str, Any] = field(default_factory=dict)  # num_heads, lam of ResidualAttentionHead
    model_options: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the network
    drop_path_rate: float = 0.5  # for networks that have it
    weights: str | None = None  # what training starts from: see training.fitting.start.initial_model; None: random
    lesion_run: str | None = None  # the folder of a Lesion-Net's run, beside which the network grades; see there
    part_run: str | None = None  # that of another trained network that is a frozen part of this one; see there

    phases: tuple[Phase, ...] = (Phase(epochs=50, size=384),)
    batch_size: int = 64  # 16 per GPU on 4 GPUs
    accumulate: int = 1  # batches whose gradients are averaged into one step of the optimizer

    # Classes of keras_realmnet.losses; None: what is usual for each kind of output, AsymmetricLoss for labels. Where
    # the data has several outputs, all three are {output: ...}.
    loss: str | Mapping[str, str] | None = None
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)

    # A run folder, also that of an ensemble, whose network tells what it knows of the training images; the loss is
    # then keras_realmnet.losses.Distillation: (1 − teacher_weight) of the one above, the rest that of the teacher.
    teacher: str | None = None
    teacher_temperature: float = 2.0
    teacher_weight: float = 0.5

    learning_rate: float = 1e-4
    warmup_epochs: float = 5.0
    warmup_start: float = 0.01  # of the learning rate, rising linearly per step
    final_learning_rate: float = 1e-6  # where the cosine ends
    weight_decay: float = 0.05  # not on biases and 1-D weights
    momentum: float | None = None  # of SGD in the place of AdamW, whose betas and epsilon then say nothing
    nesterov: bool = False  # of that SGD
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # of all gradients together

    windows: Windows | None = None  # that training cuts out of the images, at the size of its phase; None: whole images
    reduction: int = 1  # 2: large JPEGs are decoded at half their size, see PreprocessSpec
    augmentation: Augmentation = field(default_factory=Augmentation)
    ema_momentum: float | None = None  # per step; the averaged weights are then what is validated and kept
    mixed_precision: bool = False  # bfloat16 computation, float32 weights
    fake_quantization: str | None = None  # of keras_realmnet.deploy.quantization: train as that int8 artifact computes
    validate_every: int = 5  # epochs
    validation_loss: bool = False  # also val_loss in history.csv
    keep: str | None = None  # the column of history.csv by which the best epoch is kept; None: the last, as published
    patience: int | None = None  # validations without a gain of `keep`, after which training stops; None: never
    # Validations without a gain of `keep`, after which the learning rate falls to a tenth, again and again; no warm-up
    # and no cosine then. None: those two.
    drop_after: int | None = None
    restart_below: float | None = None  # where a fall would end below it, the learning rate is the first one again
    loss_options_after_drop: Mapping[str, Any] = field(default_factory=dict)  # that change when it falls first
    seed: int = 42

    def __post_init__(self) -> None:
        check("a recipe", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        step = 1 if self.preset in BASELINE_PRESETS else 32
        size, epochs = count(32), count(1)
        if not self.phases or not all(
            size.holds(phase.size) and epochs.holds(phase.epochs) and phase.size % step == 0 for phase in self.phases
        ):
            raise ValueError(
                "phases need at least one epoch each, at a size of at least 32 and, but for baselines, divisible by 32."
                f" Received: {self.phases}"
            )
        rules = network_options(self.preset)
        if "head" in rules:
            check(f"head_options of {self.head}", HEADS[self.head], self.head_options)
        rules = {name: rule for name, rule in rules.items() if name not in _OWN_OPTIONS}
        check(f"model_options of {self.preset}", rules, self.model_options)
        row = REALMNET_PRESETS.get(self.preset, {"architecture": self.preset})
        tiny_vit = "architecture" not in row
        step = 16 * {**row, **self.model_options}.get("stage_2_windows", 1)
        undivided = [size for size in (self.trained_size(phase.size) for phase in self.phases) if size % step]
        if tiny_vit and undivided:
            raise ValueError(
                f"phases need sizes divisible by {step}, since stage_2_windows share the map of stage 2, a 16th of the "
                f"image. Received: {undivided[0]}"
            )
        if self.fake_quantization is not None and not tiny_vit:
            raise ValueError(f"fake_quantization is for a RealMNet on TinyViT. Received: {self.preset!r}")
        if self.nesterov and self.momentum is None:
            raise ValueError("nesterov needs momentum, that of SGD. Received: momentum=None")
        for name in ("patience", "drop_after"):
            if getattr(self, name) is not None and self.keep is None:
                raise ValueError(
                    f"{name} needs keep, the column that must gain. Received: {name}={getattr(self, name)}"
                )
        if self.lesion_run is not None and self.preset not in LESION_GUIDED_PRESETS:
            raise ValueError(
                f"lesion_run is for {', '.join(LESION_GUIDED_PRESETS)}. "
                f"Received: {self.lesion_run!r} for {self.preset!r}"
            )
        if self.part_run is not None and frozen_part(self.preset, self.model_options) is None:
            raise ValueError(
                "part_run is for a network with a frozen part: beside, or of REFUGE2, findings, or vessels by "
                "model_options. "
                f"Received: {self.part_run!r} for {self.preset!r}"
            )
        if self.loss_options_after_drop and self.drop_after is None:
            raise ValueError(f"loss_options_after_drop needs drop_after. Received: {self.loss_options_after_drop}")
        if self.restart_below is not None and (self.drop_after is None or self.restart_below > self.learning_rate):
            raise ValueError(
                "restart_below needs drop_after, and is at most the learning rate. "
                f"Received: {self.restart_below}, {self.drop_after}, {self.learning_rate}"
            )
        if self.keep == VALIDATION_LOSS and not self.validation_loss:
            raise ValueError("keep='val_loss' needs validation_loss=True. Received: validation_loss=False")
        try:
            task = self.data.task
        except DataSetError:  # of files that are not there, or not yet: `fit` checks again
            return
        self.check_task(task)

    def check_task(self, task: Task) -> None:
        """Raises ValueError for a loss, a teacher, a mixing of images or a column of history.csv that `task` does not
        have."""
        expected = point_loss(self.preset, self.model_options)
        for name, goal in objectives(task, self.loss, self.loss_options, self.loss_weights).items():
            if isinstance(task.trained[name], Points) and goal.loss != expected:
                raise ValueError(f"{self.preset} learns points by {expected}. Received: {goal.loss!r} for {name!r}")
        objectives(task, self.loss, self.loss_options_after_drop)
        untaught = [f"{each.kind} ({name})" for name, each in task.trained.items() if not isinstance(each, TAUGHT)]
        if self.teacher is not None and untaught:
            raise ValueError(f"a teacher is for labels and grades. Received: {', '.join(untaught)}")
        check_mixing(task, self.augmentation)
        check_windows(task, self.windows, tuple(phase.size for phase in self.phases))
        columns = (*figure_columns(task), VALIDATION_LOSS)
        if self.keep is not None and self.keep not in columns:
            raise ValueError(f"keep must be one of {', '.join(columns)}. Received: {self.keep!r}")

    @property
    def network_options(self) -> dict[str, Any]:
        """What `keras_realmnet.models.networks.build` takes beside the name, the outputs, the size and weights."""
        fields_of = {"head": self.head, "head_options": self.head_options, "drop_path_rate": self.drop_path_rate}
        own = {name: value for name, value in fields_of.items() if name in network_options(self.preset)}
        return {**self.model_options, **own}

    @property
    def frozen_run(self) -> tuple[str, str] | None:
        """The run whose network is a frozen part of this one: its folder, and the part in words; None without."""
        if self.lesion_run is not None:
            return self.lesion_run, "Lesion-Net"
        if self.part_run is not None:
            part = frozen_part(self.preset, self.model_options)
            return self.part_run, f"network of {self.model_options[PART]['output'] if part == PART else part}"
        return None

    @property
    def other_runs(self) -> list[tuple[str, str]]:
        """The runs from whose data this one learns, too, as `frozen_run`: that of its frozen part, and its teacher."""
        found = [] if self.frozen_run is None else [self.frozen_run]
        return found if self.teacher is None else [*found, (self.teacher, "teacher")]

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    @property
    def image_size(self) -> int:
        """Side of the final model's input in pixels."""
        return self.phases[-1].size

    def spec(self, size: int | None = None) -> PreprocessSpec:
        """How images become the input of the final model, or of one of `size` pixels."""
        return PreprocessSpec(size=size or self.image_size, reduction=self.reduction)

    def trained_size(self, size: int) -> int:
        """Side in pixels of what the network sees in training where images have `size` pixels."""
        return size if self.windows is None else self.windows.side

    def phase_of(self, epoch: int) -> tuple[Phase, int]:
        """The phase that epoch (from 0) belongs to, and the epoch at which that phase ends."""
        end = 0
        for phase in self.phases:
            end += phase.epochs
            if epoch < end:
                return phase, end
        raise ValueError(f"epoch must be below {self.epochs}. Received: {epoch}")

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same recipe over another number of epochs, shared among the phases as before (one each at least)."""
        if epochs < len(self.phases):
            raise ValueError(f"epochs must be at least {len(self.phases)}, one per phase. Received: {epochs}")
        phases, left = [], epochs
        for k, phase in enumerate(self.phases):
            after = len(self.phases) - 1 - k
            share = left if not after else min(left - after, max(1, round(phase.epochs * epochs / self.epochs)))
            phases.append(replace(phase, epochs=share))
            left -= share
        return replace(self, phases=tuple(phases), warmup_epochs=min(self.warmup_epochs, epochs / 2))

    def resolved(self, task: Task) -> "Recipe":
        """The same recipe, with the losses that are usual for `task` where it names none."""
        if isinstance(self.loss, str):
            return self
        names = {name: each.loss for name, each in objectives(task, self.loss, self.loss_options).items()}
        return replace(self, loss=names if len(names) > 1 else next(iter(names.values())))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `from_dict` gives an equal recipe back."""
        return {**asdict(self), "data": data_to_dict(self.data)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        values = dict(values)
        values["data"] = data_from_dict(values["data"])
        values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
        augmentation: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["augmentation"].items()
        }
        values["augmentation"] = Augmentation(**augmentation)
        for name, part in (("resampling", Resampling), ("windows", Windows)):
            if values.get(name) is not None:
                values[name] = part(**values[name])
        return cls(**values)


def recipe_modules() -> dict[str, str]:
    """{name of a recipe: its module}."""
    from training import recipes

    modules = walk_packages(recipes.__path__, f"{recipes.__name__}.")
    return {module.name.rpartition(".")[2]: module.name for module in modules if not module.ispkg}


def recipe_names() -> list[str]:
    return sorted(recipe_modules())


def load_recipe(name: str) -> Recipe:
    """The recipe called `name` under `recipes/`, or that of a file of one's own, such as "./mine.py".

    A file is run as a module of its own; its `RECIPE` may build on `training.recipes`.

    Raises:
        ValueError: no such name (it lists those there are) or file, or a file without a RECIPE, or that fails.
    """
    if name.endswith(".py"):
        return _recipe_of_file(Path(name).expanduser())
    modules = recipe_modules()
    if name not in modules:
        known = ", ".join(sorted(modules))
        raise ValueError(f"recipe must be one of {known}, or a file such as ./mine.py. Received: {name!r}")
    return import_module(modules[name]).RECIPE


def _recipe_of_file(path: Path) -> Recipe:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a recipe, a Python file that sets RECIPE")
    try:
        recipe = run_path(str(path)).get("RECIPE")
    except Exception as error:  # whatever a file of somebody else's does
        raise ValueError(f"{path}: the recipe cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{path}: RECIPE must be a training.recipe.Recipe. Received: {recipe!r}")
    return recipe


def with_data(recipe: Recipe, folder: str) -> Recipe:
    """`recipe` with its data in another place. Raises DataSetError for data that is made, not found."""
    return replace(recipe, data=with_folder(recipe.data, folder))


def override(recipe: Recipe, *assignments: str, data: DataSet | None = None) -> Recipe:
    """`recipe` with fields changed by "key=value", all at once; "augmentation.mixup=0" reaches into a part.

    `data` takes the place of the recipe's, before the assignments.

    Values are Python literals; a bare word is a string. Phases are written "phases=[(90, 128), (40, 224)]", resampling
    "resampling=ml-rus" or "resampling=('ml-rus', 20)".

    Raises ValueError for an unknown key, a value of another type, or what a recipe cannot be.
    """
    changes: dict[str, Any] = {}  # by field: a value with its assignment, or the changes of a part
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"expected key=value. Received: {assignment!r}")
        *parts, name = key.strip().split(".")
        place = changes
        for part in parts:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"{assignment!r}: {part!r} is given as a whole, too")
        place[name] = (_literal(text.strip()), assignment)
    return _replaced(recipe, changes, {} if data is None else {"data": data})


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _first_assignment(change: Any) -> str:
    return _first_assignment(next(iter(change.values()))) if isinstance(change, dict) else change[1]


def _replaced(part: Any, changes: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Any:
    """`before`: fields that are other than in `part` when the changes are made."""
    types = {item.name: item.type for item in fields(part)}
    values = dict(before or {})
    for name, change in changes.items():
        assignment = _first_assignment(change)
        if name not in types:
            raise ValueError(f"{assignment!r}: {name!r} is not one of {', '.join(types)}")
        old = values.get(name, getattr(part, name))
        if not isinstance(change, dict):
            values[name] = _converted(name, old, types[name], *change)
        elif is_dataclass(old):
            values[name] = _replaced(old, change)
        else:
            raise ValueError(f"{assignment!r}: {name!r} has no parts")
    return replace(part, **values)


def _converted(name: str, old: Any, kind: Any, value: Any, assignment: str) -> Any:
    """`value` as the field `name`, of type `kind` and now `old`, takes it."""
    if name == "phases":
        try:
            return tuple(Phase(**phase) if isinstance(phase, dict) else Phase(*phase) for phase in value)
        except TypeError as error:
            raise ValueError(f"{assignment!r}: expected pairs (epochs, size), such as [(2, 64)]") from error
    if name == "resampling" and value is not None:
        try:
            return Resampling(*((value,) if isinstance(value, str) else value))
        except TypeError as error:
            raise ValueError(f"{assignment!r}: expected a method, or (method, percent)") from error
    if kind is float and old is not None:
        old = float(old)  # a recipe may say 1 for 1.0
        value = float(value) if type(value) is int else value
    elif isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if old is not None and value is not None and type(value) is not type(old):
        raise ValueError(f"{assignment!r}: expected {type(old).__name__}, such as {old!r}")
    return value
