import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.__main__ import main
from export.contract.localization import LESION_OF, localize, points_at
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.preprocessing import FieldGeometry
from training.datasets.phantom import PhantomDataSet

DEMO = "bundles/realmnet-demo"


@given(row=st.integers(1, 5), column=st.integers(1, 5))
def test_a_map_points_at_where_its_peak_lies_on_the_image(row, column):
    geometry = FieldGeometry(source=(300, 400), box=(40, 30, 360, 270), size=224)  # 28 rows of padding in the square
    class_map = np.zeros((7, 7), np.float32)
    class_map[row, column] = 1
    x, y = geometry.to_source(np.array([[32 * column + 15.5, 32 * row + 15.5]]))[0]
    rows, columns = np.indices((300, 400))
    around = (abs(rows - y) <= 2) & (abs(columns - x) <= 2)
    assert points_at(class_map, geometry, around)
    assert not points_at(class_map, geometry, ~around)
    assert not points_at(0 * class_map, geometry, around | ~around)  # nothing speaks for the label


def test_the_shipped_bundle_points_at_lesions(tmp_path, capsys):
    assert main(["localize", DEMO, "--out", str(tmp_path), "--patients", "16", "--bootstrap", "200"]) == 0
    found = json.loads((tmp_path / "localization.json").read_text())
    assert set(found["labels"]) <= {*LESION_OF, "all"}
    assert found["data"].endswith("held-out phantoms of 16 synthetic patients")
    of_all = found["labels"].pop("all")
    assert of_all["maps"] == sum(pointing["maps"] for pointing in found["labels"].values()) >= 30
    hits = {kind: share["value"] for kind, share in of_all["hits"].items()}
    assert hits["class maps"] > hits["not moved back"] > hits["Grad-CAM++"]
    assert of_all["hits"]["class maps"]["low"] > 2 * of_all["chance"]
    assert of_all["difference"]["value"] == pytest.approx(hits["class maps"] - hits["Grad-CAM++"])
    assert "Grad-CAM++" in capsys.readouterr().out
    assert (tmp_path / "localization.png").read_bytes().startswith(b"\x89PNG")


def test_a_bundle_for_other_images_is_refused():
    demo = Bundle.load(DEMO)
    colour = replace(demo, task=replace(demo.task, modality="colour_fundus"))
    with pytest.raises(RealMNetError, match=r"uwf_red_green images.*Received: a bundle for colour_fundus with psmm"):
        localize(colour, PhantomDataSet(test_patients=1))


def test_a_bundle_without_its_keras_model_is_refused(tmp_path, capsys, write_small_bundle, litert_models):
    model = ArtifactSource(litert_models["float32"], "float32", 1e-3)
    bundle = write_small_bundle(tmp_path / "small", {"float32": model})
    assert main(["localize", str(bundle.directory), "--out", str(tmp_path / "out")]) != 0
    assert "source.keras: no such file" in capsys.readouterr().err
