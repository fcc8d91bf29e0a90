"""The accuracy contract: every artifact of a bundle against the Keras model, on images that go the way of the box.

What was found is printed, and written as JSON and one picture.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.by_kind.figures import Decoding
from export.contract.by_kind.kinds import contract_of
from export.contract.images import Images
from export.contract.parity import Parity, finite, incomparable, measure, runtime_predictions, told_of
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.runtimes import open_runtime, self_check
from keras_realmnet.tasks.outputs import Output
from training.scoring.statistics.significance import Difference

__all__ = ["Verification", "verify", "write_report"]


@dataclass(frozen=True)
class Verification:
    """What was found: `parity` by artifact; `not_run`: why, of each artifact that this machine cannot run; `failed`:
    why, of each that its engine here cannot open, or that does not give its golden output.

    `differences`: by artifact and output, single ones as `KindContract.drawn` gives them. `decoding`: how far Keras is
    on the images decoded at half their size from itself on those images decoded whole; `None` without such images.
    """

    bundle: Bundle
    images: Images
    parity: dict[str, Parity]
    differences: dict[str, dict[str, NDArray[np.floating]]] = field(repr=False)
    not_run: dict[str, str] = field(default_factory=dict)
    decoding: Parity | None = None
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
        for name, (rule, value) in self.decoded().items():
            if not rule.keeps(value):
                wanted = "required" if rule.at_least else "allowed"
                line = f"{rule.words.replace('…', f'{value:.3g}')}, {wanted} {rule.limit}"
                raise BundleMismatch(
                    f"{self.bundle.directory}: JPEGs decoded at half their size {told_of(self.bundle.task, name, line)}"
                )

    def decoded(self) -> dict[str, tuple[Decoding, float]]:
        """{output: (what decoding at half size may change, what it changed)}; empty where it was not seen."""
        if self.decoding is None:
            return {}
        found = {}
        for name, output in self.bundle.task.outputs.items():
            rule = contract_of(output).decoding
            if rule is not None and isinstance(value := self.decoding.values[name][rule.figure], int | float):
                found[name] = rule, float(value)
        return found

    def violations(self, name: str) -> list[str]:
        return self.parity[name].violations(self.bundle.artifacts[name].precision)

    def unjudged(self) -> list[str]:
        """What these images could not show, a line each."""
        lines = {n: p.unjudged(self.bundle.artifacts[n].precision) for n, p in self.parity.items()}
        found = [f"{name}: {line}" for name, line in lines.items() if line]
        found += [f"{name}: not run on this machine: {reason}" for name, reason in self.not_run.items()]
        min_side = self.bundle.spec.min_side
        if min_side is not None and self.decoding is None:
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
        expected = keras_predictions(model, images.pixels, bundle.task)
        if not finite(expected).all():
            raise BundleMismatch(f"{bundle.directory}: the Keras model's output is not finite")
        if images.whole:
            whole = np.stack(list(images.whole.values()))
            half = {name: values[list(images.whole)] for name, values in expected.items()}
            decoded_whole = keras_predictions(model, whole, bundle.task)
            decoding = measure(decoded_whole, half, bundle.task, Images(whole, images.origin))
    parity: dict[str, Parity] = {}
    differences: dict[str, dict[str, NDArray[np.floating]]] = {}
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
        differences[name] = {
            each: contract_of(output).drawn(each, bundle.task, bundle.spec.size, expected, received)
            for each, output in bundle.task.trained.items()
        }
        parity[name] = measure(expected, received, bundle.task, images)
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
                "limits": found.limits(bundle.artifacts[name].precision),
                "broken": verification.violations(name),
            }
            for name, found in verification.parity.items()
        },
        "decoding at half size": _decoding(verification),
        "failed": verification.failed,
        "not judged": verification.unjudged(),
    }
    (folder / "verification.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    _picture(verification).savefig(folder / "verification.png", dpi=150)


def _decoding(verification: Verification) -> dict[str, Any] | None:
    if verification.decoding is None:
        return None
    found = {name: {rule.figure: value, "limit": rule.limit} for name, (rule, value) in verification.decoded().items()}
    figures: dict[str, Any] = next(iter(found.values())) if len(found) == 1 else found
    return {"images": verification.decoding.images, **figures}


def _picture(verification: Verification):
    """Of each output, which share of single differences is larger than some value; changes of scores with intervals."""
    from matplotlib.figure import Figure

    task = verification.bundle.task
    rows = [
        (f"{artifact}: {told_of(task, name, change.short)}", score, contract.limits["int8"].get(change.limit or ""))
        for artifact, found in verification.parity.items()
        for name, output in task.outputs.items()
        for contract in [contract_of(output)]
        for figure, change in contract.changes.items()
        if isinstance(score := found.values[name].get(figure), Difference)
        and score.difference is not None
        and score.low is not None
    ]
    panels = len(task.trained) + bool(rows)
    figure = Figure(figsize=(6 if panels == 1 else 5 * panels, 4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis, (name, output) in zip(axes, task.trained.items(), strict=False):
        _draw_differences(axis, name, output, verification)
    if rows:
        _draw_changes(axes[-1], rows)
    figure.suptitle(
        f"{verification.bundle.name}: {len(verification.images.pixels)} images, {verification.images.origin}"
    )
    return figure


def _draw_differences(axis, name: str, output: Output, verification: Verification) -> None:
    what, of = contract_of(output).drawn_as
    drawn = {artifact: each[name][~np.isnan(each[name])] for artifact, each in verification.differences.items()}
    if not any(map(len, drawn.values())):
        axis.set(title=f"{name}: nothing is found", xlabel=what)  # of masks and points
        return
    for artifact, values in drawn.items():
        values = np.sort(values)[::-1]
        axis.plot(np.maximum(values, 1e-9), np.arange(1, len(values) + 1) / max(1, len(values)) * 100, label=artifact)
    axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel=what, ylabel=f"% of {of} above it")
    axis.set_title("" if len(verification.bundle.task.trained) == 1 else name)
    axis.legend(frameon=False)


def _draw_changes(axis, rows: Sequence[tuple[str, Difference, float | None]]) -> None:
    for y, (_, change, _) in enumerate(rows):
        axis.plot((change.low, change.high), (y, y), color="#0072B2")
        axis.plot(change.difference, y, "o", color="#0072B2")
    axis.axvline(0, color="grey", linewidth=0.8)
    for limit in sorted({limit for *_, limit in rows if limit is not None}):
        axis.axvline(limit, color="#D55E00", linewidth=0.8, linestyle="--", label="limit for int8")
    axis.set_yticks(range(len(rows)), [title for title, *_ in rows])
    axis.set(xlabel="artifact − Keras, 95 % interval", ylim=(len(rows) - 0.5, -0.5))
    axis.legend(frameon=False)
