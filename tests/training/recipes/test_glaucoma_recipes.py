"""From findings to an ensemble of networks of glaucoma, at a tiny size: what REFUGE2's solution was, step by step."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.data.glaucoma.made_up import save
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.registry import in_folds, with_folder
from training.fitting.fit import fit
from training.recipe import Phase, load_recipe
from training.runs import load_run
from training.studies.ensembles import write_ensemble

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("eager")]
SMALL = {"filters": 2, "blocks": 0, "branch_filters": 2}


def write_pictures(root):
    """Eight of REFUGE and, under the same names, eight of REFUGE2, half of them with glaucoma, which is a colour."""
    rng = np.random.default_rng(0)
    for folder in ("REFUGE", "REFUGE2"):
        for k in range(8):
            pixels = rng.integers(60, 90, (48, 48, 3)).astype(np.uint8)
            pixels[..., 0] += 100 * (k % 2)
            save(root / folder / f"V{k + 1:04}.png", pixels)
        told = "".join(f"V{k + 1:04}.png,{k % 2}\n" for k in range(8))
        (root / folder / "glaucoma.csv").write_text(f"FileName,Glaucoma Risk\n{told}")


def test_findings_then_glaucoma_in_folds_then_the_mean(tmp_path):
    cache = tmp_path / "cache"
    drawn = PhotographDataSet(10, 4, 4, width=72, outputs=("findings",))
    findings = replace(load_recipe("findings"), data=drawn, model_options=SMALL, phases=(Phase(1, 64),), batch_size=5)
    result = fit(findings, tmp_path / "findings", cache=cache)
    assert result["images"] == 4

    write_pictures(tmp_path)
    recipe = replace(load_recipe("glaucoma"), model_options=SMALL, part_run=str(tmp_path / "findings"), batch_size=7)
    recipe = replace(recipe, phases=(Phase(2, 64),), drop_after=1, restart_below=2e-3, learning_rate=0.02)
    runs = []
    for k in (1, 2):
        data = with_folder(in_folds(recipe.data, (k, 2)), str(tmp_path))
        runs.append(tmp_path / f"glaucoma_{k}")
        scores = fit(replace(recipe, data=data), runs[-1], cache=cache)
        assert scores["thresholds_chosen_on_test"]
        facts = json.loads((runs[-1] / "run.json").read_text())
        assert facts["images"] == {"train": 8 + 4, "validation": 4}
        assert "its network of findings: 10 colour photographs drawn" in facts["training_data"]
        with (runs[-1] / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {round(float(row["learning_rate"]), 6) for row in rows} <= {0.02, 0.002}
        trained, looked_at = (load_run(run)[0].get_layer("findings") for run in (runs[-1], tmp_path / "findings"))
        for one, other in zip(trained.get_weights(), looked_at.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    assert write_ensemble(runs, tmp_path / "ensemble", cache=cache) == {}
    model, _ = load_run(tmp_path / "ensemble")
    assert model.output["glaucoma"].shape == (None, 1)
