"""How long it takes: artifacts of a bundle and peers, each in a process of its own, taking short turns on real images.

A machine's speed drifts by more than engines differ, so only what was interleaved is compared: in each round every
engine has one turn while the others wait, and ratios of medians come with intervals from resampling whole rounds.
"""

import hashlib
import importlib.metadata
import json
import math
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from export.speed.board import PowerLog, machine
from export.speed.network_facts import network_facts
from export.speed.peers import PEERS, PROBABILITIES_ONLY, REFERENCE, keep_probabilities
from export.speed.preset_models import MODELS_FILE
from keras_realmnet.errors import RealMNetError
from keras_realmnet.presets import REALMNET_PRESETS, TINY_VIT_PRESETS
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle
from keras_realmnet.screening.engines.base import engine_environment
from keras_realmnet.screening.engines.registry import ENGINES, engine_class
from keras_realmnet.screening.image_io import may_be_image, read_header, read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = [
    "SAMPLES",
    "SCENARIOS",
    "Contestant",
    "Measured",
    "benchmark",
    "check_scenario",
    "of_bundle",
    "of_bundle_and_others",
    "of_file",
    "of_preset",
    "peers_of",
    "percentiles",
    "profile",
    "ratio_of_medians",
    "sources",
]

# MLPerf's rules for the edge: one image after the other, eight at a time, or as many a second as possible.
SCENARIOS = {"singlestream": 1, "multistream": 8, "offline": 1}  # images in one query
SAMPLES = Path(__file__).resolve().parents[2] / "samples"  # read where no image is named
FULL_SIZE = 10_000_000  # pixels: what a scanner sends has 12 to 16 million; smaller files are used only for want of any
TURN_SECONDS = 0.4  # of a turn in a comparison
LIVES = 3  # processes of an engine, one after the other: two of the same engine differ by a few percent
PACKAGES = (
    "ai-edge-litert",
    "onnxruntime",
    "openvino",
    "torch",
    "timm",
    "tensorflow",
    "opencv-python-headless",
    "numpy",
)


@dataclass(frozen=True)
class Contestant:
    """Something that is timed: a model file and the engine that opens it, or a peer (`export.speed.peers`).

    `network`: "5m", "11m" or "21m"; "" of a file that does not tell. `note`: what a reader must know, such as random
    weights. `accuracy`: of this very artifact against Keras, as its bundle states it.
    """

    name: str
    engine: str
    file: Path
    network: str
    spec: PreprocessSpec
    modality: str
    precision: str = "float32"
    sha256: str | None = None
    note: str = ""
    accuracy: Mapping[str, Any] | None = None


@dataclass
class Measured:
    """What was measured of one contestant on `threads` cores, or `error`: why nothing was.

    Milliseconds: `inference` by round, `stages` of single images, `queries` by round (one or eight images). `offline`:
    images per second. `memory_mb`: peak of its process. `power`: see `board.PowerLog.between`, with "joules_per_image".
    `operators`: see `profile`.
    """

    contestant: Contestant
    threads: int
    inference: list[list[float]] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    queries: list[list[float]] = field(default_factory=list)
    offline: list[float] = field(default_factory=list)
    memory_mb: float | None = None
    warm_up_s: float | None = None
    power: dict[str, float] | None = None
    error: str | None = None
    operators: list[dict[str, Any]] | None = None


# ---- who takes part ------------------------------------------------------------------------------------------------


def of_bundle(
    bundle: Bundle,
    artifacts: Iterable[str] = (),
    engines: Iterable[str] = (),
    every_engine: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Contestant]:
    """Artifacts of a bundle, all by default, each with the engine it was made for, or with those named that open it.

    Args:
        every_engine: an ONNX file takes part with OpenVINO, too.
        tell: where all take part, is handed a line for each whose file is not there.

    Raises:
        RealMNetError: no such artifact or engine, or its file is not there; or no engine named opens any of them.
    """
    named, engines, found = list(artifacts), _known(engines), []
    for name in named or bundle.artifacts:
        try:
            artifact, file = bundle.artifact(name), bundle.model_file(name)
        except RealMNetError as error:
            if named:
                raise
            tell(f"left out: {error}")
            continue
        for engine in engines or (_usual_engines(artifact.engine) if every_engine else [artifact.engine]):
            if artifact.file.endswith(ENGINES[engine].SUFFIX):
                found.append(
                    Contestant(
                        name=f"{name} ({engine})",
                        engine=engine,
                        file=file,
                        network=_network(bundle),
                        spec=bundle.spec,
                        modality=bundle.modality,
                        precision=artifact.precision,
                        sha256=artifact.sha256,
                        accuracy=bundle.scores.get(f"{name} against Keras"),
                    )
                )
    if not found:
        raise RealMNetError(f"{bundle.directory}: none of its artifacts is for {', '.join(engines)}")
    return found


