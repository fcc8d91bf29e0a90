import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from training.data.download import SOURCES, WEIGHTS
from training.data.resampling import Resampling
from training.datasets.found.palm import PalmDataSet
from training.datasets.found.psmm import PsmmDataSet
from training.datasets.made.phantom import PhantomDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe, load_recipe, override, recipe_modules, recipe_names
from training.tasks.objective import objectives


def test_defaults_are_the_published_settings():
    recipe = Recipe(name="published")
    assert (recipe.learning_rate, recipe.weight_decay, recipe.epsilon) == (1e-4, 0.05, 1e-8)
    assert (recipe.beta_1, recipe.beta_2, recipe.clip_norm) == (0.9, 0.999, 1.0)
    assert (recipe.warmup_epochs, recipe.warmup_start, recipe.final_learning_rate) == (5, 0.01, 1e-6)
    assert (recipe.epochs, recipe.batch_size, recipe.drop_path_rate, recipe.seed) == (50, 64, 0.5, 42)
    assert recipe.preset == "realmnet_21m_384"
    assert recipe.image_size == 384


@pytest.mark.parametrize(
    ("preset", "options", "sizes"),
    [("realmnet_5m_224", {"stage_2_windows": 4}, (64, 96)), ("realmnet_5m_224_w7", {"stage_2_windows": 3}, (96, 64))],
)
def test_windows_that_do_not_share_the_map_are_refused_before_anything_is_read(preset, options, sizes):
    phases = tuple(Phase(1, size) for size in sizes)
    step = 16 * options["stage_2_windows"]
    with pytest.raises(ValueError, match=rf"phases need sizes divisible by {step}, .*Received: {sizes[1]}"):
        Recipe(name="x", preset=preset, model_options=options, phases=phases)
    Recipe(name="x", preset=preset, model_options=options, phases=phases[:1])


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_recipes_of_the_project_are_there():
    assert {"smoke", "phantom_5m_224", "palm_5m_224"} <= set(recipe_names())


@pytest.mark.parametrize("size", [384, 512])
def test_the_published_recipes_start_from_what_download_fetches(size):
    recipe = load_recipe(f"realmnet_21m_{size}")
    path = Path(recipe.weights)
    assert path.parent.parent == WEIGHTS
    assert path.name in SOURCES[path.parent.name].files
    assert f"_{size}." in path.parent.name
    assert f"python -m training download {path.parent.name}\n" in import_module(recipe_modules()[recipe.name]).__doc__


def test_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"smoke.*Received: 'nothing'"):
        load_recipe("nothing")


