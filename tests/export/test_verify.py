import json

import numpy as np
import pytest
from PIL import Image

from export.__main__ import main
from export.to_litert import to_litert
from keras_realmnet.screening.bundle import ArtifactSource, write_bundle
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PSMM
from keras_realmnet.screening.preprocessing import PreprocessSpec
from training.datasets import PhantomDataSet
from training.phantom import cohort
from training.recipe import load_recipe, override


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_model):
    """`good`: a bundle whose artifacts are the model; `bad`: its Keras model has another head."""
    folder = tmp_path_factory.mktemp("verify")
    artifact = to_litert(small_model, folder / "model.tflite")
    small_model.save(folder / "good.keras")
    kernel = small_model.head.kernel
    kernel.assign(-kernel)
    small_model.save(folder / "bad.keras")
    kernel.assign(-kernel)
    for name in ("good", "bad"):
        write_bundle(
            folder / name,
            name=name,
            version="1",
            label_set=PSMM,
            modality="uwf_red_green",
            spec=PreprocessSpec(size=64),
            operating_point=OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), chosen="by hand"),
            artifacts={
                "float32": ArtifactSource(artifact, "float32", 1e-3),
                "int8_mixed": ArtifactSource(artifact, "int8_mixed", 1e-3),
            },
            default_artifact="float32",
            golden_image=np.full((1, 64, 64, 3), 90, np.uint8),
            training_data={},
            scores={},
            versions={},
            intended_use="Tests only.",
            source=folder / f"{name}.keras",
        )
    recipe = override(load_recipe("smoke"), "phases=[(1, 64)]").to_dict()
    data = PhantomDataSet(train_patients=1, validation_patients=1, test_patients=6, width=96)
    recipe["data"] = {"kind": data.kind, **vars(data)}
    (folder / "run").mkdir()
    (folder / "run" / "recipe.json").write_text(json.dumps(recipe))
    (folder / "images").mkdir()
    for k, case in enumerate(cohort(3, seed=5)[:3]):
        Image.fromarray(case.render(480).image).save(folder / "images" / f"{k}.png")
    (folder / "images" / "README").write_text("no image")
    (folder / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_a_good_bundle_on_the_labelled_images_of_a_run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)  # where the cache of the run's images goes
    assert main(["verify", "good", "--run", "run", "--out", "report"]) == 0
    printed = capsys.readouterr().out
    assert "verified: good" in printed
    assert "int8_mixed: changes of AUROC and mAP were not judged: 500 labelled images needed" in printed
    document = json.loads((folder / "report" / "verification.json").read_text())
    assert document["images"]["verified"] >= 6
    for name in ("float32", "int8_mixed"):
        found = document["artifacts"][name]
        assert 0 < found["max_probability"] < 1e-4  # it was run, and it is the model
        assert found["broken"] == []
        assert found["macro_auroc"]["a"] == found["macro_auroc"]["b"]
        assert found["macro_auroc"]["difference"] == 0
    assert document["artifacts"]["int8_mixed"]["limits"]["min_score_change"] == -0.005
    assert Image.open(folder / "report" / "verification.png").size[0] > 1000


def test_a_bundle_that_computes_something_else_is_refused_by_artifact_and_limit(folder, capsys):
    assert main(["verify", str(folder / "bad"), "--images", str(folder / "images")]) == 2
    output = capsys.readouterr()
    assert "difference to Keras on 3 images, 1 files not gradable" in " ".join(output.out.split())
    (line,) = [line for line in output.err.splitlines() if "error" in line and "export" in line]
    assert "bad: differs from Keras by more than allowed: float32: largest |Δ probability| is" in line
    assert "int8_mixed: 99th percentile of |Δ probability| is" in line
    assert "allowed 0.02" in line


def test_images_are_named_once_and_must_fit(folder, capsys):
    good = str(folder / "good")
    assert main(["verify", good, "--run", str(folder / "run"), "--images", str(folder / "images")]) == 2
    assert main(["verify", good, "--run", str(folder / "images")]) == 2
    assert "recipe.json: no such file" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main(["verify", good, "--images", str(folder / "empty")]) == 2
    assert "none of the 0 files" in capsys.readouterr().err
