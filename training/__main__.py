"""`python -m training`: make synthetic images, train a network, score it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_realmnet.command_line import ShowVersion, run
from keras_realmnet.errors import RealMNetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras_realmnet.screening.labels import LabelSet
    from training.data.label_table import LabelTable
    from training.recipe import Recipe

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

BACKENDS = ("tensorflow", "jax", "torch")
Backend = Annotated[str | None, typer.Option(help="Keras backend: tensorflow (default), jax or torch.")]
Cache = Annotated[Path, typer.Option(help="Folder for prepared images; made once and used again.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")]
Data = Annotated[str | None, typer.Option(help="Folder of the data set, for recipes that do not make their own.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs in all, shared among the recipe's phases.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field of the recipe; repeatable.")
]
Devices = Annotated[int | None, typer.Option(min=1, help="Devices that share each batch (tensorflow, jax).")]
Augmenters = Annotated[int, typer.Option("--workers", min=0, help="Processes that augment. 0: threads do it.")]
Track = Annotated[str | None, typer.Option(help="wandb: send the numbers to Weights & Biases too.")]
Replicates = Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")]
Labels = Annotated[list[Path], typer.Option(help="Label list (csv); repeatable.")]
Vocabulary = Annotated[str, typer.Option("--label-set", help="Vocabulary of the labels: psmm, palm or peripheral.")]


@app.callback()
def commands(version: ShowVersion = False) -> None:
    """Make synthetic images, train networks and score them. Research software: not for clinical use."""


def _writable(folder: Path | None) -> Path | None:
    """An option's folder, refused before the command begins where nothing can be written into it."""
    from training.fitting.folders import check_folder

    return None if folder is None else check_folder(folder)


def _use_backend(backend: str | None) -> None:
    """Before Keras is imported: it cannot change its backend afterwards."""
    if backend is not None:
        if backend not in BACKENDS:
            raise typer.BadParameter(f"backend must be one of {', '.join(BACKENDS)}. Received: {backend!r}")
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices


def _read_labels(paths: list[Path], label_set: str) -> "LabelTable":
    from training.data.label_table import concatenate, read_label_table

    chosen = _label_set(label_set)
    return concatenate(read_label_table(path, chosen) for path in paths)


def _note_spellings(table: "LabelTable") -> None:
    """Says which patients are written in two ways: what counts patients takes each for two."""
    from training.data.label_table import spellings

    for problem in spellings([table]):
        print(f"note: {problem}", file=sys.stderr)


