"""The command that writes what accompanies a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.errors import RealMNetError

__all__ = ["card"]


def card(
    directories: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders of bundles.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where one is not up to date.")] = False,
) -> None:
    """Write a bundle's model card (README.md) and its bill of materials (sbom.cdx.json, CycloneDX).

    Both follow from bundle.json, the figures of [bold]training clinic[/bold] that are kept in the folder, and
    requirements-edge.txt: the same bytes each time.

    [bold]Examples[/bold]

    python -m export card bundles/palm-lite bundles/mine

    python -m export card bundles/mine --check
    """
    from export.bundling.cards.keeping import stale_cards, write_cards
    from keras_realmnet.screening.bundle.bundle import Bundle

    bundles = [Bundle.load(directory) for directory in directories]
    if check:
        stale = [str(bundle.directory / name) for bundle in bundles for name in stale_cards(bundle)]
        if stale:
            raise RealMNetError(f"{', '.join(stale)}: not up to date; `python -m export card` writes them anew")
        return
    for bundle in bundles:
        print(f"written: {', '.join(str(bundle.directory / name) for name in write_cards(bundle))}")
