"""Commands that write a model of a bundle in another form."""

from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import tell
from export.commands.tables import print_artifacts

__all__ = ["onnx", "tensorrt"]


def onnx(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle with its Keras model.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    route: Annotated[str, typer.Option(help="own: layer by layer; tf2onnx: from TensorFlow's graph.")] = "own",
    batch: Annotated[int, typer.Option(min=0, help="Images per call; 0 leaves it open.")] = 1,
    opset: Annotated[
        int | None,
        typer.Option(
            help="Of the own route. Default: 23, for ONNX Runtime 1.23. 20: for ONNX Runtime 1.17, and for TensorRT "
            "below 10.14, which has no Attention."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the own route: float32, float16 or bfloat16.")] = "float32",
) -> None:
    """Write a bundle's Keras model as ONNX, for engines outside of bundles.

    [bold]Examples[/bold]

    python -m export onnx bundles/realmnet-demo --out model.onnx --batch 0

    python -m export onnx bundles/realmnet-demo --out model.onnx --route tf2onnx
    """
    if route not in ("own", "tf2onnx"):
        raise typer.BadParameter(f"--route must be own or tf2onnx. Received: {route}")
    if route == "tf2onnx" and (opset, precision) != (None, "float32"):
        raise typer.BadParameter(
            "--opset and --precision are for the own route; tf2onnx writes its newest opset, float32"
        )
    from export.contract.keras_source import load_source
    from export.conversion.deployment import deployment_of
    from export.conversion.to_onnx import OPSET, opens_in, to_onnx, to_onnx_by_tf2onnx
    from keras_realmnet.screening.bundle.bundle import Bundle

    loaded = Bundle.load(directory)
    model = load_source(loaded)
    deployment = deployment_of(model, loaded.task)
    try:
        if route == "tf2onnx":
            to_onnx_by_tf2onnx(model, out, batch or None, **deployment)
        else:
            to_onnx(model, out, batch or None, OPSET if opset is None else opset, precision, **deployment)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    print(f"written: {out}: {opens_in(out)}")


def tensorrt(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; the engine is added.")],
    artifact: Annotated[str, typer.Option(help="ONNX artifact to build from; its precision is the engine's.")] = (
        "onnx-float16-gpu"
    ),
    tf32: Annotated[bool, typer.Option("--tf32/--no-tf32", help="Multiply float32 with a mantissa of 10 bits.")] = True,
    timing_cache: Annotated[Path, typer.Option(help="Folder of timings that make the next build faster.")] = Path(
        "data/cache/tensorrt"
    ),
) -> None:
    """Build a TensorRT engine on this machine, compare it with its ONNX model and add it to the bundle.

    The engine runs only on this GPU with this TensorRT, 10 or newer. The artifacts called onnx-…-gpu are of opset 20,
    which every such TensorRT reads; below 10.14 it has no Attention, which ONNX models of opset 23 have. Needs no
    Keras; see docs/jetson.md. Not yet run on hardware.

    [bold]Example[/bold]

    python -m export tensorrt bundles/mine --artifact onnx-int8-gpu
    """
    from export.conversion.to_tensorrt import add_engine
    from keras_realmnet.screening.bundle.bundle import Bundle

    made = add_engine(Bundle.load(directory), artifact, tf32, timing_cache, tell=tell)
    print_artifacts(made)
    print(f"written: {made.directory}")
