"""Ensembles: the mean of what several networks say, in Keras and deployed, where shared parts are there once."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.ensemble import MeanProbability, ensemble_network
from keras_realmnet.models.network import Network

tensorflow_only = pytest.mark.tensorflow_only
ACTIVATIONS = {"labels": "sigmoid", "grade": "softmax", "point": None}


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(x), values)


def probabilities(logits, of):
    logits = np.asarray(logits, "float64")
    if of == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("of", ["sigmoid", "softmax"])
def test_logits_of_the_mean_probability(of):
    logits = np.random.default_rng(0).normal(0, 6, (3, 5, 2, 4)).astype("float32")
    given = numbers(MeanProbability(of)(list(logits)))
    expected = np.mean([probabilities(each, of) for each in logits], axis=0)
    np.testing.assert_allclose(probabilities(given, of), expected, atol=1e-6)
    if of == "softmax":
        np.testing.assert_allclose(given, np.log(expected), rtol=1e-4, atol=1e-5)
    assert MeanProbability.from_config(MeanProbability(of).get_config()).of == of


def test_a_member_that_is_sure_leaves_the_others_their_say():
    sure, unsure = (np.array([[value]], "float32") for value in (40, 0))
    np.testing.assert_allclose(numbers(MeanProbability("sigmoid")([sure, unsure])), np.log(3), rtol=1e-5)
    np.testing.assert_allclose(numbers(MeanProbability("sigmoid")([-sure, -sure])), -40, rtol=1e-5)
    with pytest.raises(ValueError, match=r"of must be sigmoid or softmax\. Received: 'tanh'"):
        MeanProbability("tanh")


def member(seed, frozen_seed=0):
    """Three outputs and an auxiliary end, on a frozen part that follows from `frozen_seed` alone."""
    keras.utils.set_random_seed(frozen_seed)
    seen = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, name="conv", use_bias=False)(layers.Rescaling(1 / 255)(seen))
    part = keras.Model(seen, layers.ReLU()(layers.BatchNormalization(name="norm")(x)), name="part")
    part.trainable = False
    keras.utils.set_random_seed(seed)
    images = keras.Input((16, 16, 3), name="images")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, activation="relu", name="own")(part(images)))
    ends = {name: layers.Dense(size, name=name)(x) for name, size in (("labels", 2), ("grade", 3), ("point", 2))}
    return Network(images, {**ends, "grade_auxiliary": layers.Dense(3)(x)}, name="same_name")


@tensorflow_only
def test_an_ensemble_says_the_mean_and_holds_shared_parts_once(tmp_path):
    members = [member(1), member(2), member(3, frozen_seed=9)]
    model = ensemble_network(members, ACTIVATIONS)
    assert not model.trainable_variables
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("float32")
    said = [numbers(each(images)) for each in members]
    expected = {
        name: np.mean([each[name] if of is None else probabilities(each[name], of) for each in said], axis=0)
        for name, of in ACTIVATIONS.items()
    }
    given = numbers(model(images))
    assert set(given) == set(ACTIVATIONS)
    graph = deploy_graph(model, batch_size=4, activations=ACTIVATIONS)
    deployed = numbers(graph(images))
    for name, of in ACTIVATIONS.items():
        given[name] = given[name] if of is None else probabilities(given[name], of)
        np.testing.assert_allclose(given[name], expected[name], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(deployed[name], expected[name], atol=1e-5, err_msg=name)
    kinds = [type(layer).__name__ for layer in graph.layers]
    assert kinds.count("Conv2D") == 2 + 3  # two frozen parts, and what each member has of its own
    assert "MeanProbability" not in kinds

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numbers(again(images))["labels"], numbers(model(images))["labels"])
    graph = deploy_graph(again, batch_size=4, activations=ACTIVATIONS)
    assert [type(layer).__name__ for layer in graph.layers] == kinds
    with pytest.raises(RealMNetError, match=r"sigmoid expected for 'labels'\. Received: None"):
        deploy_graph(model, activations={**ACTIVATIONS, "labels": None})


def test_one_network_is_no_ensemble():
    with pytest.raises(ValueError, match=r"at least two members\. Received: 1"):
        ensemble_network([member(1)], ACTIVATIONS)
