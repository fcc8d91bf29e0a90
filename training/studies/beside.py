"""Two runs of different questions as one: masks of one network beside what another one says of the reduced picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.networks import check_answers
from keras_realmnet.presets import MAIN, PART
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.weights import transfer_weights
from training.datasets.combined import CombinedDataSet
from training.datasets.data_set import DataSet
from training.fitting.folders import check_folder
from training.fitting.run_folder import known_recipe, learned_from, run_facts
from training.recipe import Recipe
from training.runs import BESIDE_FILE, build_model, load_run, members_of, recipe_of_run
from training.studies.ensembles import member_facts, score_run, write_run

__all__ = ["write_beside"]


def write_beside(
    main: Path,
    part: Path,
    out: Path,
    reduction: int = 2,
    cache: Path = Path("data/cache"),
    replicates: int = 1000,
) -> dict[str, Any]:
    """Makes the folder of a run of the preset `beside` out of two finished runs, without training, and scores it.

    The network sees a picture of `reduction` times the size of `main`'s; `main` sees it reduced, `part`, which answers
    one output of masks, as it is. The recipe is that by which both would be trained together; `beside.json` says which
    runs they were. Its data is that of both, so each is scored on what it has held out.

    Returns:
        What `evaluate` found; nothing where no picture is held out for a test, which it says.

    Raises:
        RealMNetError: a folder that is not that of a finished run, or is that of an ensemble; a part that answers
            anything but one output of masks; networks that cannot be beside each other; or there is a run in `out`.
        DataSetError: the data is not there.
    """
    check_folder(out)
    if known_recipe(out) is not None:
        raise RealMNetError(f"{out} holds a run: choose another --out")
    recipes = {name: _single(run) for name, run in ((MAIN, main), (PART, part))}
    recipe = _together(recipes[MAIN], recipes[PART], part, reduction)
    task = recipe.data.task
    train, validation = (recipe.data.load(split, recipe.spec(), cache) for split in ("train", "validation"))
    if train is None:
        raise RealMNetError(f"neither {main} nor {part} has data to train on")
    facts = run_facts(recipe, train, validation, recipe.spec())
    facts["training_data"] = f"{learned_from(recipes[MAIN])}; its network of {_output(recipes[PART])}: " + learned_from(
        recipes[PART]
    )
    keras.config.set_dtype_policy("float32")
    model = build_model(recipe, recipe.image_size)
    for name, run in ((MAIN, main), (PART, part)):
        transfer_weights(load_run(run)[0], model.get_layer(name))
    parts = {name: member_facts(run, recipes[name]) for name, run in ((MAIN, main), (PART, part))}
    write_run(out, model, recipe, task, facts, {BESIDE_FILE: parts})
    return score_run(out, recipe, cache, replicates)


def _single(run: Path) -> Recipe:
    if members_of(run):
        raise RealMNetError(f"{run}: an ensemble is no part of another network")
    return recipe_of_run(run)


def _output(recipe: Recipe) -> str:
    """The output of a network that answers nothing but masks of one vocabulary."""
    ((name, output), *others) = recipe.data.task.trained.items()
    if others or not isinstance(output, Masks):
        raise RealMNetError(
            f"the part must answer one output of masks. Received: {recipe.name}, which answers "
            f"{', '.join(recipe.data.task.trained)}"
        )
    return name


def _together(main: Recipe, part: Recipe, part_run: Path, reduction: int) -> Recipe:
    options = {
        MAIN: {"preset": main.preset, "options": main.network_options},
        PART: {"output": _output(part), "preset": part.preset, "options": part.network_options},
        "reduction": reduction,
    }
    try:
        recipe = replace(
            main,
            name=f"{main.name}_{_output(part)}",
            data=CombinedDataSet(main.data.task.name, *_parts(main.data, part.data)),
            preset="beside",
            model_options=options,
            part_run=str(part_run),
            teacher=None,  # what one of them was taught it knows
            phases=tuple(replace(phase, size=phase.size * reduction) for phase in main.phases),
        )
        check_answers(recipe.preset, recipe.data.task.trained)
        return recipe
    except ValueError as error:
        raise RealMNetError(f"{main.name} and {part.name} cannot be beside each other: {error}") from error


def _parts(*datas: DataSet) -> tuple[tuple[DataSet, ...], tuple[int, ...]]:
    """What the data of several runs consists of, and how often each part's training pictures count."""
    parts: list[DataSet] = []
    repeats: list[int] = []
    for data in datas:
        if isinstance(data, CombinedDataSet):
            parts += data.parts
            repeats += data.repeats
        else:
            parts.append(data)
            repeats.append(1)
    return tuple(parts), tuple(repeats)
