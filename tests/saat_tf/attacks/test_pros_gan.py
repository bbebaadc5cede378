"""ProS-GAN: what every attack promises, its losses re-derived, its training and its saving."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks.pros_gan import ProSGAN
from saat_tf.attacks.pros_gan_networks import discriminator, generator
from saat_tf.attacks.prototype_fit import distinct_label_sets
from saat_tf.attacks.prototype_net import PrototypeNet
from saat_tf.data import draw_scenes
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import HashingModel, HashingTraining

pytestmark = pytest.mark.slow

BITS, SIDE, CLASSES = 16, 32, 10
EPSILON = 32 / 255


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(24, image_size=SIDE, seed=4)


@pytest.fixture(scope="module")
def hashing(scenes):
    """An encoder with the bank of its training."""
    keras.utils.set_random_seed(0)
    encoder = HashingModel("small_cnn", BITS, SIDE)
    training = HashingTraining(encoder, CodeBank.from_labels(scenes.labels, BITS), DPH())
    training.code_bank.update(tf.range(24), encoder(scenes.images))
    return training


def make(hashing, labels, **options):
    keras.utils.set_random_seed(1)
    gan = ProSGAN.from_labels(hashing.encoder, PrototypeNet(CLASSES, BITS, seed=2), labels, width=8, **options)
    gan.compile(keras.optimizers.Adam(3e-3, beta_1=0.5))
    return gan


@pytest.fixture(scope="module")
def untrained(hashing, scenes):
    return make(hashing, scenes.labels)


@pytest.fixture(scope="module")
def stepping(hashing, scenes):
    """One whose single steps are looked at, whatever its weights have come to."""
    return make(hashing, scenes.labels, reconstruction_weight=20.0, seed=7)


@pytest.fixture(scope="module")
def targets(scenes):
    return np.roll(scenes.labels, 5, axis=0)


def batches(scenes):
    return tf.data.Dataset.from_tensor_slices((scenes.images, scenes.labels, np.arange(24))).batch(12)


def agreement(hashing, gan, images, targets):
    """How far relaxed codes agree with the prototype codes of the targets, in [-1, 1]."""
    return float(np.mean(hashing.encoder(images).numpy() * gan.prototype_net.prototype_codes(targets).numpy()))


@pytest.fixture(scope="module")
def trained(hashing, scenes, targets):
    """A fitted GAN, with the state of what it must not change, and the agreement, from before."""
    gan = make(hashing, scenes.labels, epsilon=EPSILON, reconstruction_weight=0.0)
    still = [*hashing.encoder.variables, *hashing.code_bank.variables, *gan.prototype_net.variables]
    before = [variable.numpy() for variable in still]
    start = agreement(hashing, gan, gan.attack(hashing.encoder, scenes.images, targets), targets)
    history = gan.fit(batches(scenes), epochs=15, shuffle=False, verbose=0).history
    return gan, still, before, start, history


def test_training_raises_the_agreement_with_the_targets(trained, hashing, scenes, targets):
    gan, _, _, start, history = trained
    images = gan.attack(hashing.encoder, scenes.images, targets)
    assert agreement(hashing, gan, images, targets) > start + 0.05
    assert agreement(hashing, gan, images, targets) > agreement(hashing, gan, images, np.roll(targets, 7, axis=0))
    assert history["hashing_loss"][-1] < history["hashing_loss"][0]
    assert set(history) == {"loss", "hashing_loss", "reconstruction_loss", "realism_loss", "discriminator_loss"}


def test_training_changes_neither_encoder_nor_bank_nor_prototypes(trained, hashing):
    _, still, before, _, _ = trained
    assert {v.path.split("/")[-1] for v in hashing.encoder.non_trainable_variables} >= {"moving_mean"}
    for variable, value in zip(still, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert hashing.encoder.trainable
    assert hashing.encoder.trainable_variables


def test_the_discriminator_trains_in_every_third_step_with_the_rate_of_the_generator(trained):
    gan = trained[0]
    assert gan.optimizer.iterations.numpy() == 30
    assert gan.discriminator_optimizer.iterations.numpy() == 10
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(3e-3)


def test_a_saved_gan_attacks_the_same_and_brings_back_both_optimizers(trained, scenes, targets, tmp_path):
    gan = trained[0]
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras", safe_mode=True)
    assert loaded.get_config() == gan.get_config()
    result = loaded.attack(loaded.encoder, scenes.images, targets)
    np.testing.assert_array_equal(result, gan.attack(gan.encoder, scenes.images, targets))
    states = [[*g.variables, *g.optimizer.variables, *g.discriminator_optimizer.variables] for g in (gan, loaded)]
    for ours, theirs in zip(*states, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_what_is_returned_is_in_the_ball_and_in_the_pixel_range_and_reaches_both(untrained, scenes, targets):
    images = np.concatenate([scenes.images[:3], np.zeros((1, SIDE, SIDE, 3)), np.ones((1, SIDE, SIDE, 3))])
    images = images.astype(np.float32)
    last = untrained.generator.layers[-1]
    kernel = last.kernel.numpy()
    last.kernel.assign(1e4 * kernel)  # every direction is -1 or +1
    result = untrained.attack(None, images, targets[:5]).numpy()
    last.kernel.assign(kernel)
    assert result.shape == images.shape
    assert result.dtype == np.float32
    reach = np.abs(result.astype(np.float64) - images).max(axis=(1, 2, 3))
    np.testing.assert_allclose(reach, 8 / 255, atol=1e-6)
    untrained.threat_model.verify(result, images)


def test_the_result_depends_on_image_and_target_alone(untrained, hashing, scenes, targets):
    result = untrained.attack(hashing.encoder, scenes.images[:4], targets[:4], tf.constant([1, 2])).numpy()
    again = untrained.attack(None, scenes.images[:4], targets[:4], tf.constant([3, 4])).numpy()
    np.testing.assert_array_equal(result, again)
    alone = untrained.attack(None, scenes.images[2:3], targets[2:3]).numpy()
    np.testing.assert_allclose(alone, result[2:3], atol=1e-5)
    other = untrained.attack(None, scenes.images[:4], 1 - targets[:4]).numpy()
    assert np.abs(other - result).max() > 1e-4


def test_a_target_without_labels_and_one_that_no_training_item_has_serve(untrained, scenes):
    labels = np.stack([np.zeros(CLASSES), np.ones(CLASSES)])
    result = untrained.attack(None, scenes.images[:2], labels).numpy()
    untrained.threat_model.verify(result, scenes.images[:2])


def test_targets_are_the_label_sets_of_the_training_set_drawn_anew_in_each_step(stepping, scenes):
    def drawn(iterations, seed=7):
        stepping.optimizer.iterations.assign(iterations)
        stepping.seed = seed
        return stepping.draw_targets(1200).numpy()

    rows, counts = np.unique(drawn(0), axis=0, return_counts=True)
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in scenes.labels.tolist()}
    expected = 1200 / len(rows)
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected)).all()
    assert np.abs(drawn(0) - drawn(1)).max() > 0
    assert np.abs(drawn(0) - drawn(0, seed=8)).max() > 0
    np.testing.assert_array_equal(drawn(0), drawn(0))


def test_the_empty_set_is_no_target_and_a_set_counts_once():
    labels = np.float32([[1, 0], [0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(distinct_label_sets(labels), [[1, 0], [1, 1]])


def test_a_step_computes_the_losses_of_the_paper(stepping, hashing, scenes):
    gan = stepping
    gan.reset_metrics()
    gan.optimizer.iterations.assign(1)  # a step that leaves the discriminator as it is
    x, y = scenes.images[:4], scenes.labels[:4]
    t = gan.draw_targets(4)
    adversarial = gan(x, t).numpy()
    hashing_loss = 1 - np.mean(hashing.encoder(adversarial).numpy() * gan.prototype_net.prototype_codes(t).numpy())
    reconstruction = np.mean(((2 * adversarial - 1) - (2 * x - 1)) ** 2)
    scores = gan.discriminator(2 * adversarial - 1).numpy()
    realism = np.mean((scores - np.hstack([t, np.zeros((4, 1))])) ** 2)
    logs = {name: float(value) for name, value in gan.train_step((x, y, np.arange(4))).items()}
    assert logs["hashing_loss"] == pytest.approx(hashing_loss, abs=1e-5)
    assert logs["reconstruction_loss"] == pytest.approx(reconstruction, rel=1e-4)
    assert logs["realism_loss"] == pytest.approx(realism, rel=1e-4)
    assert logs["loss"] == pytest.approx(5 * hashing_loss + 20 * reconstruction + realism, rel=1e-4)
    assert logs["discriminator_loss"] == 0


def test_the_discriminator_learns_labels_and_what_is_made_up(stepping, scenes):
    gan = stepping
    gan.reset_metrics()
    gan.optimizer.iterations.assign(3)
    steps = int(gan.discriminator_optimizer.iterations)
    x, y, t = scenes.images[:4], scenes.labels[:4], scenes.labels[4:8]
    adversarial = gan(x, t).numpy()
    gan.judge(x, y, made_up=0.0, training=True)  # the first call divides out the spectral norm
    real, made_up = (gan.discriminator(2 * images - 1).numpy() for images in (x, adversarial))
    expected = np.mean((real - np.hstack([y, np.zeros((4, 1))])) ** 2) / 2
    expected += np.mean((made_up - np.hstack([t, np.ones((4, 1))])) ** 2) / 2
    gan.train_discriminator(x, y, adversarial, t)
    reported = float(gan.loss_means["discriminator_loss"].result())
    assert reported == pytest.approx(expected, rel=0.2)  # power iteration has gone on in between
    assert gan.discriminator_optimizer.iterations.numpy() == steps + 1


def test_against_an_encoder_in_mixed_precision_everything_else_is_float32(scenes, targets):
    encoder = HashingModel("small_cnn", BITS, SIDE, precision="mixed_float16")
    gan = ProSGAN.from_labels(encoder, PrototypeNet(CLASSES, BITS), scenes.labels, width=8)
    gan.compile(keras.optimizers.Adam(1e-3))
    assert encoder.backbone(scenes.images[:1]).dtype == tf.float16
    logs = gan.train_step((scenes.images[:4], scenes.labels[:4], np.arange(4)))
    assert all(np.isfinite(float(value)) for value in logs.values())
    result = gan.attack(encoder, scenes.images[:4], targets[:4])
    gan.threat_model.verify(result, scenes.images[:4])
    assert result.dtype == tf.float32
    assert np.abs(result - np.float16(result)).max() > 0
    assert {v.dtype for v in gan.variables if "encoder" not in v.path} == {"float32"}


def test_networks_have_the_published_sizes():
    big, small = generator(64), discriminator(64, num_classes=21)
    kernels = [tuple(w.shape) for w in big.weights if w.name == "kernel"]
    assert kernels[0] == (512, 128 * 4 * 4)  # 14 x 14 at the authors' 224 pixels
    residual = [(3, 3, 256, 256)] * 12
    growing = [(4, 4, 64, 128), (4, 4, 32, 64), (4, 4, 16, 32), (4, 4, 8, 16), (3, 3, 8, 3)]
    assert kernels[1:] == [
        *growing, (7, 7, 6, 64), (4, 4, 64, 128), (4, 4, 128, 256), *residual,
        (4, 4, 128, 256), (4, 4, 64, 128), (3, 3, 67, 3),
    ]  # fmt: skip
    widths = [3, 64, 128, 256, 512, 1024]
    assert [tuple(w.shape) for w in small.weights if w.name == "kernel"] == [
        *[(4, 4, a, b) for a, b in itertools.pairwise(widths)],
        (2, 2, 1024, 22),
    ]


@pytest.mark.parametrize(("side", "judged"), [(16, 1), (48, 2), (80, 3)])
def test_odd_sides_are_halved_to_what_remains(side, judged):
    network = discriminator(side, num_classes=3, width=8)
    assert network.layers[-2].kernel.shape[:2] == (judged, judged)
    assert network.output_shape == (None, 4)
    assert generator(side, width=8).output_shape == (None, side, side, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros((1, CLASSES)), r"uint8.*Divide uint8 pixels by 255"),
        (np.zeros((1, 31, 32, 3), np.float32), np.zeros((1, CLASSES)), "32, 32, 3"),
        (np.zeros((2, SIDE, SIDE, 3), np.float32), np.zeros((1, CLASSES)), "for 2 images"),
        (np.zeros((1, SIDE, SIDE, 3), np.float32), np.zeros((1, 9)), "one row of 10 classes"),
    ],
)
def test_bad_input_to_the_attack_is_refused(untrained, images, labels, message):
    with pytest.raises(ValueError, match=message):
        untrained.attack(None, images, labels)


@pytest.mark.parametrize(
    ("side", "bits", "labels", "options", "message"),
    [
        (40, BITS, np.eye(CLASSES), {}, r"multiple of 16 pixels.*image_size=40"),
        (40, BITS, np.eye(CLASSES), {}, "at 32 pixels"),
        (SIDE, 8, np.eye(CLASSES), {}, "8 and 16 bits"),
        (SIDE, BITS, np.eye(CLASSES), {"width": 12}, "multiple of 8"),
        (SIDE, BITS, np.eye(CLASSES), {"epsilon": 8}, "epsilon"),
        (SIDE, BITS, np.eye(CLASSES), {"reconstruction_weight": -1.0}, "reconstruction_weight"),
        (SIDE, BITS, np.eye(3), {}, r"\(items, 10\)"),
        (SIDE, BITS, np.zeros((3, CLASSES)), {}, "at least one label"),
    ],
)
def test_what_cannot_be_built_is_refused(side, bits, labels, options, message):
    with pytest.raises(ValueError, match=message):
        ProSGAN.from_labels(HashingModel("small_cnn", bits, side), PrototypeNet(CLASSES, 16), labels, **options)
