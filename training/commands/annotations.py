"""The command that makes records of annotators of masks."""

from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.errors import RealMNetError
from training.commands.options import writable

__all__ = ["annotate"]


def annotate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the data.")],
    landmarks: Annotated[
        Path, typer.Option(help="records.jsonl of edge_app screen --bundle bundles/fundus-structures.")
    ],
    finding: Annotated[list[str], typer.Option(metavar="CODE=VALUE", help="A finding's grey value; repeatable.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="File for the records (JSON).")],
    pictures: Annotated[str, typer.Option(help="Folder of the pictures, below FOLDER.")] = "images",
    masks: Annotated[str, typer.Option(help="Folder of the masks, below FOLDER, named as the pictures.")] = "masks",
) -> None:
    """Write in which of the eight regions around disc and fovea masks show a finding.

    Codes are those of the lesions of diabetic retinopathy (EX, HE, …). Where disc and fovea lie the network of the
    bundle fundus-structures has said; nobody has looked whether it is right.

    [bold]Example[/bold]: python -m training annotate HEI_MED --masks lesion --finding EX=1
    --landmarks landmarks/records.jsonl --out hei_med.json
    """
    from training.data.annotations.of_masks import annotations_of_masks, eyes_of_records
    from training.data.annotations.records import write_annotations
    from training.data.files.notices import noticed, tell
    from training.data.lesions.vocabulary import LESIONS

    values = {code: _value(code, value) for code, _, value in (each.partition("=") for each in finding)}
    unknown = sorted(set(values) - set(LESIONS.codes))
    if unknown:
        raise typer.BadParameter(f"findings are some of {', '.join(LESIONS.codes)}. Received: {', '.join(unknown)}")
    writable(out.absolute().parent)
    names = {code: LESIONS[code].name for code in values}
    annotations, left_out = annotations_of_masks(folder, pictures, masks, values, names, eyes_of_records(landmarks))
    tell(noticed(("pictures without a mask or landmarks, left out", left_out)))
    placeless = [each.picture for each in annotations.pictures if each.disc is None]
    tell(noticed(("pictures in which disc or fovea was not found: regions are not known", placeless)))
    write_annotations(out, annotations)
    for code in values:
        present = sum(each.label(code) == 1 for each in annotations.pictures)
        print(f"{code}: in {present} of {len(annotations.pictures)} pictures")
    print(f"written: {out}")


def _value(code: str, text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 255:
        raise RealMNetError(f"--finding must be CODE=VALUE, a grey value from 1 to 255. Received: {code}={text}")
    return int(text)