def test_a_recipe_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from training.recipes import smoke\n"
        "RECIPE = replace(smoke.RECIPE, name='mine', batch_size=3)\n"
    )
    assert load_recipe(str(path)) == replace(load_recipe("smoke"), name="mine", batch_size=3)
    for text, message in (
        ("", "RECIPE must be a training.recipe.Recipe. Received: None"),
        ("RECIPE = 3", "Received: 3"),
        ("1 / 0", "cannot be read .ZeroDivisionError: division by zero"),
        ("RECIPE = (", "cannot be read .SyntaxError"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_recipe(str(path))
    with pytest.raises(ValueError, match=r"other\.py: no such file; expected a recipe"):
        load_recipe(str(tmp_path / "other.py"))


def test_a_loss_that_is_not_named_is_the_usual_one():
    recipe = Recipe(name="x", loss_options={"margin": 0.1})
    assert recipe.loss is None
    assert recipe.resolved(recipe.data.task).loss == "AsymmetricLoss"
    assert replace(recipe, loss="TwoWayLoss", loss_options={}).resolved(recipe.data.task).loss == "TwoWayLoss"
    by_output = {"probabilities": {"margin": 0.1}}
    assert objectives(recipe.data.task, options=by_output) == objectives(recipe.data.task, None, {"margin": 0.1})


def test_phases():
    recipe = Recipe(name="x", phases=(Phase(3, 96), Phase(2, 224)))
    assert recipe.epochs == 5
    assert recipe.image_size == 224
    assert [recipe.phase_of(epoch) for epoch in (0, 2, 3, 4)] == [
        (Phase(3, 96), 3),
        (Phase(3, 96), 3),
        (Phase(2, 224), 5),
        (Phase(2, 224), 5),
    ]
    with pytest.raises(ValueError, match="below 5"):
        recipe.phase_of(5)


@pytest.mark.parametrize(("epochs", "expected"), [(68, (50, 12, 6)), (34, (25, 6, 3)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_epochs_are_shared_among_the_phases(epochs, expected):
    recipe = Recipe(name="x", phases=(Phase(50, 96), Phase(12, 160), Phase(6, 224)))
    shared = recipe.with_epochs(epochs)
    assert tuple(phase.epochs for phase in shared.phases) == expected
    assert shared.warmup_epochs <= epochs / 2
    with pytest.raises(ValueError, match="at least 3"):
        recipe.with_epochs(2)


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("learning_rate=5e-4", "learning_rate", 5e-4),
        ("warmup_epochs=2", "warmup_epochs", 2.0),
        ("loss=TwoWayLoss", "loss", "TwoWayLoss"),
        ("ema_momentum=0.99", "ema_momentum", 0.99),
        ("phases=[(2, 96), (1, 224)]", "phases", (Phase(2, 96), Phase(1, 224))),
        ("phases=[{'epochs': 2, 'size': 64}]", "phases", (Phase(2, 64),)),
        ("loss_options={'margin': 0.05}", "loss_options", {"margin": 0.05}),
        ("resampling=ml-ros", "resampling", Resampling("ml-ros")),
        ("resampling=('lp-rus', 10)", "resampling", Resampling("lp-rus", 10)),
        ("data.protocol=mrp", "data", PsmmDataSet(protocol="mrp")),
    ],
)
def test_override(assignment, field, value):
    assert getattr(override(Recipe(name="x"), assignment), field) == value


def test_a_fraction_may_replace_a_whole_number():
    assert override(Recipe(name="x", warmup_epochs=1), "warmup_epochs=0.5").warmup_epochs == 0.5


def test_override_reaches_into_parts():
    recipe = override(Recipe(name="x", data=PhantomDataSet()), "augmentation.mixup=0")
    assert recipe.augmentation == Augmentation(mixup=0.0)
    assert override(recipe, "data.train_patients=7").data == PhantomDataSet(train_patients=7)
    palm = replace(recipe, data=PalmDataSet())
    assert override(palm, "data.folder=/somewhere").data == PalmDataSet("/somewhere")


@pytest.mark.parametrize(
    "assignment",
    [
        "learning_rate",
        "no_such=1",
        "learning_rate=fast",
        "seed=1.5",
        "seed.x=1",
        "augmentation.noise=2",
        "phases=3",
        "resampling=some",
        "data.protocol=x",
        "loss_options={'margn': 0.1}",
    ],
)
def test_bad_override_is_refused(assignment):
    with pytest.raises(ValueError, match=r"learning_rate|no_such|seed|noise|phases|method|protocol|margn"):
        override(Recipe(name="x"), assignment)


@pytest.mark.parametrize(
    "text",
    ["3", "(2, 64)", "{'epochs': 2, 'size': 64}", "[{'epochs': 2}]", "[{'epochs': 2, 'px': 64}]", "[(2, 64, 1)]"],
)
def test_phases_written_otherwise_are_refused_with_the_form(text):
    with pytest.raises(ValueError, match=r"expected pairs \(epochs, size\), such as \[\(2, 64\)\]$") as error:
        override(Recipe(name="x"), f"phases={text}")
    assert str(error.value).startswith(repr(f"phases={text}"))


@pytest.mark.parametrize(
    "settings",
    [
        {"phases": ()},
        {"phases": (Phase(1, 100),)},
        {"batch_size": 0},
        {"preset": "x"},
        {"head": "x"},
        {"train_share": 0.0},
        {"accumulate": 0},
        {"accumulate": 1.5},
        {"phases": (Phase(1.5, 96),)},
        {"phases": (Phase(1, "96"),)},
        {"learning_rate": -1e-4},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"final_learning_rate": -1e-6},
        {"warmup_epochs": -1.0},
        {"warmup_start": 2.0},
        {"weight_decay": -0.05},
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"clip_norm": 0.0},
        {"drop_path_rate": 1.0},
        {"drop_path_rate": -0.1},
        {"reduction": 3},
        {"ema_momentum": 1.0},
        {"validate_every": 0},
        {"seed": -1},
        {"fake_quantization": "int4"},
        {"loss": "NoLoss"},
        {"loss": {"probabilities": "NoLoss"}},
        {"loss": "CrossentropyDice"},
        {"loss": {"disc": "AsymmetricLoss"}},
        {"loss_weights": {"disc": 1.0}},
        {"loss_weights": {"probabilities": -1.0}},
        {"validation_loss": 1},
        {"keep": "val_dice"},
        {"keep": 3},
        {"keep": "val_loss"},
        {"patience": 3},
        {"keep": "val_map", "patience": 0},
        {"drop_after": 3},
        {"keep": "val_map", "drop_after": 0},
        {"restart_below": 1e-6},
        {"keep": "val_map", "drop_after": 3, "restart_below": 0.0},
        {"keep": "val_map", "drop_after": 3, "restart_below": 1e-3},
        {"loss_options_after_drop": {"margin": 0.1}},
        {"keep": "val_map", "drop_after": 3, "loss_options_after_drop": {"lam": 0.1}},
        {"momentum": 1.0},
        {"momentum": 0.0},
        {"nesterov": True},
        {"nesterov": 1, "momentum": 0.9},
        {"head_options": {"num_heads": 3}},
        {"head_options": {"num_head": 2}},
        {"head_options": {"lam": -1.0}},
        {"head": "linear", "head_options": {"lam": 1.2}},
        {"model_options": {"img_size": 384}},
        {"model_options": {"image_size": 384}},  # follows from the phases
        {"model_options": {"drop_path_rate": 0.1}},  # a field of the recipe
        {"model_options": {"depths": [1, 1, 2]}},
        {"model_options": {"frozen_stages": 5}},
        {"preset": "convnext_t_384", "model_options": {"embed_dims": [1, 1, 1, 1]}},
        {"preset": "swin_b_384", "model_options": {"window": 7}},
        {"loss_options": {"margin": 2.0}},
        {"loss_options": {"gamma_pos": -1.0}},
        {"loss_options": {"gamma": 2.0}},
        {"loss": "FocalLoss", "loss_options": {"alpha": 1.5}},
        {"loss": "TwoWayLoss", "loss_options": {"positive_temperature": 0.0}},
    ],
    ids=str,
)
def test_impossible_recipe_is_refused(settings):
    with pytest.raises(ValueError, match="Received"):
        Recipe(name="x", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"erase_area": (0.3, 0.1)},
        {"erase_area": (0.5, 1.5)},
        {"erase_aspect": (0.0, 1.0)},
        {"erase_fill": 256},
        {"scale": (-1.0, 1.0)},
        {"rotation": -5.0},
        {"shear": 90.0},
        {"blur_size": 4},
        {"blur_sigma": (0.0, 1.0)},
        {"brightness": -1.0},
        {"hue": 0.6},
        {"noise_variance": (-5.0, 1.0)},
        {"mixup_alpha": 0.0},
        {"mixup": 0.6, "cutmix": 0.6},
    ],
    ids=str,
)
def test_impossible_augmentation_is_refused(settings):
    with pytest.raises(ValueError, match="Received"):
        Augmentation(**settings)


def test_settings_that_belong_together_may_be_given_in_any_order():
    recipe = Recipe(name="x", loss_options={"gamma_pos": 1.0})
    settings = ["loss=TwoWayLoss", "loss_options={'positive_temperature': 2.0}"]
    for order in (settings, settings[::-1]):
        changed = override(recipe, *order)
        assert (changed.loss, changed.loss_options) == ("TwoWayLoss", {"positive_temperature": 2.0})
    assert override(recipe, "data.protocol=cgp", "data.external=SUSTech").data.external == "SUSTech"
    with pytest.raises(ValueError, match="given as a whole, too"):
        override(recipe, "data=x", "data.protocol=cgp")