def _known(engines: Iterable[str]) -> list[str]:
    engines = list(engines)
    for engine in engines:
        engine_class(engine)  # refuses an unknown one
    return engines


def of_file(file: Path, engines: Iterable[str] = ()) -> list[Contestant]:
    """A model file that is in no bundle, with the engines named that open such files, by default the usual one.

    Raises:
        RealMNetError: no engine is for such a file, or the engine does not open it.
    """
    if not file.is_file():
        raise RealMNetError(f"{file}: no such file or folder")
    wanted = _known(engines)
    known = [name for name, engine in ENGINES.items() if file.suffix == engine.SUFFIX]
    chosen = [engine for engine in wanted or known[:1] if engine in known]
    if not known:
        expected = ", ".join(sorted({engine.SUFFIX for engine in ENGINES.values()}))
        raise RealMNetError(f"{file}: a bundle's folder or a file that ends in {expected} expected")
    if not chosen:
        raise RealMNetError(f"{file}: the engine must be one of {', '.join(known)}. Received: {', '.join(wanted)}")
    size = ENGINES[chosen[0]](file, threads=1).input_shape[1]
    if not size:
        raise RealMNetError(f"{file}: images of a fixed size expected")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return [
        Contestant(
            name=f"{file.name} ({engine})",
            engine=engine,
            file=file,
            network="",
            spec=PreprocessSpec(size),
            modality="uwf_red_green",
            precision="not stated",
            sha256=digest,
        )
        for engine in chosen
    ]


def of_bundle_and_others(
    place: Path,
    artifacts: Iterable[str],
    engines: Iterable[str],
    compared: Iterable[str],
    tell: Callable[[str], None] = lambda line: None,
) -> list[Contestant]:
    """The named artifacts of a bundle (its default one where none is named), and what they are compared with.

    Args:
        place: folder of the bundle, or a model file that is in none.
        compared: further artifacts of the bundle ("all": all of them), folders of other bundles, whose default artifact
            then takes part, or model files.
        tell: as for `of_bundle`.

    Raises:
        RealMNetError: as `of_bundle` and `of_file`, or something compared is nothing of these.
    """
    artifacts, engines = list(artifacts), list(engines)
    bundle = Bundle.load(place) if place.is_dir() else None
    if bundle is not None:
        found = of_bundle(bundle, artifacts or [bundle.default_artifact], engines)
    elif artifacts:
        raise RealMNetError(f"{place}: only a bundle has artifacts. Received: {', '.join(artifacts)}")
    else:
        found = of_file(place, engines)
    for name in compared:
        if bundle is not None and name == "all":
            found += of_bundle(bundle, (), engines, every_engine=True, tell=tell)
        elif bundle is not None and name in bundle.artifacts:
            found += of_bundle(bundle, [name], engines)
        elif Path(name).is_dir():
            other = Bundle.load(Path(name))
            entrants = of_bundle(other, [other.default_artifact], engines)
            found += [replace(entrant, name=f"{other.name}: {entrant.name}") for entrant in entrants]
        elif Path(name).is_file():
            found += of_file(Path(name), engines)
        else:
            known = f"{', '.join(bundle.artifacts)}, all, " if bundle is not None else ""
            raise RealMNetError(
                f"what is compared must be {known}a bundle's folder or a model file. Received: {name!r}"
            )
    return list({(entrant.file, entrant.engine): entrant for entrant in found}.values())


