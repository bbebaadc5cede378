"""Backbones of 16 bits: codes beside float32's, slopes of the attack, loss scaling, and nothing left behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import alignment
from saat_tf.attacks.gradients import gain_and_slopes
from saat_tf.data import array_split, draw_scenes, evaluation_batches, training_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DPH
from saat_tf.models import SAAT, HashingModel, HashingTraining, PurifiedModel, Purifier

pytestmark = pytest.mark.slow

BITS, SIDE = 16, 16
MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(192, image_size=SIDE, seed=0)


@pytest.fixture(scope="module")
def trained(scenes):
    keras.utils.set_random_seed(0)
    encoder = HashingModel("small_cnn", BITS, SIDE)
    training = HashingTraining(encoder, CodeBank.from_labels(scenes.labels, BITS), CSQ(10, BITS))
    training.compile(keras.optimizers.Adam(4e-3))
    split = array_split(scenes.images, scenes.labels)
    training.fit(training_batches(split, 32, seed=0), epochs=8, shuffle=False, verbose=0)
    return encoder


@pytest.mark.parametrize("precision, compute", MIXED.items())
def test_of_the_bits_of_a_trained_model_99_percent_are_those_of_float32(trained, precision, compute, tmp_path):
    images = draw_scenes(256, image_size=SIDE, seed=1).images
    mixed = trained.with_precision(precision)
    assert {layer.compute_dtype for layer in mixed.backbone.layers if layer.weights} == {compute}
    assert {variable.dtype for variable in mixed.variables} == {"float32"}
    assert mixed.logits(images).dtype == mixed(images).dtype == tf.float32
    expected, bits = (model.logits(images).numpy() >= 0 for model in (trained, mixed))
    assert 0.3 < expected.mean() < 0.7 and (expected == bits).mean() >= 0.99
    assert np.abs(trained.logits(images) - mixed.logits(images)).max() > 0  # it did compute in 16 bits
    mixed.save(tmp_path / "mixed.keras")
    loaded = keras.saving.load_model(tmp_path / "mixed.keras", safe_mode=True)
    assert loaded.precision == precision
    np.testing.assert_array_equal(loaded.logits(images), mixed.logits(images))
    np.testing.assert_array_equal(mixed.with_precision("float32").logits(images), trained.logits(images))


def test_a_purified_model_has_the_precision_of_its_encoder(trained, scenes):
    model = PurifiedModel.from_parts(Purifier(), trained.with_precision("mixed_bfloat16"))
    assert model.precision == "mixed_bfloat16" and model.purifier.compute_dtype == "float32"
    assert model.with_precision("float32").logits(scenes.images[:2]).dtype == tf.float32


def test_keras_global_policy_is_neither_changed_nor_followed():
    before = keras.config.dtype_policy()
    with pytest.raises(ValueError, match=r"precision.*Received: 'float16'"):
        HashingModel("small_cnn", BITS, SIDE, precision="float16")
    with pytest.raises(ValueError, match="small_cnn needs"):
        HashingModel("small_cnn", BITS, 8, precision="mixed_float16")
    HashingModel("small_cnn", BITS, SIDE, precision="mixed_float16")
    assert keras.config.dtype_policy() is before
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = HashingModel("small_cnn", BITS, SIDE)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    assert {layer.compute_dtype for layer in [model, *model._flatten_layers()]} == {"float32"}


def plain_slopes(encoder, images, goal):
    with tf.GradientTape() as tape:
        tape.watch(images)
        gain = alignment(encoder(images, alpha=0.1), goal)
    return tape.gradient(gain, images).numpy()


def test_the_attack_loses_no_slopes_in_half_precision_and_changes_none_in_float32():
    keras.utils.set_random_seed(0)
    single = HashingModel("small_cnn", 64, 64)
    half = single.with_precision("mixed_float16")
    images = tf.constant(draw_scenes(4, image_size=64, seed=2).images)
    goal = -tf.sign(single.logits(images))

    def slopes(encoder):
        found = gain_and_slopes(lambda x: encoder(x, alpha=0.1), alignment, images, goal)[1].numpy()
        assert found.dtype == np.float32
        return found

    expected, plain, scaled = plain_slopes(single, images, goal), plain_slopes(half, images, goal), slopes(half)
    np.testing.assert_array_equal(slopes(single), expected)
    lost, lost_scaled = ((other == 0).mean() for other in (plain, scaled))
    assert (expected == 0).mean() == 0 and lost > 1e-3
    # What is left are sums whose halves cancel, more or fewer by the order in which a processor adds them.
    assert lost_scaled < lost / 10
    changed, changed_scaled = ((np.sign(other) != np.sign(expected)).mean() for other in (plain, scaled))
    assert changed_scaled < changed
    # Large slopes do not overflow: the scale follows what the objective gives.
    steep = gain_and_slopes(lambda x: half(x), lambda h, t: 1e4 * alignment(h, t), images, goal)[1].numpy()
    assert np.isfinite(steep).all()


@pytest.mark.usefixtures("tiny_small_cnn")
def test_a_step_that_overflows_is_skipped_and_halves_the_scale(scenes):
    keras.utils.set_random_seed(0)
    encoder = HashingModel("small_cnn", BITS, SIDE, precision="mixed_float16")
    saat = SAAT(encoder, CodeBank.from_labels(scenes.labels, BITS), DPH(), num_steps=1)
    saat.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    saat.optimizer.build(saat.trainable_variables)
    split = array_split(scenes.images, scenes.labels)
    saat.fill_bank(evaluation_batches(split, 64))
    saat.make_train_function()
    scale = saat.optimizer.dynamic_scale
    state = {id(variable) for variable in saat.training_state()}
    assert {id(scale), id(saat.optimizer.step_counter)} <= state and len(state) == len(saat.training_state())

    def step(by):
        scale.assign(by)
        before = [weight.numpy() for weight in saat.trainable_variables]
        logs = saat.train_function(iter(training_batches(split, 32, seed=0)))
        assert all(np.isfinite(float(value)) for value in logs.values())
        changed = [(weight.numpy() != old).any() for weight, old in zip(saat.trainable_variables, before, strict=True)]
        return changed, float(scale.numpy())

    changed, after = step(2.0**40)
    assert not any(changed) and after == 2.0**39 and int(saat.optimizer.iterations.numpy()) == 0
    changed, after = step(2.0**10)
    assert all(changed) and after == 2.0**10 and int(saat.optimizer.iterations.numpy()) == 1


def test_only_half_precision_scales_losses(scenes):
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        encoder = HashingModel("small_cnn", BITS, SIDE, precision=precision)
        training = HashingTraining(encoder, CodeBank.from_labels(scenes.labels, BITS), DPH())
        training.compile("sgd")
        is_scaled = isinstance(training.optimizer, keras.optimizers.LossScaleOptimizer)
        assert is_scaled == (precision == "mixed_float16")
