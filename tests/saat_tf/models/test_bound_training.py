"""Training by interval bounds: the bounds, the ramp, the loss, and that it certifies more than before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.certify.intervals import pixel_box, propagate
from saat_tf.certify.network import network_bits
from saat_tf.certify.rules import network_steps
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import BoundTraining, HashingModel
from saat_tf.models.bound_training import bound_loss, bounded_logits, initialize_for_bounds

LABELS = np.eye(2, dtype=np.float32)[np.arange(16) % 2]
# Bright or dark: what one convolution can hash.
IMAGES = (0.25 + 0.5 * LABELS[:, :1, None, None] + np.random.default_rng(0).uniform(-0.1, 0.1, (16, 4, 4, 3))).astype(
    np.float32
)
EPSILON = 4 / 255


def encoder(batch_norm=True):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4, 4, 3)), keras.layers.Conv2D(4, 3, use_bias=not batch_norm)]
    layers += [keras.layers.BatchNormalization(momentum=0.9)] if batch_norm else []
    return HashingModel(keras.Sequential([*layers, keras.layers.ReLU(), keras.layers.Flatten()]), 8)


def training(**options):
    bank = CodeBank.from_labels(LABELS, 8)
    model = BoundTraining(encoder(), bank, DPH(), **{"epsilon": EPSILON, "num_steps": 1, **options})
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    return model


def batches():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, np.arange(16))).batch(16)


def test_bounds_in_training_are_those_of_the_certificate_with_the_statistics_of_the_batch():
    model = encoder()
    images = tf.constant(IMAGES)
    logits, box, _ = bounded_logits(model, images, EPSILON)
    norm = model.backbone.layers[1]
    mean, variance = tf.nn.moments(model.backbone.layers[0](model.pixel_normalization(images)), [0, 1, 2])
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
    expected = propagate(network_steps(model), pixel_box(IMAGES, EPSILON))[-1]
    np.testing.assert_allclose(box.low, expected.low, atol=1e-3)
    np.testing.assert_allclose(box.high, expected.high, atol=1e-3)
    np.testing.assert_allclose(logits, model.logits(images), atol=1e-4)
    point = bounded_logits(model, images, 0.0)[1]
    np.testing.assert_allclose(point.low, point.high, atol=1e-5)


def test_the_loss_is_that_of_the_worst_logit():
    box = propagate(network_steps(encoder()), pixel_box(IMAGES[:2], EPSILON))[-1]
    targets = np.float64([[1, -1] * 4, [-1, 1] * 4])
    worst = np.minimum(targets * box.low.numpy(), targets * box.high.numpy())
    assert float(bound_loss(box, targets)) == pytest.approx(np.log1p(np.exp(-worst)).mean())


def test_the_radius_grows_and_then_stays():
    model = training(ramp_steps=4)
    found = []
    for step in range(6):
        model.optimizer.iterations.assign(step)
        found.append(float(model.radius()) / EPSILON)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert float(training().radius()) == pytest.approx(EPSILON)


def test_kernels_are_drawn_as_suits_bounds():
    model = HashingModel("small_cnn", 8, 16)
    initialize_for_bounds(model, seed=0)
    kernel = model.backbone.get_layer("stage2_conv1").kernel.numpy()
    assert kernel.std() == pytest.approx((2 * np.pi) ** 0.5 / (9 * 96), rel=0.02)
    before = kernel.copy()
    initialize_for_bounds(model, seed=0)
    np.testing.assert_array_equal(before, model.backbone.get_layer("stage2_conv1").kernel)
    assert not model.hash_head.projection.bias.numpy().any()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_training_certifies_bits_and_keeps_the_bank(share):
    model = training(bound_share=share, ramp_steps=10, from_scratch=True, adversarial_weight=10.0)
    model.prepare(batches())
    codes = model.code_bank.codes.numpy().copy()
    history = model.fit(batches(), epochs=30, verbose=0).history
    certified = network_bits(model.encoder, IMAGES, EPSILON)
    assert certified.mean() > 0.9
    assert history["bound_loss"][-1] < history["bound_loss"][0]
    np.testing.assert_array_equal(model.code_bank.codes, codes)
    bits = model.encoder.logits(tf.constant(IMAGES)).numpy() >= 0
    np.testing.assert_array_equal(bits, model.target_codes(tf.constant(LABELS)).numpy() > 0)


@pytest.mark.slow
def test_it_is_saved_with_its_options(tmp_path):
    model = training(bound_share=0.7, ramp_steps=3, from_scratch=True)
    model.fit(batches(), verbose=0)
    model.save(tmp_path / "training.keras")
    copy = keras.saving.load_model(tmp_path / "training.keras")
    assert (copy.bound_share, copy.ramp_steps, copy.from_scratch) == (0.7, 3, True)
    np.testing.assert_array_equal(copy.encoder.encode(IMAGES), model.encoder.encode(IMAGES))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bound_share": 0.0}, r"`bound_share` must be in \(0, 1\]"), ({"ramp_steps": -1}, "`ramp_steps` at least 0")],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training(**options)


def test_an_encoder_without_rules_is_refused():
    model = HashingModel(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.LeakyReLU(name="leaky")]), 8)
    with pytest.raises(ValueError, match=r"'leaky' .LeakyReLU. has no rule"):
        BoundTraining(model, CodeBank.from_labels(LABELS, 8), DPH())