def of_preset(
    preset: str, folder: Path, artifacts: Collection[str] = (), engines: Iterable[str] = ()
) -> list[Contestant]:
    """The artifacts of a preset with random weights, made in `folder` unless they are there.

    Raises:
        RealMNetError: no such preset, artifact or engine, or no engine named opens any of the artifacts.
    """
    engines = _known(engines)
    if preset not in REALMNET_PRESETS:
        raise RealMNetError(f"preset must be one of {', '.join(REALMNET_PRESETS)}. Received: {preset!r}")
    if not (folder / MODELS_FILE).is_file():
        _in_a_process("export.speed.preset_models", preset, str(folder))
    models = json.loads((folder / MODELS_FILE).read_text())
    for name in artifacts:
        if name not in models:
            raise RealMNetError(f"{preset} has the artifacts {', '.join(models)}. Received: {name!r}")
    row: dict[str, Any] = REALMNET_PRESETS[preset]
    found = [
        Contestant(
            name=f"{name} ({engine})",
            engine=engine,
            file=folder / model["file"],
            network=_network_of_widths(row["embed_dims"]),
            spec=PreprocessSpec(row["image_size"]),
            modality="uwf_red_green",
            precision=model["precision"],
            sha256=hashlib.sha256((folder / model["file"]).read_bytes()).hexdigest(),
            note="random weights: speed only",
        )
        for name, model in models.items()
        if not artifacts or name in artifacts
        for engine in engines or _usual_engines(model["engine"])
        if model["file"].endswith(ENGINES[engine].SUFFIX)
    ]
    if not found:
        raise RealMNetError(f"{preset}: none of its artifacts is for {', '.join(engines)}")
    return found


def _usual_engines(engine: str) -> list[str]:
    """What opens the files of an engine on a processor."""
    return [engine, "openvino"] if engine == "onnxruntime" else [engine]


def peers_of(entrants: Sequence[Contestant], folder: Path, names: Collection[str] = ()) -> list[Contestant]:
    """The peers with the network shape of the first of `entrants`; their model files are made in `folder`.

    Args:
        names: some of `PEERS`; without them all that have what they are compared with among `entrants`.

    Raises:
        RealMNetError: a named peer is no such one, or what it is compared with does not take part.
    """
    like, found = entrants[0], []
    if not like.network:
        raise RealMNetError(f"{like.file}: peers are for a bundle or a preset: this file does not tell its network")
    for name in names or PEERS:
        if name not in PEERS:
            raise RealMNetError(f"a peer must be one of {', '.join(PEERS)}. Received: {name!r}")
        if name in PROBABILITIES_ONLY:
            whole = _whole(name, entrants)
            if whole is not None:
                file = folder / f"{name}-{whole.sha256}{whole.file.suffix}"
                found.append(replace(whole, name=name, engine=name, file=file, sha256=None, accuracy=None))
                if not file.is_file():
                    keep_probabilities(whole.file, file)
            elif names:
                raise RealMNetError(f"{name}: a float32 model for {PROBABILITIES_ONLY[name]} must take part, too")
            continue
        file = folder / f"timm-{like.network}-{like.spec.size}.onnx"
        if not file.is_file():
            _in_a_process("export.speed.peers", like.network, str(like.spec.size), str(file))
        note = "random weights: speed only"
        found.append(Contestant(name, name, file, like.network, like.spec, like.modality, note=note))
    return found


def _whole(peer: str, entrants: Iterable[Contestant]) -> Contestant | None:
    """The model that a peer of `PROBABILITIES_ONLY` is cut from."""
    wanted = (PROBABILITIES_ONLY[peer], "float32")
    return next((entrant for entrant in entrants if (entrant.engine, entrant.precision) == wanted), None)


def _network(bundle: Bundle) -> str:
    """Which TinyViT a bundle holds, from the Keras model in it ("21m" where it was stripped of it)."""
    try:
        with zipfile.ZipFile(bundle.directory / (bundle.source_file or SOURCE_FILE)) as archive:
            text = archive.read("config.json").decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        return "21m"
    start = text.index('"embed_dims": [') + len('"embed_dims": [')
    return _network_of_widths(int(width) for width in text[start : text.index("]", start)].split(","))


def _network_of_widths(widths: Iterable[int]) -> str:
    widths = tuple(widths)
    names = (name.split("_")[2] for name, row in TINY_VIT_PRESETS.items() if row["embed_dims"] == widths)
    return next(names, "21m")