@app.command()
def fit(
    recipe: Annotated[str, typer.Option(help="Name of a file in training/recipes, such as realmnet_21m_384 or smoke.")],
    out: Annotated[Path | None, typer.Option(callback=_writable, help="Run folder. Default: runs/RECIPE.")] = None,
    data: Data = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Continue the unfinished run in the run folder.")] = True,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train a recipe and score it on held-out images.

    The run folder gets recipe.json, run.json, history.csv, tensorboard/, weights.weights.h5 and scores.json.
    Interrupt with Ctrl-C whenever you like: the same command goes on after the last complete epoch.

    [bold]Examples[/bold]

    python -m training fit --recipe smoke

    python -m training fit --recipe palm_5m_224 --data PALM --out runs/palm

    python -m training fit --recipe realmnet_21m_384 --data PSMM --set resampling=ml-rus --set augmentation.mixup=0.2
    """
    train = _training(backend, cache, devices, workers, track)
    chosen = _recipe(recipe, data, epochs, batch_size, seed, settings)
    folder = out or Path("runs") / recipe
    train(chosen, folder, resume)
    print(f"written: {folder}")


@app.command()
def sweep(
    name: Annotated[str | None, typer.Argument(help="Which study; without it, those there are are listed.")] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that the variants change.")] = "realmnet_21m_384",
    only: Annotated[list[str] | None, typer.Option(help="A variant; repeatable. Default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=_writable, help="Folder for the runs. Default: runs/sweeps/RECIPE/NAME.")
    ] = None,
    data: Data = None,
    epochs: Epochs = None,
    settings: Settings = None,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train the variants of one ablation or parameter study, skipping those that are done, and tabulate them.

    Interrupt whenever you like: the same command goes on where it stopped.

    [bold]Examples[/bold]

    python -m training sweep

    python -m training sweep lam --data PSMM

    python -m training sweep loss --recipe study_realmnet --only bce --only two_way
    """
    from training.studies.sweeps import SWEEPS, run_sweep

    if name is None:
        for sweep_name, description in SWEEPS.items():
            print(f"{sweep_name:<18} {description.question}\n{'':<18} {', '.join(description.variants)}")
        return
    train = _training(backend, cache, devices, workers, track)
    base = _recipe(recipe, data, epochs, None, None, settings)
    folder = out or Path("runs/sweeps") / recipe / name
    try:
        rows = run_sweep(name, base, folder, train, only or ())
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    from training.scoring.score_rows import print_rows

    print_rows(rows, ["variant"])
    print(f"written: {folder / 'sweep.csv'}")


@app.command()
def protocol(
    name: Annotated[str, typer.Argument(help="cip, mrp or cgp.")],
    data: Annotated[str, typer.Option(help="Folder of the PSMM data set.")],
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe; repeatable. Default: realmnet_21m_384.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=_writable, help="Folder for the runs. Default: runs/protocols/NAME.")
    ] = None,
    counts: Annotated[bool, typer.Option("--counts", help="Only count the images and patients of each set.")] = False,
    epochs: Epochs = None,
    settings: Settings = None,
    bootstrap: Replicates = 1000,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train and test under one of the paper's protocols, skipping what is done, and tabulate by hospital.

    cip: all hospitals train and test, patients apart. mrp: the main hospital trains, each other one tests.
    cgp: one hospital after the other is left out of training and tests.

    [bold]Examples[/bold]

    python -m training protocol cgp --data PSMM --counts

    python -m training protocol cip --data PSMM --recipe realmnet_21m_384 --recipe swin_b_384
    """
    from training.studies.protocols import protocol_runs, run_protocol, training_counts

    recipes = [_recipe(each, None, epochs, None, None, settings) for each in recipe or ["realmnet_21m_384"]]
    try:
        if counts:
            from training.data.splits import print_counts

            for part, chosen in protocol_runs(name, recipes[0], data).items():
                print(f"{name} {part}")
                print_counts(training_counts(chosen))
            return
        train = _training(backend, cache, devices, workers, track)
        folder = out or Path("runs/protocols") / name
        rows = run_protocol(name, recipes, data, folder, train, bootstrap)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    from training.scoring.score_rows import print_rows

    print_rows(rows, ["recipe", "tested_on", "images"])
    print(f"written: {folder / 'protocol.csv'}")


def _recipe(
    name: str,
    data: str | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    settings: list[str] | None,
) -> "Recipe":
    """The recipe of that name with what the command line changes."""
    from dataclasses import replace

    from training.recipe import load_recipe, override, with_data

    try:
        chosen = load_recipe(name)
        if epochs is not None:
            chosen = chosen.with_epochs(epochs)
        if batch_size is not None:
            chosen = replace(chosen, batch_size=batch_size)
        if seed is not None:
            chosen = replace(chosen, seed=seed)
        chosen = override(chosen, *(settings or ()))
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    return chosen if data is None else with_data(chosen, data)


def _training(
    backend: str | None, cache: Path, devices: int | None, workers: int, track: str | None
) -> "Callable[..., object]":
    """`fit(recipe, folder, resume=True)` with the command's resources; chooses the backend, so it comes first."""
    _use_backend(backend)
    if track not in (None, "wandb"):
        raise typer.BadParameter(f"track must be wandb. Received: {track!r}")

    def train(recipe: "Recipe", folder: Path, resume: bool = True) -> object:
        from training.fitting.fit import fit
        from training.fitting.loop import Resources

        return fit(recipe, folder, cache=cache, resume=resume, resources=Resources(devices, workers, track))

    return train


