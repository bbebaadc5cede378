"""Training and attacks compiled by XLA: the same as without, up to rounding, in one compilation, with all checks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import Knowledge, build_attack
from saat_tf.data import array_split, draw_scenes, training_batches
from saat_tf.evaluation.attack_runner import attack_runner
from saat_tf.layers import CodeBank, Dropout
from saat_tf.losses import DPH, HSWD
from saat_tf.models import ATRDH, SAAT, HashingModel, HashingTraining, Purifier
from saat_tf.random_numbers import choices, fold_in, normal, signs, uniform
from saat_tf.threat_model import ThreatModel

BITS, SIDE = 16, 16
SCENES = draw_scenes(22, image_size=SIDE, seed=3)
SPLIT = array_split(SCENES.images, SCENES.labels)
SEED = tf.constant([3, 7])
BALL = ThreatModel.from_255(8)


def training(kind, loss=DPH, **options):
    keras.utils.set_random_seed(1)
    encoder = HashingModel("small_cnn", BITS, SIDE)
    return kind(encoder, CodeBank.from_labels(SPLIT.labels, BITS), loss(), **options)


def fitted(model, *, jit_compile):
    """Return the losses of an epoch, of batches of 8, 8 and 6, and the weights after it."""
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=jit_compile)
    history = model.fit(training_batches(SPLIT, 8, seed=0), epochs=1, shuffle=False, verbose=0).history
    return history, model.encoder.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: training(SAAT, num_steps=2),
        lambda: training(ATRDH, num_steps=1),
        lambda: training(HashingTraining, HSWD),
    ],
    ids=["SAAT", "ATRDH", "HSWD"],
)
def test_a_compiled_training_gives_the_losses_and_weights_of_the_plain_one(make):
    losses, weights = fitted(make(), jit_compile=False)
    compiled_losses, compiled_weights = fitted(make(), jit_compile=True)
    for name, value in losses.items():
        np.testing.assert_allclose(compiled_losses[name], value, rtol=1e-5, err_msg=name)
    for one, other in zip(weights, compiled_weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: uniform((33, 5, 3), seed, -0.5, 0.5),
        lambda seed: normal((33, 5), seed, 20.0),
        lambda seed: signs((33, 5), seed),
        lambda seed: choices(33, 7, seed),
        lambda seed: fold_in(seed, 5),
        lambda seed: uniform((7,), fold_in(seed, 1)),
    ],
)
def test_draws_are_those_of_the_plain_graph(draw):
    plain, compiled = tf.function(draw)(SEED).numpy(), tf.function(draw, jit_compile=True)(SEED).numpy()
    np.testing.assert_allclose(compiled, plain, rtol=3e-6)


def test_draws_have_the_distributions_that_they_say():
    drawn = uniform((100_000,), SEED, -2.0, 6.0).numpy()
    assert drawn.min() >= -2 and drawn.max() <= 6
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [2.0, 8 / 12**0.5], rtol=0.01)
    values = normal((100_000,), SEED, 3.0).numpy()
    assert abs(values.mean()) < 0.03
    np.testing.assert_allclose(np.quantile(values / 3, [0.0228, 0.1587, 0.8413, 0.9772]), [-2, -1, 1, 2], atol=0.03)
    assert abs(signs((100_000,), SEED).numpy().mean()) < 0.01
    np.testing.assert_allclose(np.bincount(choices(70_000, 7, SEED)), 10_000, rtol=0.04)
    assert abs(np.corrcoef(drawn, uniform((100_000,), fold_in(SEED, 1)).numpy())[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn, uniform((100_000,), [3, 8]).numpy())[0, 1]) < 0.01


def test_fewer_rows_are_the_first_of_more():
    np.testing.assert_array_equal(uniform((5, 3, 5), SEED), uniform((8, 3, 5), SEED)[:5])


def test_dropout_drops_the_same_with_and_without_xla_and_as_often_as_it_says():
    layers = [Dropout(0.3, seed=5) for _ in range(2)]
    x = tf.ones((50, 400))
    plain = tf.function(lambda: layers[0](x, training=True))().numpy()
    np.testing.assert_allclose(tf.function(lambda: layers[1](x, training=True), jit_compile=True)(), plain, rtol=1e-6)
    assert set(np.unique(plain)) == {0.0, np.float32(1 / 0.7)} and abs(np.mean(plain == 0) - 0.3) < 0.01
    assert (layers[0](x, training=True).numpy() != plain).any()
    np.testing.assert_array_equal(layers[0](x, training=False), x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mainstay-di", "square"])
def test_a_compiled_attack_returns_what_the_plain_one_returns_and_loses_no_check(name):
    encoder = training(HashingTraining).encoder
    bank = CodeBank.from_labels(SPLIT.labels, BITS)
    bank.update(tf.range(22), encoder(SCENES.images))
    attack = build_attack(name, BALL.epsilon, Knowledge(train=bank, database=bank), num_steps=3)
    plain, compiled = (attack_runner(attack, encoder, jit_compile=jit) for jit in (False, True))
    for rows in (slice(0, 12), slice(12, 22)):
        batch = tf.constant(SCENES.images[rows]), tf.constant(SCENES.labels[rows], tf.float32), SEED
        adversarial_images = compiled(*batch)[0].numpy()
        np.testing.assert_allclose(adversarial_images, plain(*batch)[0], atol=1e-5)
        assert np.abs(adversarial_images - batch[0]).max() > 0.01
    for fault in ((255 * batch[0], batch[1]), (batch[0], 2 * batch[1] - 1)):
        with pytest.raises(ValueError, match=r"outside of \[0, 1\]|0 and 1"):
            compiled(*fault, SEED)


def test_an_attack_does_not_stop_early_and_compile():
    with pytest.raises(ValueError, match="either stops early or is compiled"):
        attack_runner(None, training(HashingTraining).encoder, early_stop=True, jit_compile=True)


def test_xla_is_off_unless_chosen_and_not_saved(monkeypatch, tmp_path):
    # Keras would choose it on a machine with one GPU.
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda self: True)
    for model in (training(SAAT), Purifier()):
        model.compile("sgd")
        assert model.jit_compile is False
    model = training(SAAT)
    model.compile("sgd", jit_compile=True)
    assert "jit_compile" not in model.get_compile_config()
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").jit_compile is False


def test_several_steps_an_execution_are_not_compiled():
    with pytest.raises(ValueError, match="one step an execution"):
        training(HashingTraining).compile("sgd", jit_compile=True, steps_per_execution=2)
