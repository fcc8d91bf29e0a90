"""Commands for data sets: fetch, look for what is wrong, split, resample, prepare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_realmnet.errors import RealMNetError
from training.commands.options import Labels, Vocabulary, Workers, label_set_named, print_json, writable

if TYPE_CHECKING:
    from training.data.label_table import LabelTable

__all__ = ["check", "download", "imbalance", "prepare", "resample", "split"]


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

    tables = read_tables(folder, train, label_set_named(label_set))
    problems = problems_of(folder, tables, fast=fast, resampled=resampled, workers=workers)
    if problems:
        print("\n".join(problems))
        raise RealMNetError(f"{folder}: problems found: {len(problems)}, listed above")
    print_summary(tables)
    if extra := unlisted(folder, tables):
        print(f"note: {extra} files in {folder / 'JPEGImages'} are in no list")


def split(
    labels: Labels,
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for train.csv, val.csv and test.csv.")],
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
        print_json({"labels": table.label_set.codes, **measure(table).to_dict()})
    else:
        print_imbalance({"": table})


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


def prepare(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Folders of raw frames.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for the prepared images.")],
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
        label_set=label_set_named(label_set),
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


def download(
    name: Annotated[str, typer.Argument(help="psmm, or a timm name such as tiny_vit_21m_384.dist_in22k_ft_in1k.")],
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Folder. Default: data/psmm, or data/weights/NAME.")
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


def _read_labels(paths: list[Path], label_set: str) -> "LabelTable":
    from training.data.label_table import concatenate, read_label_table

    chosen = label_set_named(label_set)
    return concatenate(read_label_table(path, chosen) for path in paths)


def _note_spellings(table: "LabelTable") -> None:
    """Says which patients are written in two ways: what counts patients takes each for two."""
    from training.data.label_table import spellings

    for problem in spellings([table]):
        print(f"note: {problem}", file=sys.stderr)