@app.command()
def augmentations(
    recipe: Annotated[str, typer.Option(help="Whose augmentation, on whose training images.")],
    out: Annotated[Path, typer.Option(help="Picture to write (.jpg or .png).")] = Path("augmentations.jpg"),
    data: Data = None,
    images: Annotated[int, typer.Option(min=1, max=40, help="Images, one per row, chosen evenly.")] = 6,
    settings: Settings = None,
    cache: Cache = Path("data/cache"),
) -> None:
    """Show what a recipe's augmentation does: each operation by itself, all together, and mixing.

    [bold]Example[/bold]: python -m training augmentations --recipe study_realmnet --set augmentation.hue=0.25
    """
    import numpy as np
    from PIL import Image

    from training.input.augmentation_sheet import augmentation_sheet

    chosen = _recipe(recipe, data, None, None, None, settings)
    training_set = chosen.data.load("train", chosen.spec(), cache)
    if training_set is None:
        raise RealMNetError(f"recipe {recipe!r}: its data has nothing to train on")
    rows = np.linspace(0, len(training_set) - 1, min(images, len(training_set))).astype(int)
    sheet = augmentation_sheet([training_set.image(k) for k in rows], chosen.augmentation, chosen.seed)
    try:
        Image.fromarray(sheet).save(out, quality=92)
    except (OSError, ValueError) as error:
        raise RealMNetError(f"{out} cannot be written ({error}); expected a name such as sheet.jpg") from error
    print(f"written: {out}")


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit wrote.")],
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Score a finished run on its test images, again.

    Writes scores.json and test_scores.csv into the run folder and prints a table.

    [bold]Example[/bold]: python -m training evaluate runs/phantom_5m_224
    """
    _use_backend(backend)
    from training.scoring.evaluate import evaluate as evaluate_run

    evaluate_run(run_folder, data=data, cache=cache, replicates=bootstrap)


@app.command()
def score(
    labels: Annotated[list[Path], typer.Option(help="Label list (csv as PSMM has it); repeatable.")],
    scores: Annotated[Path, typer.Option(help="The model's scores: csv with filename and one column per label.")],
    bootstrap: Replicates = 1000,
    unit: Annotated[str, typer.Option(help="What is resampled: patient, image, or paper (1,000 images).")] = "patient",
    level: Annotated[str, typer.Option(help="What is scored: image, eye or patient.")] = "image",
    label_set: Vocabulary = "psmm",
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout, with every score.")] = False,
) -> None:
    """Score any model from a table of its scores.

    Intervals: 95 % percentiles over resampled patients or images; with --unit paper the published mean ± 1.96 SD.
    An eye (or patient) has the worst grade that one of its images has; sensitivity and specificity for "pathologic" are
    those of a threshold of 0.5.

    [bold]Example[/bold]: python -m training score --labels test.csv --scores runs/mine/test_scores.csv --level eye
    """
    from training.scoring.evaluate import LEVELS, print_level, score_table
    from training.scoring.scores import UNITS, Bootstrap

    for option, value, allowed in (("unit", unit, UNITS), ("level", level, LEVELS)):
        if value not in allowed:
            raise typer.BadParameter(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}")
    chosen = _label_set(label_set)
    result = score_table(labels, scores, level, Bootstrap(unit, bootstrap, seed), chosen)
    if json:
        _print_json(result)
        return
    title = f"{scores}: {result['cases']} {level}s of {result['patients']} patients"
    print_level(title, result, result["bootstrap"], chosen)


@app.command()
def compare(
    labels: Annotated[list[Path], typer.Option(help="Label list (csv as PSMM has it); repeatable.")],
    scores: Annotated[list[Path], typer.Option(help="Scores of model A, then, given again, those of model B.")],
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples for intervals and p-values.")] = 1000,
    label_set: Vocabulary = "psmm",
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout.")] = False,
) -> None:
    """Test whether two models differ on the same images.

    Differences B − A with intervals and p from resampling patients, DeLong's test for each label's AUROC, and the
    published t-test, each with what to keep in mind.

    [bold]Example[/bold]: python -m training compare --labels test.csv --scores a_scores.csv --scores b_scores.csv
    """
    from training.scoring.evaluate import compare_tables, print_comparison

    if len(scores) != 2:
        raise typer.BadParameter(f"--scores must be given twice, for A and for B. Received: {len(scores)}")
    result = compare_tables(labels, scores[0], scores[1], bootstrap, seed, _label_set(label_set))
    if json:
        _print_json(result)
    else:
        print_comparison(result)


def _label_set(name: str) -> "LabelSet":
    from keras_realmnet.screening.labels import LABEL_SETS

    if name not in LABEL_SETS:
        raise typer.BadParameter(f"label set must be one of {', '.join(LABEL_SETS)}. Received: {name!r}")
    return LABEL_SETS[name]


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=1))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="PSMM", help="Folder laid out as PSMM is.")],
    train: Annotated[
        str, typer.Option(help="Training list, below ImageSets/Main, in the folder or anywhere.")
    ] = "MYOPIA/MYOPIA.csv",
    fast: Annotated[bool, typer.Option("--fast", help="Look only at the images' headers.")] = False,
    resampled: Annotated[
        bool, typer.Option("--resampled", help="The training list was resampled: files may repeat in it.")
    ] = False,
    label_set: Vocabulary = "psmm",
    workers: Workers = None,
) -> None:
    """Look for everything that is wrong with a data set: lists, patients, images.

    Each problem is printed with file and line, and the exit status is 2. Images are decoded whole; what passed is not
    decoded again the next time.

    [bold]Example[/bold]: python -m training check data/PSMM
    """
    from training.data.psmm import check as problems_of
    from training.data.psmm import print_summary, read_tables, unlisted

    tables = read_tables(folder, train, _label_set(label_set))
    problems = problems_of(folder, tables, fast=fast, resampled=resampled, workers=workers)
    if problems:
        print("\n".join(problems))
        raise RealMNetError(f"{folder}: problems found: {len(problems)}, listed above")
    print_summary(tables)
    if extra := unlisted(folder, tables):
        print(f"note: {extra} files in {folder / 'JPEGImages'} are in no list")


@app.command()
def split(
    labels: Labels,
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for train.csv, val.csv and test.csv.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffles; 42 gives PSMM's published sets.")] = 42,
    label_set: Vocabulary = "psmm",
) -> None:
    """Split the patients 7 : 1.5 : 1.5 into training, validation and test, stratified by label.

    The lists are taken together, whatever sets they held before; no patient is in two of the new ones.

    [bold]Example[/bold]: python -m training split --labels train.csv --labels val.csv --labels test.csv --out sets
    """
    from training.data.label_table import write_label_table
    from training.data.splits import print_counts, split_patients

    sets = split_patients(_read_labels(labels, label_set), seed)
    for name, table in zip(("train", "val", "test"), sets.values(), strict=True):
        write_label_table(out / f"{name}.csv", table)
    print_counts(sets)
    print(f"written: {out}")


@app.command()
def imbalance(
    labels: Labels,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with all digits.")] = False,
    label_set: Vocabulary = "psmm",
) -> None:
    """Measure how unbalanced the labels are: IRLbl, MeanIR, SCUMBLE.

    IRLbl: how many times rarer than the most frequent label. SCUMBLE: 0 to 1, how much rare and frequent labels share
    images.

    [bold]Example[/bold]: python -m training imbalance --labels train.csv
    """
    from training.data.resampling import imbalance as measure
    from training.data.resampling import print_imbalance

    table = _read_labels(labels, label_set)
    _note_spellings(table)
    if as_json:
        _print_json({"labels": table.label_set.codes, **measure(table).to_dict()})
    else:
        print_imbalance({"": table})


@app.command()
def resample(
    labels: Labels,
    out: Annotated[Path, typer.Option(dir_okay=False, help="Label list to write.")],
    method: Annotated[str, typer.Option(help="lp-ros, lp-rus, ml-ros, ml-rus, remedial or remedial-hwr.")] = "ml-rus",
    percent: Annotated[float, typer.Option(help="Of the rows, 0 to 100, to delete or to add at most.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 42,
    label_set: Vocabulary = "psmm",
) -> None:
    """Delete images of frequent labels, or repeat images of rare ones. For training sets only.

    [bold]Example[/bold]: python -m training resample --labels train.csv --method ml-rus --percent 20 --out fewer.csv
    """
    from training.data.label_table import write_label_table
    from training.data.resampling import Resampling, print_imbalance

    try:
        resampling = Resampling(method, percent, seed)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    before = _read_labels(labels, label_set)
    _note_spellings(before)
    after = resampling.apply(before)
    write_label_table(out, after)
    print_imbalance({"before": before, "after": after})
    print(f"written: {out}")


@app.command()
def prepare(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Folders of raw frames.")],
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for the prepared images.")],
    size: Annotated[int, typer.Option(min=32, max=4096, help="Side of the images in pixels.")] = 384,
    labels: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Prepare only what this label list names; repeatable.")
    ] = None,
    label_set: Vocabulary = "psmm",
    image_format: Annotated[str, typer.Option("--format", help="jpg (quality 95, 4:4:4) or png (lossless).")] = "jpg",
    workers: Workers = None,
) -> None:
    """Turn raw frames of any size (JPEG, PNG, TIFF, BMP, DICOM) into images of the model's size.

    Interrupt with Ctrl-C whenever you like: the same command goes on with what is missing. OUT gets JPEGImages,
    preprocess.json, prepared.csv (what was made from which frame) and contact_sheet.jpg to look at. The exit status is
    1 if frames failed or are missing, 2 if none could be prepared.

    [bold]Example[/bold]: python -m training prepare RAW --out data/mine --labels train.csv --labels val.csv
    """
    from keras_realmnet.screening.preprocessing import PreprocessSpec
    from training.data.prepare import FORMATS, SHEET
    from training.data.prepare import prepare as prepare_images

    if image_format not in FORMATS:
        raise typer.BadParameter(f"--format must be one of {', '.join(FORMATS)}. Received: {image_format!r}")
    summary = prepare_images(
        images,
        out,
        PreprocessSpec(size),
        image_format=image_format,
        labels=labels or (),
        label_set=_label_set(label_set),
        workers=workers,
    )
    for _, reason in summary.failures:
        print(f"not prepared: {reason}")
    for name in summary.missing:
        print(f"no frame found: {name}")
    print(
        f"written: {out}, {summary.images} images ({summary.new} new), {len(summary.failures)} not readable, "
        f"{len(summary.missing)} not found, {summary.left_out} in no list, {summary.no_images} other files"
    )
    if not summary.images:
        raise RealMNetError(f"{out}: no image could be prepared")
    print(f"look at {out / SHEET}")
    if summary.failures or summary.missing:
        raise typer.Exit(1)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="psmm, or a timm name such as tiny_vit_21m_384.dist_in22k_ft_in1k.")],
    out: Annotated[
        Path | None, typer.Option(callback=_writable, help="Folder. Default: data/psmm, or data/weights/NAME.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    endpoint: Annotated[str | None, typer.Option(help="Of the hub. Default: HF_ENDPOINT or huggingface.co.")] = None,
    unpack_only: Annotated[
        bool, typer.Option("--unpack-only", help="Fetch nothing: unpack the psmm archive that is in OUT.")
    ] = False,
) -> None:
    """Fetch the public PSMM data set, or published TinyViT weights, from the Hugging Face hub.

    OUT gets the files and provenance.json (commit, sizes, SHA-256). PSMM's split archive is unpacked as well. Interrupt
    with Ctrl-C whenever you like: the same command goes on.

    [bold]Examples[/bold]

    python -m training download psmm

    python -m training download tiny_vit_21m_384.dist_in22k_ft_in1k
    """
    from training.data.download import PROVENANCE, WEIGHTS, unpack
    from training.data.download import download as fetch

    if unpack_only and name != "psmm":
        raise typer.BadParameter(f"--unpack-only is for psmm. Received: {name!r}")
    out = out or (Path("data/psmm") if name == "psmm" else WEIGHTS / name)
    if not unpack_only:
        provenance = fetch(name, out, revision, endpoint)
        print(f"written: {len(provenance['files'])} files of commit {provenance['commit']}, {out / PROVENANCE}")
    if name == "psmm":
        folder = unpack(out)
        print(f"written: {folder / 'JPEGImages'}; the archive beside it may be deleted")
        print(f"next: python -m training check {folder}")


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for the images and label lists.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients; five images each on average.")] = 20,
    width: Annotated[int, typer.Option(min=96, max=4000, help="Width of the images in pixels.")] = 768,
    imbalance: Annotated[str, typer.Option(help="psmm (as in the real data) or balanced.")] = "psmm",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other eyes.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Draw synthetic ultra-widefield images with labels, laid out as PSMM is.

    OUT/JPEGImages holds the images, OUT/ImageSets/Main/MYOPIA/MYOPIA.csv the labels.

    [bold]Example[/bold]: python -m training phantom --out data/phantoms --patients 50
    """
    from training.phantoms.cohorts import cohort, write_psmm_tree

    try:
        cases = cohort(patients, seed=seed, imbalance=imbalance)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    table = write_psmm_tree(cases, out, width, workers=workers)
    print(f"written: {len(cases)} images, {table}")


