"""Training steps a second of RealMNet on PyTorch and JAX, compiled, in bfloat16, against timm's by torch.compile.

    python -m training.benchmarks.gpu                                       # 384 and 512 px, at most eight minutes
    python -m training.benchmarks.gpu --preset realmnet_5m_224 --size 64 --batch 2 --steps 2 --device cpu

It needs Keras and PyTorch or JAX, and timm for the comparison; no TensorFlow and no data. Each contestant has a
process of its own (`training.benchmarks.train_steps`). All compile at the same time, then each trains for a moment,
which shows whether its loss falls, and then they take turns, so that a clock that slows down slows all of them. What is
not ready in time is left out, and said.
"""

import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import typer

from keras_realmnet.arguments import check, one_of
from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError
from keras_realmnet.presets import REALMNET_PRESETS
from training.benchmarks.train_steps import KERAS_JAX, KERAS_TORCH, NOT_INSTALLED, TIMM, Ready, Setting, Turn, serve

__all__ = ["Row", "compare", "status_of", "table"]

PRESETS = ("realmnet_21m_384", "realmnet_21m_512")
BACKENDS = {"torch": KERAS_TORCH, "jax": KERAS_JAX}
COMPILING = 0.75  # of a network's time, at most; the rest is for the turns
ENDS = 4  # steps at the beginning and at the end of the fit whose mean losses are compared


