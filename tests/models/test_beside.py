"""Two networks that see one picture: what the pair says is what each says."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.models.networks import build
from keras_realmnet.tasks.outputs import Grades, Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from keras_realmnet.weights import transfer_weights

pytestmark = pytest.mark.tensorflow_only  # the networks beside each other are tested on every backend


def label_set(name, *codes):
    return LabelSet(name, tuple(Label(code, code, f"{code} is there") for code in codes))


GRADES = Grades(label_set("grades", "R0", "R1", "R2"))
LESIONS = Masks(label_set("lesions", "MA", "HE"))
BOTH = {"grades": GRADES, "lesions": LESIONS}
ENCODER = {"encoder": "mobilenet_v2"}
MAIN = {"preset": "grading_plain", "options": {**ENCODER, "frozen_stride": 16}}
PART = {"output": "lesions", "preset": "lesion_net_8s", "options": {**ENCODER, "frozen_stride": 32}}


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(ops.cast(x, "float32")), values)


def made(size=128, **options):
    return build("beside", BOTH, size, **{"main": MAIN, "part": PART, "reduction": 2, **options})


def test_each_says_what_it_says_alone_and_the_part_is_frozen(tmp_path):
    model = made()
    lesion_net = build("lesion_net_8s", {"lesions": LESIONS}, 128, **PART["options"])
    transfer_weights(lesion_net, model.get_layer("part"))
    plain = build("grading_plain", {"grades": GRADES}, 64, **ENCODER)
    transfer_weights(model.get_layer("main"), plain)
    given = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype("float32")
    told = numbers(model(given))
    np.testing.assert_allclose(told["lesions"], numbers(lesion_net(given))["lesions"], atol=1e-5)
    means = given.reshape(2, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(told["grades"], numbers(plain(means))["grades"], atol=1e-5)
    assert not model.get_layer("part").trainable_variables
    assert len(model.trainable_variables) == len(model.get_layer("main").trainable_variables) > 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(numbers(again(given))["lesions"], told["lesions"])
    graph = deploy_graph(model, batch_size=None, activations={"grades": "softmax", "lesions": "sigmoid"})
    deployed = numbers(graph(given))
    np.testing.assert_allclose(deployed["grades"], numbers(ops.softmax(told["grades"])), atol=1e-5)
    np.testing.assert_allclose(deployed["lesions"], 1 / (1 + np.exp(-told["lesions"])), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "outputs", "options", "message"),
    [
        (96, BOTH, {"reduction": 5}, r"image_size must be a multiple of the reduction, 5\. Received: 96"),
        (64, BOTH, {"part": {**PART, "output": "disc"}}, r"output of part must be one of grades, lesions\. .*'disc'"),
        (64, {"grades": GRADES}, {}, r"beside answers two outputs or more, of which the frozen part's is of masks"),
        (64, BOTH, {"part": {"preset": "unet"}}, r"a mapping with an output, the preset of a network that answers it"),
        (64, BOTH, {"main": {**MAIN, "size": 32}}, r"a mapping with the preset of a network, and its options"),
        (64, BOTH, {"main": {"preset": "palm_fovea"}}, r"palm_fovea answers one output of points .*grades"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(size, outputs, options, message):
    with pytest.raises(ValueError, match=message):
        build("beside", outputs, size, **{"main": MAIN, "part": PART, "reduction": 2, **options})
