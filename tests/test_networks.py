"""Networks: their shapes, how far they see, and that what is exported is what was built."""

import cv2
import keras
import numpy as np
import pytest

from models import saved_model
from models.export import export, served, weights_of
from models.networks.autoencoders import conv_autoencoder, conv_margin, encoder
from models.networks.layers import Doubled
from models.networks.table import NETWORKS, Choices, NetworkError, build
from models.networks.unet import unet
from models.optimizers import SCHEDULES, Schedule, make_optimizer
from pipeline import training_options as options

FORMS = {
    "dense-autoencoder": Choices(side=28),
    "conv-autoencoder": Choices(side=64),
    "conv-autoencoder variational gray": Choices(side=32, variational=True, colour_space="gray"),
    "unet": Choices(side=64),
    "unet with a mask": Choices(side=64, masked=True),
    "cnn-colorizer": Choices(side=64),
    "cnn-colorizer by classes": Choices(side=64, classification=True),
    "autoencoder-colorizer Lab": Choices(side=64, colour_space="Lab"),
    "autoencoder-colorizer YUV": Choices(side=64, colour_space="YUV"),
    "autoencoder-colorizer HSV": Choices(side=64, colour_space="HSV"),
    "autoencoder-colorizer RGB": Choices(side=64, colour_space="RGB"),
    "gan-colorizer": Choices(side=64),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_exported_gives_what_the_keras_model_gives(form, tmp_path, photographs):
    keras.utils.set_random_seed(0)
    built = build(form.split()[0], FORMS[form])
    for variable in built.model.trainable_variables:
        if not np.any(variable.numpy()):  # layers that start at zero would hide the rest
            variable.assign(np.random.default_rng(0).normal(0, 0.05, variable.shape))
    contract = built.contract
    export(built.model, tmp_path / "model", contract, built.space)
    loaded = saved_model.load(str(tmp_path / "model"), precision="float32")
    assert loaded.contract == contract
    height, width = contract.size or (64, 96)
    photo = photographs["coffee"][:height, :width].astype(np.float32) / 255
    channels = {"RGB": 3}.get(contract.input_space, 1)
    low, high = contract.input_range
    image = photo[None, ..., :channels] * (high - low) + low
    given = [image]
    if contract.mask_input:
        given.append(np.random.default_rng(0).random(image.shape[:3]) < 0.3)
    output = loaded(*given)
    assert output.std() > 1e-3
    expected = served(built.model, contract, built.space)(*given)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    if len(given) == 1 and built.space == contract.output_space:
        np.testing.assert_allclose(output, np.asarray(built.model(image)), atol=1e-5)
    for held, variable in zip(weights_of(tmp_path / "model"), built.model.variables, strict=True):
        np.testing.assert_array_equal(held, variable.numpy())


def test_the_dense_autoencoder_is_the_textbooks():
    model = build("dense-autoencoder", Choices(side=28)).model
    units = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert units == [128, 64, 64, 128, 784]
    assert encoder(model).output_shape == (None, 64)


def test_all_that_a_convolutional_decoder_knows_has_gone_through_the_code():
    model = conv_autoencoder(widths=(8, 12, 16))
    code = encoder(model)(np.zeros((1, 64, 64, 3), np.float32))
    assert np.prod(code.shape) == 64 * 64 * 3 // 4
    inside = set(encoder(model).layers)
    for layer in model.layers:
        if layer in inside and layer.name != "bottleneck":
            used_by = {node.operation for node in layer._outbound_nodes}
            assert used_by <= inside, layer.name


def test_no_pixel_of_the_convolutional_autoencoder_sees_further_than_its_margin():
    keras.utils.set_random_seed(0)
    model = conv_autoencoder(channels=1, widths=(6, 8, 8))
    margin = conv_margin(3)
    rng = np.random.default_rng(0)
    image = rng.random((1, 160, 160, 1), np.float32)
    before = np.asarray(model(image))
    reach = 0
    for row in range(72, 80):
        touched = image.copy()
        touched[0, row, 80] = 1 - touched[0, row, 80]
        changed = np.argwhere(np.abs(np.asarray(model(touched)) - before)[0, ..., 0] > 1e-7)
        reach = max(reach, int(np.abs(changed - (row, 80)).max()))
    assert margin // 2 < reach <= margin


def test_a_variational_code_is_drawn_while_training_and_is_its_mean_after():
    keras.utils.set_random_seed(0)
    model = conv_autoencoder(channels=1, widths=(8,), variational=True)
    image = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    once, twice = (np.asarray(model(image, training=True)) for _ in range(2))
    assert not np.array_equal(once, twice)
    assert float(sum(model.losses)) > 0
    first, second = (np.asarray(model(image)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_network_with_a_mask_looks_at_it():
    keras.utils.set_random_seed(0)
    model = unet(widths=(8, 8), blocks=(1, 1), mask=True)
    image = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    mask = np.zeros((1, 16, 16, 1), np.float32)
    without = np.asarray(model([image, mask]))
    mask[0, 4:8, 4:8] = 1
    assert not np.allclose(without, np.asarray(model([image, mask])))


def test_doubling_is_bilinear():
    image = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    expected = keras.ops.image.resize(image, (10, 14), interpolation="bilinear")
    np.testing.assert_allclose(np.asarray(Doubled()(image)), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("unet", Choices(side=64, variational=True), "no choice of variational"),
        ("dense-autoencoder", Choices(side=28, masked=True), "no choice of masked.*none"),
        ("unet", Choices(side=64, colour_space="HSV"), "RGB, gray, not HSV"),
        ("cnn-colorizer", Choices(side=72), "multiples of 32 pixels, not 72"),
    ],
)
def test_what_a_network_cannot_be_is_said_with_what_it_can(name, choices, message):
    with pytest.raises(NetworkError, match=message):
        build(name, choices)


def test_the_command_line_knows_every_network_optimizer_and_schedule():
    from models.losses import LOSSES
    from models.optimizers import OPTIMIZERS
    from pipeline.examples import AUGMENTATIONS

    assert tuple(NETWORKS) == options.NETWORKS
    assert tuple(OPTIMIZERS) == options.OPTIMIZERS
    assert tuple(SCHEDULES) == options.SCHEDULES
    told = {option.name: option.settings.get("help", "") for option in options.TRAINING_OPTIONS}
    assert all(name in told["loss"] for name in LOSSES)
    assert all(name in told["augment"] for name in AUGMENTATIONS)


def test_every_network_has_a_source_and_a_recipe_that_can_be_read():
    from models.losses import parse_loss
    from transforms.recipe import parse_recipe

    for network in NETWORKS.values():
        assert any(character.isdigit() for character in network.source)
        parse_recipe(network.recipe)
        parse_loss(network.loss)


def test_rates_rise_then_fall():
    for name in SCHEDULES:
        schedule = Schedule(name, 0.1, steps=100, warmup=10)
        rates = [float(schedule(step)) for step in range(101)]
        assert rates[0] == pytest.approx(0.01)
        assert rates[9] == pytest.approx(max(rates)) == pytest.approx(0.1)
        assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", (0.1, 0.1, 0.1, 0.1)),
        ("cosine", (0.1, 0.085355, 0.05, 0.0)),
        ("linear", (0.1, 0.075, 0.05, 0.0)),
        ("exponential", (0.1, 0.0316228, 0.01, 0.001)),
        ("steps", (0.1, 0.1, 0.01, 0.0001)),
    ],
)
def test_rates_are_those_of_their_schedules(name, rates):
    schedule = Schedule(name, 0.1, 100)
    found = [float(schedule(step)) for step in (0, 25, 50, 100)]
    assert found == pytest.approx(rates, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("adam", 0.1, 0.1),  # Kingma and Ba 2015, algorithm 1: the rate, whatever the gradient
        ("adamw", 0.1, 0.1),
        ("sgd", 0.1 * 4, 0.1 * (4 + 0.9 * 4)),  # momentum of 0.9
        # The root of a running mean of squares, of which each new one is a tenth.
        ("rmsprop", 0.1 / 0.1**0.5, 0.1 / 0.19**0.5),
    ],
)
def test_optimizers_take_the_steps_of_their_formulas(name, first, second):
    weight = keras.Variable([5.0])
    optimizer = make_optimizer(name, 0.1)
    steps = []
    for _ in range(2):
        before = float(weight.numpy()[0])
        optimizer.apply([np.array([4.0], np.float32)], [weight])
        steps.append(before - float(weight.numpy()[0]))
    assert steps == pytest.approx([first, second], rel=1e-4)