@dataclass(frozen=True)
class Row:
    """What is known of one contestant with one network.

    `fit`: mean losses of the first and of the last steps of the short fit. `rates`: steps a second, turn by turn.
    `problem`: why there is nothing, or no more.
    """

    name: str
    setting: Setting
    ready: Ready | None = None
    fit: tuple[float, float] | None = None
    rates: tuple[float, ...] = ()
    peak: int = 0
    problem: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it is one of ours and has no figures, or its loss did not fall."""
        return self.name != TIMM and (not self.rates or self.fit is None or self.fit[1] >= self.fit[0])


class _Process:
    """One of `train_steps.TRAINERS`, starting."""

    def __init__(self, name: str, setting: Setting):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, setting, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ready(self, until: float) -> Ready:
        return self._answer(until)

    def train(self, steps: int, until: float) -> Turn:
        self._pipe.send(steps)
        return self._answer(until)

    def _answer(self, until: float):
        """Raises RealMNetError: it says what went wrong, it ended, or it is `until`, a time of `time.monotonic`."""
        try:
            if not self._pipe.poll(max(0.0, until - time.monotonic())):
                raise RealMNetError("out of time")
            answer = self._pipe.recv()
        except EOFError as error:
            self._process.join()
            raise RealMNetError(f"the process ended with status {self._process.exitcode}") from error
        if isinstance(answer, str):
            raise RealMNetError(answer)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def compare(
    setting: Setting, names: Sequence[str], steps: int, fit_steps: int, rounds: int, seconds: float
) -> list[Row]:
    """Each of `names`, of `train_steps.TRAINERS`, with one network, in at most `seconds`.

    Args:
        steps: of a turn. fit_steps: of the short fit before. rounds: turns of each, fewer where time runs out.
    """
    began = time.monotonic()
    until = began + seconds
    processes = {name: _Process(name, setting) for name in names}
    rows = {name: Row(name, setting) for name in names}

    def turn(name: str, count: int) -> Turn | None:
        try:
            return processes[name].train(count, until)
        except (RealMNetError, OSError) as error:
            rows[name] = replace(rows[name], problem=str(error))
            processes.pop(name).close()
            return None

    try:
        for name in names:
            try:
                rows[name] = replace(rows[name], ready=processes[name].ready(began + COMPILING * seconds))
            except RealMNetError as error:
                rows[name] = replace(rows[name], problem=str(error))
                processes.pop(name).close()
        for name in list(processes):
            if (found := turn(name, fit_steps)) is not None:
                ends = found.losses[:ENDS], found.losses[-ENDS:]
                rows[name] = replace(rows[name], fit=(float(np.mean(ends[0])), float(np.mean(ends[1]))))
        last = 0.0
        for k in range(rounds):
            if time.monotonic() + last > until:
                break
            round_began = time.monotonic()
            for name in sorted(processes, reverse=k % 2 == 1):  # nobody always comes first
                if (found := turn(name, steps)) is not None:
                    rates = (*rows[name].rates, steps / found.seconds)
                    rows[name] = replace(rows[name], rates=rates, peak=found.peak)
            last = time.monotonic() - round_began
    finally:
        for process in processes.values():
            process.close()
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """Markdown: the devices and versions, then a line for each row; ratios to timm are taken turn by turn."""
    memory = "peak MB of the process" if all(row.setting.device == "cpu" for row in rows) else "peak MB of the GPU"
    facts: dict[str, None] = {}
    for row in rows:
        if row.ready is not None:
            facts |= dict.fromkeys([row.ready.device, *(f"{name} {v}" for name, v in row.ready.versions.items())])
    lines = [
        "; ".join([*facts, "bfloat16"]) + "\n",
        f"| network | px | batch | trained by | ready, s | steps / s | ratio to timm | {memory} | loss of the fit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    peers = {row.setting: row.rates for row in rows if row.name == TIMM}
    for row in rows:
        compiled = row.setting.compiled or row.name == KERAS_JAX
        cells = [
            row.setting.preset,
            str(row.setting.size),
            str(row.setting.batch),
            row.name + ("" if compiled else ", not compiled"),
            "–" if row.ready is None else f"{row.ready.seconds:.0f}",
            _spread(row.rates) if row.rates else (row.problem or "out of time"),
            _spread([own / other for own, other in zip(row.rates, peers.get(row.setting, ()), strict=False)]) or "–",
            f"{row.peak / 1e6:,.0f}" if row.peak else "–",
            "–" if row.fit is None else f"{row.fit[0]:.2f} → {row.fit[1]:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    """The median, and the smallest to the largest; empty of none."""
    if not len(values):
        return ""
    return f"{np.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def settings_of(
    presets: Sequence[str], size: int | None, batch: int, device: str, compiled: bool
) -> Mapping[str, Setting]:
    """{preset: what is trained}. Raises RealMNetError for what is no RealMNet on TinyViT, or another size or device."""
    tiny_vits = [name for name, options in REALMNET_PRESETS.items() if "architecture" not in options]
    found = {}
    try:
        check("the benchmark", {"device": one_of("gpu", "cpu")}, {"device": device})
        for name in presets:
            check("the benchmark", {"preset": one_of(*tiny_vits)}, {"preset": name})
            side = size or REALMNET_PRESETS[name]["image_size"]
            step = 16 * max(2, REALMNET_PRESETS[name].get("stage_2_windows", 1))
            if side % step:
                raise ValueError(f"size must be divisible by {step} for {name}. Received: {side}")
            found[name] = Setting(name, side, batch, device, compiled)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    return found


def status_of(rows: Sequence[Row], strict: bool) -> int:
    """1 where one of ours has failed, or none is left. `strict`: also where its backend is not installed."""
    ours = [row for row in rows if row.name != TIMM and (strict or not (row.problem or "").startswith(NOT_INSTALLED))]
    return int(not ours or any(row.failed for row in ours))


def _name_of(backend: str) -> str:
    if backend not in BACKENDS:
        raise RealMNetError(f"backend must be {' or '.join(BACKENDS)}. Received: {backend!r}")
    return BACKENDS[backend]


app = typer.Typer(add_completion=False)


@app.command()
def main_command(
    preset: Annotated[
        list[str] | None, typer.Option(help=f"A RealMNet on TinyViT; repeatable. Default: {', '.join(PRESETS)}.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Of the images, px. Default: the preset's.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Of a turn.")] = 30,
    fit_steps: Annotated[int, typer.Option(min=2 * ENDS, help="Of the short fit before.")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each, fewer where time runs out.")] = 7,
    backend: Annotated[
        list[str] | None, typer.Option(help=f"Of Keras; repeatable. Default: {', '.join(BACKENDS)}.")
    ] = None,
    peer: Annotated[bool, typer.Option(help="timm's TinyViT takes part.")] = True,
    device: Annotated[str, typer.Option(help="gpu, or cpu, which shows that the program works.")] = "gpu",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="By torch.compile.")] = True,
    seconds: Annotated[float, typer.Option(min=1, help="After which all of it ends.")] = 460.0,
) -> int:
    """Time training steps and print one table; the status is 1 where one of ours has no figures or does not learn.

    A backend that is not installed does not count, unless it is named or there is no other.
    """
    names = list(dict.fromkeys(_name_of(each) for each in backend or BACKENDS))
    settings = settings_of(preset or PRESETS, size, batch, device, compiled)
    until, rows = time.monotonic() + seconds, []
    for k, setting in enumerate(settings.values()):
        share = (until - time.monotonic()) / (len(settings) - k)
        rows += compare(setting, [*names, *([TIMM] if peer else [])], steps, fit_steps, rounds, share)
    print(table(rows))
    return status_of(rows, strict=backend is not None)


if __name__ == "__main__":
    sys.exit(run(app, "python -m training.benchmarks.gpu"))
