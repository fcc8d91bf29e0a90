from export.bundling.provenance import cross_validation, training_data

INTERVAL = {"value": 0.5, "low": 0.25, "high": 0.75, "replicates": 9, "mean": None, "sd": None}
FACTS = {
    "training_data": "the pictures of somebody",
    "command": ["/home/somebody/training/__main__.py", "fit", "--recipe", "mine", "--data", "/home/somebody/pictures"],
    "images": {"train": 7},
    "data_sha256": {"train": "0"},
    "seed": 3,
}


def test_a_bundle_says_what_its_network_learned_from_and_how_without_naming_places():
    said = training_data(FACTS, "imagenet")
    assert said["statement"] == (
        "Trained on the pictures of somebody. It started from weights that were trained on ImageNet."
    )
    assert said["command"] == "python -m training fit --recipe mine --data pictures"
    assert "home" not in str(said)
    assert said["training images"] == 7
    assert "validation images" not in said  # all pictures trained
    held_out = training_data({**FACTS, "images": {"train": 7, "validation": 2}}, None)
    assert held_out["validation images"] == 2


def test_what_a_network_started_from():
    assert training_data(FACTS, None)["statement"].endswith("It started from random weights.")
    assert training_data(FACTS, "runs/phantom_5m_160")["statement"].endswith("from the weights phantom_5m_160.")
    assert training_data(FACTS, "/home/me/tiny.safetensors")["statement"].endswith("from the weights tiny.safetensors.")


def test_scores_of_cross_validation_are_readable():
    nothing = {**INTERVAL, "value": None}
    parts = [{"data": "cross-validation in 5 folds: a", "images": 40, "scores": {"dice": INTERVAL, "iou": nothing}}]
    bootstrap = {"interval": "95 %", "replicates": 9, "unit": "patient"}
    assert cross_validation({"parts": [{**parts[0], "bootstrap": bootstrap}]}) == {
        "cross-validation in 5 folds: a": {
            "pictures": 40,
            "intervals": "95 %, 9 resamples by patient",
            "dice": "0.5000 (0.2500–0.7500)",
        }
    }
