"""Commands that score: a run, any model's table of scores, two of them against each other."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    Backend,
    Cache,
    Columns,
    Data,
    OwnVocabulary,
    Replicates,
    Table,
    Vocabulary,
    label_set_named,
    print_json,
    recipe_from_options,
    use_backend,
)

__all__ = ["compare", "cross_validation", "evaluate", "score", "score_ratio", "score_refuge"]


def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit wrote.")],
    data: Data = None,
    recipe: Annotated[
        str | None, typer.Option(help="Score on other pictures: all that this recipe names, found at --data.")
    ] = None,
    table: Table = None,
    columns: Columns = None,
    vocabulary: OwnVocabulary = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Score a finished run on its test images, again, or on other pictures.

    Writes scores.json and test_scores.csv into the run folder and prints a table; of other pictures
    scores_on_RECIPE.json and .csv. Your own are described as for fit, by --table, --columns and --labels; they may know
    only some of what the network answers.

    [bold]Examples[/bold]

    python -m training evaluate runs/phantom_5m_224

    python -m training evaluate runs/fundus_landmarks --recipe drishti_disc --data DRISHTI_GS/images

    python -m training evaluate runs/mine --data new --table list.csv --columns path=file --labels vocabulary.toml
    """
    use_backend(backend)
    from training.scoring.evaluate import evaluate as evaluate_run
    from training.scoring.evaluate import evaluate_on

    if recipe is None and vocabulary is None:
        if table is not None or columns is not None:
            raise typer.BadParameter("--table and --columns go with --labels, the vocabulary of your own pictures")
        evaluate_run(run_folder, data=data, cache=cache, replicates=bootstrap)
        return
    named = recipe or "own_lite_256"  # the recipe of one's own pictures; only its data counts
    other = recipe_from_options(named, data, table=table, columns=columns, vocabulary=vocabulary, fold="all").data
    name = Path(data or named).name if recipe is None else Path(recipe).stem
    evaluate_on(run_folder, other, name, cache=cache, replicates=bootstrap)
    print(f"written: {run_folder / f'scores_on_{name}.json'}")


