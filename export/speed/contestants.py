"""Who takes part in a benchmark: artifacts of bundles, model files, presets with random weights, and their peers."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.speed.networks.peers import HALVED, PEERS, PROBABILITIES_ONLY, keep_probabilities
from export.speed.networks.preset_models import made_models
from keras_realmnet.errors import RealMNetError
from keras_realmnet.presets import REALMNET_PRESETS, TINY_VIT_PRESETS
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle, against_keras
from keras_realmnet.screening.engines.registry import ENGINES, engine_class
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = ["Contestant", "of_bundle", "of_bundle_and_others", "of_file", "of_preset", "peers_of", "whole_of"]


@dataclass(frozen=True)
class Contestant:
    """Something that is timed: a model file and the engine that opens it, or a peer (`export.speed.networks.peers`).

    `network`: "5m", "11m" or "21m", with "_w" where the windows of stage 2 are halved; "" of a file that does not tell.
    `note`: what a reader must know, such as random weights. `accuracy`: of this very artifact against Keras, as its
    bundle states it.
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
                        modality=bundle.task.modality,
                        precision=artifact.precision,
                        sha256=artifact.sha256,
                        accuracy=bundle.scores.get(against_keras(name)),
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
            contestants = of_bundle(other, [other.default_artifact], engines)
            found += [replace(contestant, name=f"{other.name}: {contestant.name}") for contestant in contestants]
        elif Path(name).is_file():
            found += of_file(Path(name), engines)
        else:
            known = f"{', '.join(bundle.artifacts)}, all, " if bundle is not None else ""
            raise RealMNetError(
                f"what is compared must be {known}a bundle's folder or a model file. Received: {name!r}"
            )
    return list({(contestant.file, contestant.engine): contestant for contestant in found}.values())


def of_preset(
    preset: str, folder: Path, artifacts: Collection[str] = (), engines: Iterable[str] = ()
) -> list[Contestant]:
    """The artifacts of a preset with random weights, made in `folder` unless they are there.

    Raises:
        RealMNetError: no such preset, artifact or engine, or no engine named opens any of the artifacts.
    """
    engines = _known(engines)
    known = [name for name, row in REALMNET_PRESETS.items() if "embed_dims" in row]  # peers are compared by width
    if preset not in known:
        raise RealMNetError(f"preset must be one of {', '.join(known)}. Received: {preset!r}")
    models = made_models(folder)
    if models is None:
        _in_a_process("export.speed.networks.preset_models", preset, str(folder))
        models = made_models(folder)
        assert models is not None
    for name in artifacts:
        if name not in models:
            raise RealMNetError(f"{preset} has the artifacts {', '.join(models)}. Received: {name!r}")
    row: dict[str, Any] = REALMNET_PRESETS[preset]
    found = [
        Contestant(
            name=f"{name} ({engine})",
            engine=engine,
            file=folder / model["file"],
            network=_network_of_widths(row["embed_dims"]) + (HALVED if row.get("stage_2_windows") == 2 else ""),
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


def peers_of(contestants: Sequence[Contestant], folder: Path, names: Collection[str] = ()) -> list[Contestant]:
    """The peers with the network shape of the first of `contestants`; their model files are made in `folder`.

    Where that has the windows of stage 2 halved, each of timm's takes part with the usual windows, to which ratios are,
    and with halved ones: so it is seen what comes of the windows.

    Args:
        names: some of `PEERS`; without them all that have what they are compared with among `contestants`.

    Raises:
        RealMNetError: a named peer is no such one, or what it is compared with does not take part.
    """
    like, found = contestants[0], []
    if not like.network:
        raise RealMNetError(
            f"{like.file}: peers are for a bundle or a preset of TinyViT 5m, 11m or 21m; this file does not tell that "
            "it is one, nor does a bundle without its Keras model"
        )
    for name in names or PEERS:
        if name not in PEERS:
            raise RealMNetError(f"a peer must be one of {', '.join(PEERS)}. Received: {name!r}")
        if name in PROBABILITIES_ONLY:
            whole = whole_of(name, contestants)
            if whole is not None:
                file = folder / f"{name}-{whole.sha256}{whole.file.suffix}"
                found.append(replace(whole, name=name, engine=name, file=file, sha256=None, accuracy=None))
                if not file.is_file():
                    keep_probabilities(whole.file, file)
            elif names:
                raise RealMNetError(f"{name}: a float32 model for {PROBABILITIES_ONLY[name]} must take part, too")
            continue
        usual = like.network.removesuffix(HALVED)
        for network in dict.fromkeys((usual, like.network)):
            file = folder / f"timm-{network}-{like.spec.size}.onnx"
            if not file.is_file():
                _in_a_process("export.speed.networks.peers", network, str(like.spec.size), str(file))
            shown = name if network == usual else f"{name}, windows halved"
            note = "random weights: speed only"
            found.append(Contestant(shown, name, file, network, like.spec, like.modality, note=note))
    return found


def whole_of(peer: str, contestants: Iterable[Contestant]) -> Contestant | None:
    """The model that a peer of `PROBABILITIES_ONLY` is cut from."""
    wanted = (PROBABILITIES_ONLY[peer], "float32")
    return next((contestant for contestant in contestants if (contestant.engine, contestant.precision) == wanted), None)


def _network(bundle: Bundle) -> str:
    """Which TinyViT a bundle holds, from the Keras model in it; "" where it was stripped of it, or holds another."""
    try:
        with zipfile.ZipFile(bundle.directory / (bundle.source_file or SOURCE_FILE)) as archive:
            text = archive.read("config.json").decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""
    widths = re.search(r'"embed_dims": \[([\d, ]+)\]', text)
    network = "" if widths is None else _network_of_widths(int(width) for width in widths[1].split(","))
    return network + HALVED if network and '"stage_2_windows": 2' in text else network


def _network_of_widths(widths: Iterable[int]) -> str:
    widths = tuple(widths)
    names = (name.split("_")[2] for name, row in TINY_VIT_PRESETS.items() if row["embed_dims"] == widths)
    return next(names, "")


def _in_a_process(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1] if lines else f"status {done.returncode}"
        hint = " (pip install -r requirements-peers.txt)" if "ModuleNotFoundError" in last else ""
        raise RealMNetError(f"python -m {module} {' '.join(arguments)}: {last}{hint}")
