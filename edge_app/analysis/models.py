"""Bundles opened together in one process, each checked, and which of them a picture goes to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_app.analysis.screen import FileOrigin, OnAnalysed, Screener
from edge_app.config import InstalledBundle
from keras_realmnet.errors import ModelOutOfOrder, RealMNetError
from keras_realmnet.screening.bundle.artifact import Artifact
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.image_io import ImageSource, LoadedImage, read_image
from keras_realmnet.screening.quality import Measured, measured
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["Models", "described"]


def described(installed: Sequence[InstalledBundle]) -> list[Bundle]:
    """What the bundles say of themselves; whether their models work is not looked at.

    Raises:
        BundleMismatch: a bundle.json is missing or changed.
        RealMNetError: there is no such artifact, or two have the same name.
    """
    bundles = [Bundle.described(each.path) for each in installed]
    for bundle, each in zip(bundles, installed, strict=True):
        bundle.artifact(each.artifact)
    names = [bundle.name for bundle in bundles]
    if len(set(names)) < len(names):
        raise RealMNetError(f"bundles: every bundle must have a name of its own. Received: {', '.join(names)}")
    return bundles


class Models:
    """The screeners of a box or a command, in the order in which their bundles are named.

    out_of_order: {bundle: reason} of those that cannot screen on this machine now; of these only the identity counts.
    regions: whether overlays show the regions of the posterior pole.
    """

    def __init__(
        self, screeners: Sequence[Screener], out_of_order: Mapping[str, str] | None = None, regions: bool = False
    ):
        self._screeners = {screener.bundle.name: replace(screener, regions=regions) for screener in screeners}
        self.out_of_order = dict(out_of_order or {})
        self.regions = regions
        self._last, self._measure = LastPicture(read_image), LastMeasured()
        if len(screeners) > 1:  # they look at the same picture one after the other
            self._screeners = {
                name: replace(each, read=self._last, measure=self._measure) for name, each in self._screeners.items()
            }

    @classmethod
    def open(cls, installed: Sequence[InstalledBundle], threads: int | None = None, regions: bool = False) -> "Models":
        """Opens and checks every bundle; one that fails is out of order and does not stop the others.

        Raises:
            RealMNetError: see `described`, or none of them works; says what is wrong with the first.
        """
        screeners, reasons = [], {}
        for bundle, each in zip(described(installed), installed, strict=True):
            try:
                screeners.append(Screener.open(each.path, each.artifact, threads))
            except Exception as error:  # whatever it is, the others go on
                if len(installed) == 1:
                    raise
                reasons[bundle.name] = str(error)
                screeners.append(Screener(bundle, _OutOfOrder(str(error)), bundle.artifact(each.artifact).name))
        if len(reasons) == len(screeners):
            raise RealMNetError(next(iter(reasons.values())))
        return cls(screeners, reasons, regions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._screeners)

    @property
    def described(self) -> list[tuple[Bundle, Artifact]]:
        """What results are of: each bundle with the one of its model files that screens."""
        return [(each.bundle, each.bundle.artifact(each.artifact)) for each in self._screeners.values()]

    def of(self, name: str) -> Screener:
        """The screener of a bundle; for one that is not there, the first that works."""
        return self._screeners.get(name) or self._screeners[self.first]

    @property
    def first(self) -> str:
        """The bundle that tells what no bundle can screen: the first that works."""
        return next(name for name in self._screeners if name not in self.out_of_order)

    def of_kind(self, path: Path, origin: FileOrigin, frame: int, own: str) -> tuple[str, ...]:
        """Names of the bundles that a picture goes to: all whose kind of picture it is, good or poor.

        The first that works keeps what is no bundle's kind, and says so; what cannot be read stays with `own`, if there
        is such a bundle. All see the picture as the first reads it.
        """
        if len(self._screeners) == 1:
            return self.names
        self._last.forget_error()
        modalities = {name: screener.bundle.task.modality for name, screener in self._screeners.items()}
        try:
            picture = next(iter(self._screeners.values())).picture(path, origin, frame)
            kinds = self._measure(picture.pixels, picture.source).kinds(dict.fromkeys(modalities.values()))
        except Exception:  # the record will say why
            return (self.of(own).bundle.name,)
        return tuple(name for name, kind in modalities.items() if kind in kinds) or (self.first,)

    def screen(
        self,
        name: str,
        path: Path,
        sha256: str | None,
        overlays: Path | None,
        origin: FileOrigin,
        frame: int,
        on_analysed: OnAnalysed | None = None,
    ) -> ScreeningRecord:
        """`Screener.screen` by a bundle; of one that is out of order the result is missing, and its record says so."""
        if name not in self.out_of_order:
            return self.of(name).screen(path, sha256, overlays, origin, on_analysed, frame)
        error = ModelOutOfOrder(f"the model {name} is out of order on this machine: its result is missing")
        return self.of(name).failure(path, sha256, error, origin, frame)


class _OutOfOrder:
    """In the place of an engine that did not open."""

    def __init__(self, reason: str):
        self._reason = reason

    def predict(self, images: Any) -> Prediction:
        raise ModelOutOfOrder(self._reason)


class LastPicture:
    """Reads pictures and keeps the last one, or the error, until another is asked for.

    All who look at a picture get the same answer: it is not readable for one of them and unreadable for another.
    """

    def __init__(self, read: Callable[..., LoadedImage]):
        self._read = read
        self._asked: tuple[Any, ...] = ()
        self._answer: LoadedImage | Exception | None = None

    def forget_error(self) -> None:
        """A new attempt may read what could not be read before."""
        if isinstance(self._answer, Exception):
            self._answer = None

    def __call__(self, path: Path, name: str, **options: Any) -> LoadedImage:
        asked = (path, name, *sorted(options.items()))
        if self._answer is None or asked != self._asked:
            self._answer = None  # its memory first
            try:
                self._answer = self._read(path, name, **options)
            except Exception as error:
                self._answer = error
            self._asked = asked
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class LastMeasured:
    """Measures pictures and keeps what it found in the last one until another is asked for."""

    def __init__(self) -> None:
        self._asked: tuple[tuple[int, ...], ImageSource] | None = None
        self._answer: Measured | None = None

    def __call__(self, pixels: NDArray[np.uint8], source: ImageSource) -> Measured:
        asked = pixels.shape, source  # which tells the file's contents and the picture in it; not the pixels: memory
        if self._answer is None or asked != self._asked:
            self._answer, self._asked = measured(pixels, source), asked
        return self._answer
