"""The command that gives the figures of a clinic."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import Backend, Cache, Data, Replicates, use_backend

__all__ = ["clinic"]


def clinic(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of an evaluated run, or of results of edge_app screen.")
    ],
    truth: Annotated[
        Path | None, typer.Option(help="Of results: table of what is true, with file and refer (1, 0).")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Of results: the bundle whose records count, and that keeps the figures.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Which pictures these are, in words, for the bundle.")] = None,
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Sensitivity, specificity, decision rate and retake rate, with intervals, and why pictures have no decision.

    Of pictures, eyes and patients. A run's test pictures are judged as on the box and decided by the run's rule; of
    results of the box the records are read. Writes clinic.json and clinic.png into the folder; with --bundle and
    --name the figures are also kept in the bundle, whose model card (export card) shows them. Nothing that is written
    is about a single patient.

    The table (csv or xlsx) may also have the columns patient, eye and source. What is what: docs/clinic.md.

    [bold]Examples[/bold]

    python -m training clinic runs/phantom_5m_224

    python -m training clinic results --truth truth.csv

    python -m training clinic results --truth truth.csv --bundle bundles/mine --name "200 photographs of our clinic"
    """
    use_backend(backend)
    from training.report.plots.clinic import flow_and_causes
    from training.report.plots.files import png
    from training.scoring.clinic.box_records import RECORDS, read_records
    from training.scoring.clinic.figures import clinic_figures
    from training.scoring.clinic.kept import CLINIC_FILE, keep_in_bundle, write_kept
    from training.scoring.clinic.printing import print_clinic
    from training.scoring.statistics.bootstrap import Bootstrap

    if (bundle is None) != (name is None):
        raise typer.BadParameter("--bundle and --name go together: the figures are kept in a bundle under that name")
    if (folder / RECORDS).is_file():
        from keras_realmnet.screening.bundle.bundle import Bundle

        chosen = None if bundle is None else Bundle.described(bundle)
        screened = read_records(folder, truth, chosen)
        figures = clinic_figures(screened.pictures, Bootstrap("patient", bootstrap))
        title = f"{screened.bundle_name} ({screened.artifact})"
        if screened.left_out:
            print(f"left out: {screened.left_out} records of other bundles or of pictures that the table lacks")
        if chosen is not None and name is not None:
            print(f"written: {keep_in_bundle(chosen, screened.artifact, name, figures)}")
    else:
        if truth is not None or bundle is not None:
            raise typer.BadParameter(f"--truth, --bundle and --name go with results: {folder} has no {RECORDS}")
        from training.scoring.clinic.run_pictures import judge_test_pictures

        figures = clinic_figures(judge_test_pictures(folder, data, cache), Bootstrap("patient", bootstrap))
        title = folder.name
    print_clinic(title, figures)
    write_kept(folder / CLINIC_FILE, {title: figures})
    (folder / "clinic.png").write_bytes(png(flow_and_causes(figures)))
    print(f"written: {folder / CLINIC_FILE}, {folder / 'clinic.png'}")
