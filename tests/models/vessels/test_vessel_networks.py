"""The networks of vessels: what they are made of, what they give, and how the two of the GAN learn."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet import compat, losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.networks import build
from keras_realmnet.models.vessels.adversarial import DISCRIMINATORS, VesselGAN, discriminator_network
from keras_realmnet.presets import VESSEL_GAN_PRESETS, VESSEL_PRESETS
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet

tensorflow_only = pytest.mark.tensorflow_only  # on PyTorch and JAX, whose compiler takes its time, the GAN learns
VESSELS = Masks(LabelSet("vessels", (Label("VES", "Vessels", "vessels"),)))
TWO = Masks(LabelSet("vessels", (Label("ART", "Arteries", "arteries"), Label("VEI", "Veins", "veins"))), exclusive=True)


def made(name, size=64, outputs=VESSELS, **options):
    return build(name, {"vessels": outputs}, size, **options)


def images(count=2, sides=(64, 64), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *sides, 3)).astype("float32")


def told(model, pixels, **arguments):
    return ops.convert_to_numpy(model(pixels, **arguments)["vessels"])


@tensorflow_only
def test_the_small_network():
    """Less than 100,000 parameters in operations that int8 knows; only the green channel counts."""
    model = made("vessel_lite", (64, 32))
    assert model.count_params() == 92_761
    kinds = {type(layer) for layer in model.layers}
    assert kinds == {
        *(layers.InputLayer, layers.Rescaling, layers.Conv2D, BatchNormalization, layers.ReLU, layers.Add),
        layers.UpSampling2D,
    }
    assert {layer.max_value for layer in model.layers if isinstance(layer, layers.ReLU)} == {6}
    assert {layer.interpolation for layer in model.layers if isinstance(layer, layers.UpSampling2D)} == {"bilinear"}
    pixels = images(2, (64, 32))
    given = told(model, pixels)
    assert given.shape == (2, 64, 32, 1)
    assert np.ptp(given) > 0
    other = pixels.copy()
    other[..., [0, 2]] = 255 - other[..., [0, 2]]
    np.testing.assert_array_equal(told(model, other), given)
    other[..., 1] = 255 - other[..., 1]
    assert np.abs(told(model, other) - given).max() > 1e-3
    colours = made("vessel_lite", (64, 32), TWO, colours="rgb", widths=[4, 4, 8, 8])
    assert told(colours, pixels).shape == (2, 64, 32, 3)
    assert np.abs(told(colours, pixels) - told(colours, other)).max() > 1e-3


@tensorflow_only
def test_the_small_network_deployed():
    """What is left of it is convolutions, additions and enlargements, the scale of the pixels in the first one."""
    model = made("vessel_lite")
    rng = np.random.default_rng(1)
    for variable in model.variables:  # so that folding has something to fold
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    graph = deploy_graph(model, batch_size=2, activations={"vessels": "sigmoid"})
    kinds = {type(layer) for layer in graph.layers}
    assert kinds == {layers.InputLayer, layers.Conv2D, layers.ReLU, layers.Add, layers.UpSampling2D, layers.Activation}
    expected = 1 / (1 + np.exp(-told(model, images())))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(told(graph, images()), expected, atol=1e-5)


@tensorflow_only
def test_the_published_unet():
    """32 to 512 channels; the same in the GAN, whose answer and deployed graph are the U-Net's alone."""
    model = build("vessel_unet", {"vessels": VESSELS})
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    assert shapes["images"] == (640, 640, 3)
    for level in range(5):
        side, width = 640 // 2**level, 32 * 2**level
        assert shapes[f"stride{2**level}_down_second_relu"] == (side, side, width)
        assert level == 4 or shapes[f"stride{2**level}_up_concat"] == (side, side, 3 * width)
    assert shapes["vessels"] == (640, 640, 1)
    gan = made("vessel_gan_patch1", 64, filters=2)
    alone = made("vessel_unet", 64, filters=2)
    assert gan.count_params() == alone.count_params() + gan.discriminator.count_params()
    graph = deploy_graph(gan, batch_size=2, activations={"vessels": None})
    assert not {layer.name for layer in gan.discriminator.layers} & {layer.name for layer in graph.layers}
    np.testing.assert_allclose(told(graph, images()), told(gan, images()), atol=1e-4)