def _in_a_process(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1] if lines else f"status {done.returncode}"
        hint = " (pip install -r requirements-peers.txt)" if "ModuleNotFoundError" in last else ""
        raise RealMNetError(f"python -m {module} {' '.join(arguments)}: {last}{hint}")


def sources(paths: Iterable[Path], tell: Callable[[str], None] = lambda line: None) -> list[Path]:
    """The readable image files among `paths` and in folders: those of scanner size where there are any, else all.

    Each is decoded once; `tell` is handed a line for each that cannot be.

    Raises:
        RealMNetError: there is none, or no such file or folder.
    """
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise RealMNetError(f"{path}: no such file or folder")
    files = [
        file
        for path in paths
        for file in (sorted(filter(may_be_image, filter(Path.is_file, path.rglob("*")))) if path.is_dir() else [path])
    ]
    pixels = {}
    for file in files:
        try:
            pixels[file] = math.prod(read_header(file).size)
        except RealMNetError as error:
            tell(f"left out: {error}")

    def decodes(file: Path) -> bool:
        try:
            read_image(file)
        except RealMNetError as error:
            tell(f"left out: {error}")
            return False
        return True

    large = [file for file, count in pixels.items() if count >= FULL_SIZE]
    found = list(filter(decodes, large)) or [file for file in pixels if file not in large and decodes(file)]
    if not found:
        raise RealMNetError(f"{', '.join(map(str, paths))}: no readable image")
    return found


def check_scenario(scenario: str) -> None:
    """Refuses one that is not in `SCENARIOS`."""
    if scenario not in SCENARIOS:
        raise RealMNetError(f"scenario must be one of {', '.join(SCENARIOS)}. Received: {scenario!r}")


# ---- measuring -----------------------------------------------------------------------------------------------------


