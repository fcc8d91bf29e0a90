"""Commands that score: a run, any model's table of scores, two of them against each other."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    Backend,
    Cache,
    Data,
    Replicates,
    Vocabulary,
    label_set_named,
    print_json,
    use_backend,
)

__all__ = ["compare", "evaluate", "score"]


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
    use_backend(backend)
    from training.scoring.evaluate import evaluate as evaluate_run

    evaluate_run(run_folder, data=data, cache=cache, replicates=bootstrap)


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
    from training.scoring.bootstrap import UNITS, Bootstrap
    from training.scoring.levels import LEVELS
    from training.scoring.printing import print_level
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
    from training.scoring.printing import print_comparison
    from training.scoring.tables import compare_tables

    if len(scores) != 2:
        raise typer.BadParameter(f"--scores must be given twice, for A and for B. Received: {len(scores)}")
    result = compare_tables(labels, scores[0], scores[1], bootstrap, seed, label_set_named(label_set))
    if json:
        print_json(result)
    else:
        print_comparison(result)
