"""The accuracy contract: every artifact of a bundle against the Keras model, on images that go the way of the box.

What was found is printed, and written as JSON and one picture.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.contract.images import Images
from export.contract.parity import Parity, finite, incomparable, limits_of, measure, runtime_predictions
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.task import PROBABILITIES

__all__ = ["Verification", "verify", "write_report"]

DECODING_LIMIT = 0.01  # |Δ probability| of a JPEG decoded at half its size to the same one decoded whole


@dataclass(frozen=True)
class Verification:
    """What was found: `parity` by artifact; `not_run`: why, of each artifact that this machine cannot run; `failed`:
    why, of each that its engine here cannot open, or that does not give its golden output.

    `differences`: |Δ probability| by artifact, each (n, classes). `decoding`: the same of Keras between the m images
    decoded at half their size and those images decoded whole, (m, classes); `None` without such images.
    """

    bundle: Bundle
    images: Images
    parity: dict[str, Parity]
    differences: dict[str, NDArray[np.floating]] = field(repr=False)
    not_run: dict[str, str] = field(default_factory=dict)
    decoding: NDArray[np.floating] | None = None
    failed: dict[str, str] = field(default_factory=dict)

    def refuse(self) -> None:
        """Raises BundleMismatch naming every artifact that failed and every limit that is broken; RealMNetError where
        no artifact runs here.
        """
        said = [f"{name}: {why}" for name, why in self.failed.items()]
        broken = [f"{name}: {line}" for name in self.parity for line in self.violations(name)]
        if broken:
            said.append(f"differs from Keras by more than allowed: {'; '.join(broken)}")
        if said:
            raise BundleMismatch(f"{self.bundle.directory}: {'; '.join(said)}")
        if not self.parity:
            reasons = "; ".join(self.not_run.values())
            raise RealMNetError(f"{self.bundle.directory}: no artifact runs on this machine: {reasons}")
        if self.max_decoding is not None and not self.max_decoding <= DECODING_LIMIT:
            raise BundleMismatch(
                f"{self.bundle.directory}: JPEGs decoded at half their size change a probability by up to "
                f"{self.max_decoding:.3g}, allowed {DECODING_LIMIT}"
            )

    @property
    def max_decoding(self) -> float | None:
        """The largest change by decoding at half size; None where it was not seen."""
        return None if self.decoding is None else float(self.decoding.max())

    def violations(self, name: str) -> list[str]:
        return self.parity[name].violations(limits_of(self.bundle.artifacts[name].precision))

    def unjudged(self) -> list[str]:
        """What these images could not show, a line each."""
        lines = {n: p.unjudged(limits_of(self.bundle.artifacts[n].precision)) for n, p in self.parity.items()}
        found = [f"{name}: {line}" for name, line in lines.items() if line]
        found += [f"{name}: not run on this machine: {reason}" for name, reason in self.not_run.items()]
        min_side = self.bundle.spec.min_side
        if min_side is not None and self.max_decoding is None:
            found.append(f"decoding at half size was not judged: JPEG files of {2 * min_side} px or more needed")
        return found


def verify(
    bundle: Bundle, images: Images, threads: int | None = None, tell: Callable[[str], None] = lambda line: None
) -> Verification:
    """Runs Keras, unless `images` says what it gives, and every artifact over the images.

    `tell` is handed a line as each begins.

    Every artifact has a result. One whose engine is not there (TensorRT on another machine) is named in `not_run`, one
    that its engine cannot open, or that does not give its golden output here, or no number for an image, in `failed`.

    Raises:
        RealMNetError: the bundle was stripped of its Keras model, or that gives no number for an image.
    """
    expected = images.expected
    decoding = None
    if expected is None:
        from export.contract.keras_source import keras_predictions, load_source

        tell(f"Keras float32 on {len(images.pixels)} images")
        model = load_source(bundle)
        expected = keras_predictions(model, images.pixels)
        if not finite(expected).all():
            raise BundleMismatch(f"{bundle.directory}: the Keras model's output is not finite")
        if images.whole:
            decoded_whole = keras_predictions(model, np.stack(list(images.whole.values())))
            decoding = np.abs(decoded_whole[PROBABILITIES] - expected[PROBABILITIES][list(images.whole)])
    parity: dict[str, Parity] = {}
    differences: dict[str, NDArray[np.floating]] = {}
    not_run: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in bundle.artifacts:
        tell(f"{name} on {len(images.pixels)} images")
        try:
            runtime = open_runtime(bundle, name, threads)
        except RealMNetError as error:
            portable = bundle.artifacts[name].device is None
            (failed if portable and isinstance(error, BundleMismatch) else not_run)[name] = str(error)
            continue
        try:
            self_check(bundle, runtime, name)
        except BundleMismatch as error:
            failed[name] = str(error)
            continue
        received = runtime_predictions(runtime, images.pixels)
        reason = incomparable(expected, received)
        if reason is not None:
            failed[name] = f"{bundle.artifacts[name].file}: {reason}"
            continue
        differences[name] = np.abs(received[PROBABILITIES] - expected[PROBABILITIES])
        parity[name] = measure(expected, received, bundle.task, images.truth, images.patients)
    return Verification(bundle, replace(images, expected=expected), parity, differences, not_run, decoding, failed)


def write_report(verification: Verification, folder: Path) -> None:
    """Writes `verification.json` and `verification.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle, images = verification.bundle, verification.images
    document = {
        "bundle": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "images": {"origin": images.origin, "verified": len(images.pixels), "left_out": images.left_out},
        "artifacts": {
            name: {
                "precision": bundle.artifacts[name].precision,
                "sha256": bundle.artifacts[name].sha256,
                "bytes": bundle.artifacts[name].bytes,
                "costs": None if (costs := bundle.artifacts[name].costs) is None else asdict(costs),
                **found.to_dict(),
                "limits": asdict(limits_of(bundle.artifacts[name].precision)),
                "broken": verification.violations(name),
            }
            for name, found in verification.parity.items()
        },
        "decoding at half size": None
        if verification.decoding is None
        else {
            "images": len(verification.decoding),
            "max_probability": verification.max_decoding,
            "limit": DECODING_LIMIT,
        },
        "failed": verification.failed,
        "not judged": verification.unjudged(),
    }
    (folder / "verification.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    _picture(verification).savefig(folder / "verification.png", dpi=150)


def _picture(verification: Verification):
    """Left, which share of |Δ probability| is larger than some value; right, changes of scores with intervals."""
    from matplotlib.figure import Figure

    rows = [
        (f"{name}: {title}", change)
        for name, found in verification.parity.items()
        for title, change in (("AUROC", found.macro_auroc), ("mAP", found.mean_ap))
        if change is not None and change.difference is not None and change.low is not None
    ]
    figure = Figure(figsize=(10 if rows else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if rows else 1, squeeze=False)[0]
    for name, difference in verification.differences.items():
        values = np.sort(difference.ravel())[::-1]
        axes[0].plot(np.maximum(values, 1e-9), np.arange(1, len(values) + 1) / len(values) * 100, label=name)
    axes[0].axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axes[0].set(xscale="log", yscale="log", xlabel="|Δ probability| to Keras", ylabel="% of images × labels above it")
    axes[0].legend(frameon=False)
    if rows:
        for y, (_, change) in enumerate(rows):
            axes[1].plot((change.low, change.high), (y, y), color="#0072B2")
            axes[1].plot(change.difference, y, "o", color="#0072B2")
        axes[1].axvline(0, color="grey", linewidth=0.8)
        axes[1].axvline(-0.005, color="#D55E00", linewidth=0.8, linestyle="--", label="limit for int8")
        axes[1].set_yticks(range(len(rows)), [title for title, _ in rows])
        axes[1].set(xlabel="artifact − Keras, 95 % interval", ylim=(len(rows) - 0.5, -0.5))
        axes[1].legend(frameon=False)
    figure.suptitle(
        f"{verification.bundle.name}: {len(verification.images.pixels)} images, {verification.images.origin}"
    )
    return figure
