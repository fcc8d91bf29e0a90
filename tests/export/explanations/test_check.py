import json
from dataclasses import replace

import numpy as np
import pytest

from export.__main__ import main
from export.explanations.explained import Network
from export.explanations.pictures import LESION_OF, drawn_for
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle

DEMO, PALM = "bundles/realmnet-demo", "bundles/palm-lite"


@pytest.mark.slow
def test_maps_of_the_shipped_bundle_lie_on_lesions_and_tell_what_it_used(tmp_path, capsys):
    arguments = ["--patients", "2", "--curves", "4", "--bootstrap", "100", "--threads", "1"]
    assert main(["explanations", DEMO, "--out", str(tmp_path), *arguments]) == 0
    found = json.loads((tmp_path / "explanations.json").read_text())
    assert found["artifact"] == "int8"
    pointing = found["pointing"]
    assert set(pointing) <= {*LESION_OF, "all"}
    of_all = pointing.pop("all")
    assert of_all["maps"] == sum(each["maps"] for each in pointing.values()) >= 10
    hits, energy = ({name: share["value"] for name, share in of_all[of].items()} for of in ("hits", "energy"))
    assert list(hits) == ["class maps", "not moved back", "Grad-CAM++", "centre", "random"]
    assert hits["class maps"] > hits["Grad-CAM++"]
    assert hits["class maps"] > 2 * hits["random"]
    assert energy["class maps"] > energy["random"]
    assert of_all["hit_differences"]["random"]["value"] == pytest.approx(hits["class maps"] - hits["random"])
    curves = found["curves"]["all"]
    assert curves["maps"] == 4
    assert curves["deletion"]["map"]["value"] < curves["deletion"]["random"]["value"]
    similar = found["randomization"]
    assert similar["trained"]["spearman"]["value"] == pytest.approx(1)
    assert similar["all layers"]["spearman"]["value"] < 0.7
    assert "Grad-CAM++" in capsys.readouterr().out
    for name in ("curves.png", "examples.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_photographs_are_drawn_for_a_bundle_that_screens_them_and_are_the_same_again():
    bundle = Bundle.load(PALM)
    drawn = drawn_for(bundle, 3)
    pictures = [drawn.draw(item) for item in drawn.items]
    assert len({picture.patient for picture in pictures}) == 3
    for picture in pictures:
        assert picture.square.shape == (bundle.spec.size, bundle.spec.size, 3)
        for lesion in picture.lesions.values():
            assert not (lesion & ~picture.field_mask).any()
    network = Network.of_bundle(bundle, threads=1)
    assert (network.codes, network.pathologic) == (("N", "H", "P"), ("P",))
    probabilities, maps = network.answer(np.stack([picture.square for picture in pictures]))
    assert probabilities.shape == (3, 3)
    assert maps.shape == (3, 7, 7, 3)
    assert (drawn.draw(1).square == pictures[1].square).all()


def test_phantoms_without_lesions_are_not_drawn():
    drawn = drawn_for(Bundle.load(DEMO), 2)
    picture = drawn.draw(drawn.items[0])
    assert picture.lesions
    assert set(picture.lesions) <= set(LESION_OF)


def test_a_bundle_for_other_images_is_refused():
    demo = Bundle.load(DEMO)
    colour = replace(demo, task=replace(demo.task, modality="colour_fundus"))
    with pytest.raises(RealMNetError, match=r"uwf_red_green images.*Received: a bundle for colour_fundus with psmm"):
        drawn_for(colour, 1)


def test_a_bundle_without_class_maps_is_refused(tmp_path, capsys):
    assert main(["explanations", "bundles/fundus-structures", "--out", str(tmp_path / "out")]) != 0
    assert "a bundle with class maps of labels expected. Received: landmarks, disc" in capsys.readouterr().err