class Worker:
    """A contestant in its own process (`export.speed.benchmark_worker`), doing nothing until it is asked."""

    def __init__(self, contestant: Contestant, threads: int):
        # A pipe that nobody reads would fill up.
        self._said: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "export.speed.benchmark_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=engine_environment(),
            text=True,
            bufsize=1,
        )
        self.spans: list[tuple[float, float]] = []  # of its turns
        self._send(
            {
                "engine": contestant.engine,
                "file": str(contestant.file),
                "network": contestant.network,
                "preprocessing": contestant.spec.to_dict(),
                "modality": contestant.modality,
                "threads": threads,
            }
        )
        self._receive()

    def ask(self, do: str, **options: Any) -> Any:
        """Raises RealMNetError with what the worker says, or that it died."""
        began = time.monotonic()
        self._send({"do": do, **options})
        answer = self._receive()
        self.spans.append((began, time.monotonic()))
        return answer

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        message = json.loads(line)
        if "error" in message:
            raise RealMNetError(message["error"])
        return message["answer"]

    def _death(self) -> RealMNetError:
        """The status it ended with, and what it said last where it was not killed: the text of an exception."""
        status = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        said = f": {lines[-1]}" if status > 0 and lines else ""
        return RealMNetError(f"the process ended with status {status}{said}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it may have died
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._said.close()


def benchmark(
    contestants: Sequence[Contestant],
    files: Sequence[Path],
    scenario: str = "singlestream",
    threads: Sequence[int] = (1,),
    queries: int = 50,
    rounds: int = 12,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Measured]:
    """Measures every contestant on every number of threads; the groups of equal threads one after the other.

    In each of the `rounds` every contestant has one turn: about `TURN_SECONDS` of inference alone, on images that were
    read before, and its share of the `queries` of the scenario, through all stages from the file on. After a third of
    the rounds, and again, every contestant gets a new process, so that the luck of one with its memory is averaged.

    Raises:
        RealMNetError: an unknown scenario.
    """
    check_scenario(scenario)
    results = []
    for count in threads:
        tell(f"{len(contestants)} engines on {count} thread{'s' if count > 1 else ''}")
        with PowerLog() as log:
            results += _group(contestants, files, scenario, count, queries, rounds, log, tell)
    return results


def profile(
    results: Iterable[Measured], files: Sequence[Path], tell: Callable[[str], None] = lambda line: None
) -> None:
    """Adds the time by operator to each of `results`, in a process of its own; `tell` says of which there is none."""
    for result in results:
        if result.error is None:
            try:
                with closing(Worker(result.contestant, result.threads)) as worker:
                    worker.ask("prepare", files=[str(files[0])])
                    result.operators = worker.ask("profile")
            except RealMNetError as error:
                tell(f"{result.contestant.name}: no profile: {error}")


def _group(contestants, files, scenario, threads, queries, rounds, log, tell) -> list[Measured]:
    names = [str(file) for file in files]
    results = [Measured(contestant, threads) for contestant in contestants]
    spans: list[list[tuple[float, float]]] = [[] for _ in contestants]  # of each one's turns
    lives = min(LIVES, rounds)
    for life in range(lives):
        its_rounds = range(life * rounds // lives, (life + 1) * rounds // lives)
        _life(results, spans, names, scenario, queries, rounds, its_rounds, tell)
    for result, turns in zip(results, spans, strict=True):
        if result.error is None:
            result.power = _power(log, turns, result)
    return results


def _life(results, spans, names, scenario, queries, rounds, its_rounds, tell) -> None:
    """Some of the rounds, with a new process for every contestant that has not failed."""
    workers: dict[int, Worker] = {}
    counts: dict[int, int] = {}

    def in_turn(order: Iterable[int], do: Callable[[int], None]) -> None:
        for k in order:
            try:
                do(k)
            except RealMNetError as error:  # killed for want of memory, say: the others go on
                results[k] = Measured(results[k].contestant, results[k].threads, error=str(error))
                workers.pop(k, None)
                tell(f"{results[k].contestant.name}: {error}")

    def start(k: int) -> None:
        result, began = results[k], time.monotonic()
        worker = Worker(result.contestant, result.threads)
        stack.callback(worker.close)
        worker.ask("prepare", files=names)
        worker.ask("inference", count=3)  # compiles, packs, allocates
        typical = float(np.median(worker.ask("inference", count=3)))
        workers[k], counts[k] = worker, int(np.clip(TURN_SECONDS * 1000 / typical, 2, 50))
        worker.spans.clear()
        if result.warm_up_s is None:
            result.warm_up_s = time.monotonic() - began
            tell(f"{result.contestant.name}: ready, about {typical:.0f} ms")

    def infer(k: int) -> None:
        results[k].inference.append(workers[k].ask("inference", count=counts[k]))

    def query(k: int) -> None:
        if results[k].contestant.engine not in PEERS:
            _query(workers[k], results[k], names, scenario, mine)

    def end(k: int) -> None:
        results[k].memory_mb = max(results[k].memory_mb or 0.0, workers[k].ask("memory"))
        spans[k] += workers[k].spans

    with ExitStack() as stack:
        in_turn([k for k, result in enumerate(results) if result.error is None], start)
        for number in its_rounds:
            mine = range(number * queries // rounds, (number + 1) * queries // rounds)
            for step in (infer, query) if mine else (infer,):
                in_turn(list(workers) if number % 2 else list(workers)[::-1], step)
            tell(f"round {number + 1} of {rounds}")
        in_turn(list(workers), end)


def _query(worker: Worker, result: Measured, names: Sequence[str], scenario: str, mine: range) -> None:
    """The queries numbered `mine`, through all stages; images in turn."""
    if scenario == "offline":
        result.offline.append(worker.ask("offline", files=names, count=len(mine)))
        return
    images, times = SCENARIOS[scenario], []
    for query in mine:
        chosen = [names[(query * images + k) % len(names)] for k in range(images)]
        stages = worker.ask("stages", files=chosen)
        result.stages += stages
        times.append(sum(stage["total"] for stage in stages))
    result.queries.append(times)


def _power(log: PowerLog, turns: Sequence[tuple[float, float]], result: Measured) -> dict[str, float] | None:
    """Means over its turns. Joules are those of its inference turns, everything the board takes included."""
    found = log.between(turns)
    if found is not None and "watts" in found and result.inference:
        found["joules_per_image"] = found["watts"] * float(np.mean(np.concatenate(result.inference))) / 1000
    return found


# ---- figures -------------------------------------------------------------------------------------------------------


def percentiles(values: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    """p50, p90, p99, max and mean of some times."""
    array = np.asarray(values, float)
    p50, p90, p99 = np.percentile(array, (50, 90, 99))
    return {
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(array.max()),
        "mean": float(array.mean()),
    }


def ratio_of_medians(
    times: Sequence[Sequence[float]], reference: Sequence[Sequence[float]], replicates: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """median(times) / median(reference) and its 95 % percentile interval from resampling rounds, the same for both.

    Args:
        times, reference: by round; the k-th rounds of both were measured next to each other.
    """
    if len(times) != len(reference) or not times:
        raise ValueError(f"as many rounds of both are needed. Received: {len(times)} and {len(reference)}")

    def ratio(rounds: Iterable[int]) -> float:
        chosen = list(rounds)
        above, below = (np.concatenate([np.asarray(x[k], float) for k in chosen]) for x in (times, reference))
        return float(np.median(above) / np.median(below))

    rng = np.random.default_rng(seed)
    drawn = [ratio(rng.integers(0, len(times), len(times))) for _ in range(replicates)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return ratio(range(len(times))), float(low), float(high)


def reference_of(results: Sequence[Measured], threads: int) -> Measured | None:
    """What ratios are taken to: timm in ONNX Runtime where it ran, else the first that did."""
    ran = [result for result in results if result.threads == threads and result.inference]
    return next((r for r in ran if r.contestant.engine == REFERENCE), ran[0] if ran else None)


def summary(results: Sequence[Measured], files: Sequence[Path], scenario: str) -> dict[str, Any]:
    """Everything, JSON-safe: machine, packages, images, and per contestant facts, times and ratio."""
    return {
        "machine": machine(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "scenario": scenario,
        "command": ["python", "-m", "export", *sys.argv[1:]],
        "images": [_image(file) for file in files],
        "results": [_row(result, results, scenario) for result in results],
    }


def _row(result: Measured, results: Sequence[Measured], scenario: str) -> dict[str, Any]:
    entrant = result.contestant
    row: dict[str, Any] = {
        "name": entrant.name,
        "engine": entrant.engine,
        "file": entrant.file.name,
        "sha256": entrant.sha256,
        "precision": entrant.precision,
        "network": f"tiny_vit_{entrant.network} at {entrant.spec.size}"
        if entrant.network
        else f"at {entrant.spec.size}",
        "threads": result.threads,
        "note": entrant.note,
        "accuracy against Keras": entrant.accuracy,
    }
    if result.error is not None:
        return {**row, "error": result.error}
    if entrant.file.suffix in (".tflite", ".onnx"):
        row["network facts"] = asdict(network_facts(entrant.file))
    times = np.concatenate(result.inference)
    row["inference_ms"] = percentiles(times) | {"count": len(times), "rounds": len(result.inference)}
    reference = reference_of(results, result.threads)
    if reference is not None:
        ratio, low, high = ratio_of_medians(result.inference, reference.inference)
        row["ratio"] = {"to": reference.contestant.name, "value": ratio, "low": low, "high": high}
    if entrant.engine in PROBABILITIES_ONLY:
        row["all outputs"] = _all_outputs(result, [other for other in results if other.threads == result.threads])
    if result.stages:
        row["stages_ms"] = {
            stage: percentiles([times[stage] for times in result.stages]) for stage in result.stages[0]
        } | {"count": len(result.stages)}
        queries = np.concatenate(result.queries)
        figure = {"singlestream": "p90", "multistream": "p99"}[scenario]
        row["query_ms"] = percentiles(queries) | {"count": len(queries), "figure": figure}
    if result.offline:
        row["images_per_second"] = float(np.median(result.offline))
    if result.operators is not None:
        row["operators"] = result.operators
    return row | {"peak_memory_mb": result.memory_mb, "warm_up_s": result.warm_up_s, "power": result.power}


def _all_outputs(cut: Measured, results: Sequence[Measured]) -> dict[str, Any] | None:
    """The time of the model with all outputs as a ratio to `cut`, the same with probabilities alone."""
    whole = _whole(cut.contestant.engine, [result.contestant for result in results if result.inference])
    if whole is None:
        return None
    (times,) = (result.inference for result in results if result.contestant is whole)
    ratio, low, high = ratio_of_medians(times, cut.inference)
    return {"of": whole.name, "value": ratio, "low": low, "high": high}


def _image(file: Path) -> dict[str, Any]:
    header = read_header(file)
    size = file.stat().st_size
    return {"file": file.name, "format": header.format, "width": header.width, "height": header.height, "bytes": size}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