def test_gradients_are_shortened_together():
    weights = [keras.Variable([0.0]), keras.Variable([0.0])]
    optimizer = make_optimizer("sgd", 1.0, clip_norm=1.0)
    optimizer.apply([np.array([3.0], np.float32), np.array([4.0], np.float32)], weights)
    assert [float(w.numpy()[0]) for w in weights] == pytest.approx([-0.6, -0.8], rel=1e-5)


def test_weight_decay_leaves_biases_alone():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    layer.bias.assign([1.0, 1.0, 1.0])
    before = layer.kernel.numpy()
    optimizer = make_optimizer("adamw", 0.1, weight_decay=0.5)
    optimizer.apply(
        [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)], layer.trainable_variables
    )
    np.testing.assert_allclose(layer.kernel.numpy(), before * 0.95, rtol=1e-5)
    np.testing.assert_array_equal(layer.bias.numpy(), 1)


def test_a_convolutional_autoencoder_learns_images_that_are_nearly_black():
    """As digits are: with ReLUs and a sigmoid it learnt to give black, and then nothing more."""
    rng = np.random.default_rng(0)
    drawn = np.zeros((64, 28, 28), np.uint8)
    for index, digit in enumerate(drawn):
        place = tuple(int(n) for n in rng.integers((2, 20), (10, 26)))
        cv2.putText(digit, str(index % 10), place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    digits = drawn[..., None] / np.float32(255)
    keras.utils.set_random_seed(0)
    model = conv_autoencoder(channels=1, widths=(48, 96))
    model.compile(keras.optimizers.Adam(1e-3), loss="mse")
    for _ in range(40):
        loss = model.train_on_batch(digits, digits)
        model.reset_metrics()
    assert loss < 0.4 * np.mean(digits**2)
