"""Model files of a preset with random weights: right for timing, for nothing else.

    python -m export.speed.networks.preset_models PRESET FOLDER

In a process of its own: TensorFlow is gone when timing starts.
"""

import json
import sys
from pathlib import Path

from training.data.files.once import code_hash

__all__ = ["made_models", "write_preset_models"]

ROOT = Path(__file__).parents[3]
MAKERS = ("export/conversion", "keras_realmnet/deploy", "keras_realmnet/models")  # whose code makes the files
MODELS_FILE = "models.json"  # "code", and "models": {artifact: {"file", "engine", "precision"}}; written last
LEFT_OUT = ("int8_static",)  # too far from the float model to be of use


def write_preset_models(preset: str, folder: Path) -> None:
    """Writes every artifact of a bundle that runs on a processor, and `models.json`.

    Calibration images are phantoms.
    """
    import keras
    import numpy as np

    from export.conversion.artifacts import ARTIFACTS, ArtifactMaker
    from keras_realmnet import RealMNet
    from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
    from training.phantoms.cohorts import cohort

    def calibration() -> np.ndarray:
        spec = PreprocessSpec(model.image_size[0])
        return np.stack([preprocess(case.render(spec.size).image, spec)[0] for case in cohort(4, seed=1)[:8]])

    keras.utils.set_random_seed(0)
    model = RealMNet.from_preset(preset, num_classes=7)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        # They start at zero: all blocks would share one table, which a trained network does not.
        if weight.name == "attention_biases":
            weight.assign(rng.normal(0, 0.5, weight.shape))
    folder.mkdir(parents=True, exist_ok=True)
    maker, models = ArtifactMaker(model, folder, calibration()), {}
    for name in ARTIFACTS:
        if not name.endswith(("-gpu", "-arm")) and name not in LEFT_OUT:
            print(f"making {name}", file=sys.stderr)
            made = maker.make(name)
            models[name] = {"file": made.path.name, "engine": made.engine, "precision": made.precision}
    (folder / MODELS_FILE).write_text(json.dumps({"code": _code(), "models": models}, indent=1))


def made_models(folder: Path) -> dict[str, dict[str, str]] | None:
    """What `write_preset_models` has written into a folder; None: nothing, not all of it, or by other code."""
    path = folder / MODELS_FILE
    written = json.loads(path.read_text()) if path.is_file() else {}
    return written["models"] if written.get("code") == _code() else None


def _code() -> list[str]:
    return [code_hash(ROOT / maker) for maker in MAKERS]


if __name__ == "__main__":
    write_preset_models(sys.argv[1], Path(sys.argv[2]))