@app.command()
def phantom_study(
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for the images and label lists.")] = Path(
        "data/study"
    ),
    images: Annotated[int, typer.Option(min=100, help="Images in all.")] = 3600,
    width: Annotated[int, typer.Option(min=96, max=4000, help="Width of the images in pixels.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other patients.")] = 2026,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Draw a synthetic study of five sources that look different, split and laid out as PSMM is.

    OUT/JPEGImages holds the images, OUT/ImageSets/Main the lists of training, validation and test. Interrupt with
    Ctrl-C whenever you like: the same command draws what is missing.

    [bold]Example[/bold]: python -m training phantom-study --out data/study
    """
    from training.phantoms.phantom_study import write_study

    write_study(out, images, width=width, seed=seed, workers=workers)
    print(f"written: {images} images, {out}")


@app.command()
def samples(
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for the sample files.")] = Path("samples"),
) -> None:
    """Write the sample images that are shipped with the project, in the formats that clinics send.

    [bold]Example[/bold]: python -m training samples --out samples
    """
    from training.phantoms.sample_files import write_samples

    write_samples(out)
    print(f"written: {out}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that fit wrote; several are compared.")],
    out: Annotated[Path, typer.Option(callback=_writable, help="Folder for report.html and figures/.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label list that describes the data (train, test, …); repeatable.")
    ] = None,
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Write one page with tables and figures of finished runs, and the figures for a publication.

    OUT/report.html holds everything it shows; OUT/figures has each figure as SVG and PNG, and its numbers as csv.

    [bold]Example[/bold]: python -m training report runs/a runs/b --labels train.csv --labels test.csv --out reports/ab
    """
    _use_backend(backend)
    from training.report.report import write_report

    page = write_report(runs, out, labels or (), data=data, cache=cache, replicates=bootstrap)
    print(f"written: {page}")


def main(args: list[str] | None = None) -> int:
    return run(app, "python -m training", args)


if __name__ == "__main__":
    sys.exit(main())
