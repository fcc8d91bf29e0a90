"""What a bundle says of itself for people: what it was trained on, how it scored, with which versions it was made."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.contract.by_kind.kinds import KINDS
from export.contract.parity import Parity
from export.conversion.to_onnx import opens_in
from keras_realmnet.models.map_offset import MapOffset
from keras_realmnet.screening.bundle.bundle import Bundle, against_keras
from keras_realmnet.screening.bundle.writing import ArtifactSource

__all__ = ["INTENDED_USE", "measured_on", "readable_scores", "training_data", "versions", "versions_with_added"]

INTENDED_USE = (
    "Research only. Not a medical device, not for clinical use: the model was not validated on patients and must not "
    "inform a decision about anybody's care."
)
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer", "onnx", "onnxruntime", "numpy")


def training_data(facts: Mapping[str, Any], start: str | None) -> dict[str, Any]:
    """`facts`: the run.json of a run. `start`: the weights that its recipe names."""
    return {
        "statement": f"Trained on {facts['training_data']}. It started from {_weights(start)}.",
        "command": _command(facts["command"]),
        **{f"{split} images".replace("train ", "training "): count for split, count in facts["images"].items()},
        "training data sha256": facts["data_sha256"]["train"],
        "seed": facts["seed"],
    }


def readable_scores(
    scores: Mapping[str, Any] | None,
    parity: Mapping[str, Parity],
    maps: str | None,
    offset: MapOffset | None,
    folds: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`scores`: the scores.json of a run; None where it held nothing out.

    `maps`: what its class maps are, in words; None where it has none. `offset`: of these, where measured.

    `folds`: the cross_validation.json of the run, where there is one.
    """
    if maps is not None and offset is not None:
        maps += f", {offset.describe()}, as flipping tells ({offset.maps} maps of training images)"
    return {
        **({"test data": "none: all pictures trained"} if scores is None else _tested(scores)),
        **({} if folds is None else cross_validation(folds)),
        **({} if maps is None else {"class maps": maps}),
        **{against_keras(name): found.to_dict() for name, found in parity.items()},
    }


def _tested(scores: Mapping[str, Any]) -> dict[str, Any]:
    kind = scores["data"].replace("_", " ")
    return {
        "test data": f"{scores['images']} held-out {kind} images of {scores['patients']} patients",
        "intervals": _intervals(scores["bootstrap"]),
        "test": {name: _interval(interval) for name, interval in scores["scores"].items()},
    }


def _intervals(bootstrap: Mapping[str, Any]) -> str:
    return f"{bootstrap['interval']}, {bootstrap['replicates']} resamples by {bootstrap['unit']}"


def cross_validation(found: Mapping[str, Any]) -> dict[str, Any]:
    """`found`: the cross_validation.json of a run; scores that do not exist are left out."""
    return {
        part["data"]: {
            "pictures": part["images"],
            "intervals": _intervals(part["bootstrap"]),
            **{name: _interval(each) for name, each in part["scores"].items() if each["value"] is not None},
        }
        for part in found["parts"]
    }


def _weights(start: str | None) -> str:
    if start is None:
        return "random weights"
    return "weights that were trained on ImageNet" if start == "imagenet" else f"the weights {Path(start).name}"


def _command(arguments: Sequence[str]) -> str:
    """As it was typed, but for the places of folders, which are nobody's business."""
    program, *others = arguments
    said = [each if not Path(each).is_absolute() else Path(each).name for each in others]
    return " ".join(["python -m training" if Path(program).name == "__main__.py" else Path(program).name, *said])


def _interval(interval: Mapping[str, Any]) -> str:
    if interval["value"] is None:
        return "not defined"
    text = f"{interval['value']:.4f}"
    return text if interval["low"] is None else f"{text} ({interval['low']:.4f}–{interval['high']:.4f})"


def versions(facts: Mapping[str, Any], sources: Mapping[str, ArtifactSource]) -> dict[str, Any]:
    """Of a run with the run.json `facts`, and of the packages here, which made the artifacts `sources` of it."""
    onnx = _open_in(sources)
    return {
        **({"open in": onnx} if onnx else {}),
        "trained with": facts["versions"],
        "exported with": _packages(),
        "git commit": facts["git_commit"],
    }


def versions_with_added(bundle: Bundle, sources: Mapping[str, ArtifactSource]) -> dict[str, Any]:
    """What the versions of `bundle` say of additions, the artifacts `sources` among them."""
    onnx, packages = {**bundle.versions.get("open in", {}), **_open_in(sources)}, _packages()
    return {
        **({"open in": onnx} if onnx else {}),
        "added with": {**bundle.versions.get("added with", {}), **dict.fromkeys(sources, packages)},
    }


def measured_on(score: Any) -> str:
    """On what an artifact was measured, as its entry of a bundle's scores says, which is nobody's form; for people."""
    if not isinstance(score, dict) or "images" not in score:
        return "nothing stated"
    said = [str(score["on"])] if "on" in score else []
    of_outputs = [score, *(each for each in score.values() if isinstance(each, dict))]
    compared = [
        change.short
        for contract in KINDS.values()
        if any(each.get(figure) is not None for figure in contract.changes for each in of_outputs)
        for change in contract.changes.values()
    ]
    said.append(f"with {' and '.join(compared)}" if compared else "without labels")
    return f"{score['images']} image{'' if score['images'] == 1 else 's'} ({', '.join(said)})"


def _open_in(sources: Mapping[str, ArtifactSource]) -> dict[str, str]:
    return {artifact: opens_in(source.path) for artifact, source in sources.items() if source.path.suffix == ".onnx"}


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}