PARAMETERS = {  # of the published discriminators: convolutions without bias and BatchNorm's four, but for "pixel"
    "pixel": 9 * (4 * 32 + 32 * 64 + 64 * 128) + 32 + 64 + 128 + 128 + 1,
    "patch1": 9 * (4 * 32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2) + 8 * (32 + 64 + 128) + 128 + 1,
    "patch2": 9 * (4 * 32 + sum(w**2 + w * w // 2 for w in (64, 128, 256, 512)) + 32**2) + 8 * 31 * 32 + 512 + 1,
}


@tensorflow_only
@pytest.mark.parametrize(("kind", "stride"), [("pixel", 1), ("patch1", 8), ("patch2", 64), ("image", 128)])
def test_discriminators(kind, stride):
    network = discriminator_network(kind, 1, image_size=128)
    assert tuple(network.output.shape[1:]) == (128 // stride, 128 // stride, 1)
    assert network.count_params() == PARAMETERS["patch2" if kind == "image" else kind]
    assert list(VESSEL_GAN_PRESETS) == [f"vessel_gan_{each}" for each in DISCRIMINATORS]


def tiny_gan(kind="patch1", size=32, **options):
    return made(f"vessel_gan_{kind}", size, **{"filters": 2, "levels": 2, **options})


def drawn(count=4, size=32):
    """Pictures with a bright vessel, and its truth, of which a corner is not known."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 100, (count, size, size, 3)).astype("float32")
    truth = np.zeros((count, size, size, 1), "uint8")
    for k in range(count):
        row = rng.integers(10, size - 4)
        truth[k, row : row + 3] = 1
    pixels += 150 * truth
    truth[:, :6, :6] = 255
    return pixels, {"vessels": truth}


def step(model, optimizer, steps=1):
    """Losses of so many steps on the same pictures."""
    eager = keras.backend.backend() == "tensorflow"  # tracing a graph would take it longer than these steps
    bce = {"vessels": losses.CrossentropyDice(dice_weight=0.0)}
    model.compile(optimizer, bce, run_eagerly=eager, jit_compile=keras.backend.backend() == "jax")
    return [model.train_on_batch(*drawn(), return_dict=True) for _ in range(steps)]


def values(variables):
    return [np.array(ops.convert_to_numpy(each)) for each in variables]


def mean_softplus(x):
    return float(np.mean(np.logaddexp(0, x)))


def sides_of(model):
    """Cross-entropy, and what the discriminator says of drawn and of found maps, in training; in NumPy but for it."""
    pixels, truth = drawn()
    known = (truth["vessels"] != 255).astype("float32")
    logits = told(model, pixels, training=True).astype("float64")
    y = np.where(known == 1, truth["vessels"], 0)
    entropy = float(((np.logaddexp(0, logits) - y * logits) * known).sum() / known.sum())
    pairs = [np.concatenate([pixels / 127.5 - 1, maps], axis=-1) for maps in (y, known / (1 + np.exp(-logits)))]
    said = [ops.convert_to_numpy(model.discriminator(each.astype("float32"), training=True)) for each in pairs]
    return entropy, *said


@tensorflow_only
def test_each_of_the_two_networks_follows_its_own_loss():
    """One step of plain descent at a rate of 1: biases move by the slopes, worked out apart from Keras."""
    model = tiny_gan(adversarial_weight=5.0)
    before = values(model.variables)
    bias, last = (
        next(v for v in part.trainable_variables if v.path.endswith(f"{layer}/bias"))
        for part, layer in ((model, "vessels"), (model.discriminator, "drawn"))
    )
    width, slopes = 0.02, []
    for sign in (1, -1):
        bias.assign(sign * width * np.ones(1))
        entropy, _, of_found = sides_of(model)
        slopes.append(sign * (entropy + 5 * mean_softplus(-of_found)))
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    entropy, of_drawn, of_found = sides_of(model)
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    start = float(ops.convert_to_numpy(bias)[0]), float(ops.convert_to_numpy(last)[0])
    (told_losses,) = step(model, keras.optimizers.SGD(1.0))
    moved = float(ops.convert_to_numpy(bias)[0]) - start[0], float(ops.convert_to_numpy(last)[0]) - start[1]
    assert moved[0] == pytest.approx(-sum(slopes) / (2 * width), rel=0.02)
    apart = (np.mean(1 / (1 + np.exp(-of_found))) - np.mean(1 / (1 + np.exp(of_drawn)))) / 2
    assert moved[1] == pytest.approx(-apart, rel=1e-3)
    expected = (mean_softplus(-of_drawn) + mean_softplus(of_found)) / 2
    assert float(told_losses["discriminator_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(told_losses["adversarial_loss"]) == pytest.approx(mean_softplus(-of_found), rel=1e-4)
    assert float(told_losses["loss"]) == pytest.approx(entropy + expected, rel=1e-4)


@tensorflow_only
def test_the_adversarial_weight_is_the_generators_alone():
    found = []
    for weight in (0.0, 5.0):
        keras.utils.set_random_seed(7)
        model = tiny_gan(adversarial_weight=weight)
        parts = list(model.trainable_variables), model.discriminator.trainable_variables
        step(model, keras.optimizers.SGD(0.1))
        of_discriminator = {id(v) for v in parts[1]}
        found.append([values(v for v in parts[0] if (id(v) in of_discriminator) == each) for each in (True, False)])
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert max(np.abs(one - other).max() for one, other in zip(found[0][1], found[1][1], strict=True)) > 1e-3


def test_a_short_fit_moves_every_weight_and_lowers_the_loss():
    model = tiny_gan("pixel")
    before = values(model.trainable_variables)
    history = step(model, keras.optimizers.Adam(0.02, beta_1=0.5), steps=5)
    assert np.isfinite([value for each in history for value in each.values()]).all()
    without = [float(each["loss"] - each["discriminator_loss"]) for each in history]
    assert min(without[1:]) < 0.9 * without[0]
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(ops.convert_to_numpy(variable), old)
    ]
    assert still == []


@tensorflow_only
def test_a_saved_gan_is_the_same(tmp_path):
    model = tiny_gan("pixel", adversarial_weight=0.3)
    model.discriminator.trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, VesselGAN)
    assert again.get_config() == model.get_config()
    assert len(again.trainable_variables) == len(model.trainable_variables) < len(compat.all_layers(model))
    for old, new in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(*values((old, new)))
    np.testing.assert_array_equal(told(model, images(1, (32, 32))), told(again, images(1, (32, 32))))


@tensorflow_only
def test_what_they_cannot_be_is_refused():
    for name in (*VESSEL_PRESETS, *VESSEL_GAN_PRESETS):
        with pytest.raises(ValueError, match=r"image_size must be divisible by (8|16)\. Received: 70"):
            made(name, 70)
        with pytest.raises(WeightsMismatch, match=f"{name}: there are no weights to begin with. Received: 'imagenet'"):
            made(name, load_weights="imagenet")
    with pytest.raises(ValueError, match="vessel_gan_image answers one output of masks that are not exclusive"):
        made("vessel_gan_image", outputs=TWO)
    with pytest.raises(ValueError, match=r"colours must be green or rgb\. Received: 'red'"):
        made("vessel_lite", colours="red")
    with pytest.raises(ValueError, match=r"vessel_unet takes filters, levels\. Received: widths"):
        made("vessel_unet", widths=(1, 1, 1, 1))