def cross_validation(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of the runs, one for each fold.")],
    out: Annotated[Path, typer.Option(help="Folder for cross_validation.json, such as the run that learned from all.")],
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Score the runs of a cross-validation as one: every picture by the network that did not learn from it.

    Writes cross_validation.json. In the folder of a run, evaluate and a bundle take the thresholds from it, and the
    bundle states its scores.

    [bold]Example[/bold]: python -m training cross-validation runs/palm_lite_* --out runs/palm_lite
    """
    use_backend(backend)
    from training.scoring.folds import score_folds

    score_folds(run_folders, out, data=data, cache=cache, replicates=bootstrap)
    print(f"written: {out / 'cross_validation.json'}")


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
    from training.scoring.printing import print_level
    from training.scoring.statistics.bootstrap import UNITS, Bootstrap
    from training.scoring.statistics.levels import LEVELS
    from training.scoring.tables import score_table

    for option, value, allowed in (("unit", unit, UNITS), ("level", level, LEVELS)):
        if value not in allowed:
            raise typer.BadParameter(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}")
    chosen = label_set_named(label_set)
    result = score_table(labels, scores, level, Bootstrap(unit, bootstrap, seed), chosen)
    if json:
        print_json(result)
        return
    title = f"{scores}: {result['cases']} {level}s of {result['patients']} patients"
    print_level(title, result, result["bootstrap"], chosen)


def score_refuge(
    folder: Annotated[Path, typer.Argument(help="What is handed in: the csv files, and the folder segmentation.")],
    data: Annotated[Path, typer.Option(help="Folder of REFUGE's pictures and their truth.")],
    split: Annotated[str, typer.Option(help="Those that were asked about: train, validation or test.")] = "test",
    bootstrap: Replicates = 1000,
    json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout.")] = False,
) -> None:
    """Check what is to be handed in to REFUGE, and score it by the challenge's measures, with intervals.

    In the pictures' own pixels: AUROC of glaucoma, Dice of disc and cup, the error of the vertical cup-to-disc ratio,
    the distance of the fovea; of those answers that are there.

    [bold]Example[/bold]: python -m training score-refuge submission --data REFUGE --split validation
    """
    from training.datasets.data_set import SPLITS
    from training.scoring.challenge import score_refuge as score_submission
    from training.scoring.printing import print_challenge

    if split not in SPLITS:
        raise typer.BadParameter(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
    result = score_submission(folder, data, split, bootstrap)
    if json:
        print_json(result)
    else:
        print_challenge(result)


def score_ratio(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run that answers disc and cup.")],
    data: Annotated[str, typer.Option(help="Folder of pictures of which glaucoma is known.")],
    layout: Annotated[str, typer.Option(help="How they lie there: refuge, drishti_gs or hrf.")] = "refuge",
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Score the vertical cup-to-disc ratio of a run as a predictor of glaucoma, on pictures that are new to it.

    Writes ratio_on_LAYOUT.json and .csv into the run folder: AUROC and average precision, with intervals by patient.

    [bold]Example[/bold]: python -m training score-ratio runs/disc_cup --data HRF --layout hrf
    """
    use_backend(backend)
    from keras_realmnet.errors import RealMNetError
    from training.datasets.data_set import SPLITS
    from training.datasets.found.glaucoma import GlaucomaDataSet
    from training.scoring.printing import print_challenge
    from training.scoring.vertical_ratio import score_ratio as score_ratio_of

    try:
        pictures = GlaucomaDataSet(data, layout, outputs=("glaucoma",))
        if pictures.has_sets:
            pictures = GlaucomaDataSet(data, layout, outputs=("glaucoma",), train_on=SPLITS)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    print_challenge(score_ratio_of(run_folder, pictures, layout, cache=cache, replicates=bootstrap))
    print(f"written: {run_folder / f'ratio_on_{layout}.json'}")


def compare(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[A B]", help="Two folders that cross-validation wrote into, or two evaluated runs."),
    ] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Or: label list (csv as PSMM has it); repeatable.")] = None,
    scores: Annotated[
        list[Path] | None, typer.Option(help="Scores of model A, then, given again, those of model B.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples for intervals and p-values.")] = 1000,
    label_set: Annotated[
        str | None, typer.Option(help="Vocabulary of tables: psmm, palm or peripheral. Default: psmm.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Only JSON on stdout.")] = False,
) -> None:
    """Test whether two models differ on the same images.

    Differences B − A with intervals and p from resampling patients; of two tables of labels, or runs of labels, also
    DeLong's test for each label's AUROC, and the published t-test, each with what to keep in mind.

    [bold]Examples[/bold]

    python -m training compare runs/plain runs/guided

    python -m training compare --labels test.csv --scores a_scores.csv --scores b_scores.csv
    """
    from training.scoring.comparison import compare_runs, compare_tables
    from training.scoring.evaluated_runs import TEST_TABLE
    from training.scoring.pooled import POOLED, compare_pooled
    from training.scoring.printing import print_comparison, print_differences

    if folders:
        if len(folders) != 2 or labels or scores or label_set:
            raise typer.BadParameter(
                "expected two folders, A and B, and neither tables nor --label-set, which runs know themselves. "
                f"Received: {len(folders)} folders"
            )
        pooled, runs = (sum((folder / name).is_file() for folder in folders) for name in (POOLED, TEST_TABLE))
        if pooled == 2 or pooled > runs:
            result, show = compare_pooled(folders[0], folders[1], bootstrap, seed), print_differences
        else:
            result, show = compare_runs(folders[0], folders[1], bootstrap, seed), print_comparison
    elif labels and scores and len(scores) == 2:
        result = compare_tables(labels, scores[0], scores[1], bootstrap, seed, label_set_named(label_set or "psmm"))
        show = print_comparison
    else:
        raise typer.BadParameter(
            "expected two folders, or --labels with --scores given twice, for A and for B. "
            f"Received: --labels {len(labels or ())} times, --scores {len(scores or ())} times"
        )
    if json:
        print_json(result)
    else:
        show(result)
