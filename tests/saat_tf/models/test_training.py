"""Hashing training and SAAT as Keras models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.data import array_split, draw_scenes, evaluation_batches, training_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DPH
from saat_tf.models import SAAT, HashingModel, HashingTraining

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

BITS = 16


@pytest.fixture(scope="module")
def split():
    scenes = draw_scenes(48, image_size=16, seed=3)
    return array_split(scenes.images, scenes.labels)


def make(kind, split, loss=None, backbone="small_cnn", image_size=16, **options):
    keras.utils.set_random_seed(1)
    encoder = HashingModel(backbone, BITS, image_size)
    return kind(encoder, CodeBank.from_labels(split.labels, BITS), loss or DPH(), **options)


def first_batch(split, size=12):
    return next(iter(evaluation_batches(split, size)))


def mainstay_by_hand(labels, codes, bank_labels):
    """The direct formula, item by item, in float64."""
    rows = []
    for y in labels:
        shared = bank_labels @ y
        norm = np.linalg.norm(bank_labels, axis=1) * np.linalg.norm(y)
        w, n = np.divide(shared, norm, out=np.zeros(len(codes)), where=norm > 0), (shared == 0).astype(float)
        score = (w @ codes) / w.sum() if w.sum() else 0
        score = score - ((n @ codes) / n.sum() if n.sum() else 0)
        rows.append(np.where(score >= -1e-12, 1.0, -1.0))
    return np.array(rows)


@pytest.mark.slow
def test_hashing_training_lowers_its_loss(split):
    training = make(HashingTraining, split)
    training.compile(optimizer=keras.optimizers.Adam(3e-3))
    history = training.fit(training_batches(split, 16, seed=0), epochs=20, shuffle=False, verbose=0).history
    assert history["hashing_loss"][-1] < 0.9 * history["hashing_loss"][0]


def test_fill_bank_holds_the_codes_of_inference(split):
    training = make(HashingTraining, split)
    training.fill_bank(evaluation_batches(split, 20))
    images = np.stack([split.load(i) for i in range(len(split))])
    np.testing.assert_allclose(training.code_bank.codes, training.encoder(images), atol=1e-5)


def test_a_saat_step_computes_the_three_part_loss_of_the_paper(split):
    saat = make(SAAT, split, num_steps=2, adversarial_weight=0.7, quantization_weight=0.3, inner_training="inference")
    saat.compile(optimizer=keras.optimizers.SGD(0.0))
    saat.fill_bank(evaluation_batches(split, 48))
    images, labels, index = first_batch(split)

    bank = saat.code_bank.codes.numpy()
    sign = np.where(bank >= 0, 1.0, -1.0)
    first_mainstay = mainstay_by_hand(labels.numpy(), sign, split.labels)
    adversarial_images = saat.perturb(images, tf.constant(-first_mainstay, tf.float32))
    statistics = [v.numpy() for v in saat.encoder.non_trainable_variables]
    h_adv = saat.encoder(adversarial_images, training=True).numpy()
    h = saat.encoder(images, training=True).numpy()
    for variable, value in zip(saat.encoder.non_trainable_variables, statistics, strict=True):
        variable.assign(value)
    bank[index.numpy()] = h
    mainstay = mainstay_by_hand(labels.numpy(), np.where(bank >= 0, 1.0, -1.0), split.labels)
    relevant = (labels.numpy() @ split.labels.T > 0).astype(float)
    hashing = np.mean((h @ bank.T / BITS - (2 * relevant - 1)) ** 2)
    adversarial = -np.mean(h_adv * mainstay)
    quantization = np.mean((h_adv - np.where(h_adv >= 0, 1, -1)) ** 2)

    logs = {name: float(value) for name, value in saat.train_step((images, labels, index)).items()}
    assert logs["hashing_loss"] == pytest.approx(hashing, abs=1e-4)
    assert logs["adversarial_loss"] == pytest.approx(adversarial, abs=1e-4)
    assert logs["quantization_loss"] == pytest.approx(quantization, abs=1e-4)
    assert logs["loss"] == pytest.approx(hashing + 0.7 * adversarial + 0.3 * quantization, abs=1e-4)
    np.testing.assert_allclose(saat.code_bank.codes.numpy(), bank, atol=1e-5)


def test_a_saat_step_moves_weights_and_the_bank_rows_of_its_batch_alone(split):
    saat = make(SAAT, split, num_steps=2)
    saat.compile(optimizer=keras.optimizers.SGD(0.1))
    before = [w.numpy() for w in saat.encoder.trainable_variables]
    images, labels, index = first_batch(split)
    saat.train_step((images, labels, index))
    assert all(np.abs(w.numpy() - b).max() > 0 for w, b in zip(saat.encoder.trainable_variables, before, strict=True))
    touched = np.abs(saat.code_bank.codes.numpy()).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(touched), index.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("inner_training", ["training", "inference"])
@pytest.mark.parametrize(("backbone", "image_size"), [("small_cnn", 16), ("alexnet", 64)])
def test_the_inner_attack_changes_no_weight_statistic_table_or_counter(split, inner_training, backbone, image_size):
    saat = make(SAAT, split, num_steps=2, inner_training=inner_training, backbone=backbone, image_size=image_size)
    saat.compile(optimizer="sgd")
    before = [v.numpy() for v in saat.variables]
    images = tf.random.stateless_uniform((4, image_size, image_size, 3), (0, 1))
    perturbed = tf.function(saat.perturb)(images, tf.ones((4, BITS)))
    assert np.abs(perturbed - images).max() > 0
    for variable, value in zip(saat.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_adversarial_images_are_worse_than_noise_of_the_same_size(split):
    saat = make(SAAT, split, num_steps=7, inner_training="inference")
    saat.compile(optimizer="sgd")
    images, _, _ = first_batch(split, 24)
    codes = tf.sign(saat.encoder(images))
    noise = saat.threat_model.random_start(images, tf.constant([5, 6]))

    def agreement(x):
        return float(tf.reduce_mean(saat.encoder(x) * codes))

    assert agreement(saat.perturb(images, -codes)) < agreement(noise) - 0.01


@pytest.mark.slow
def test_the_random_start_is_new_in_each_step_and_repeats_with_the_seed(split):
    def perturbed(seed, iterations):
        saat = make(SAAT, split, num_steps=1, seed=seed)
        saat.compile(optimizer="sgd")
        saat.optimizer.iterations.assign(iterations)
        return saat.perturb(first_batch(split)[0], tf.ones((12, BITS))).numpy()

    np.testing.assert_array_equal(perturbed(0, 3), perturbed(0, 3))
    assert np.abs(perturbed(0, 3) - perturbed(0, 4)).max() > 0
    assert np.abs(perturbed(0, 3) - perturbed(1, 3)).max() > 0


@pytest.mark.slow
def test_saat_fits_saves_and_loads_like_any_keras_model(split, tmp_path):
    saat = make(SAAT, split, CSQ(10, BITS), num_steps=2, epsilon=4 / 255, inner_training="inference", seed=5)
    saat.compile(optimizer=keras.optimizers.Adam(1e-3))
    saat.fill_bank(evaluation_batches(split, 48))
    stops = keras.callbacks.EarlyStopping("loss", patience=5)
    history = saat.fit(
        training_batches(split, 20, seed=0), epochs=2, shuffle=False, verbose=0, callbacks=[stops]
    ).history
    assert set(history) == {"loss", "hashing_loss", "adversarial_loss", "quantization_loss"}

    saat.save(tmp_path / "saat.keras")
    loaded = keras.saving.load_model(tmp_path / "saat.keras", safe_mode=True)
    assert loaded.get_config() == saat.get_config()
    for ours, theirs in zip(saat.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_array_equal(loaded.code_bank.codes, saat.code_bank.codes)
    more = [m.fit(evaluation_batches(split, 20), shuffle=False, verbose=0).history["loss"] for m in (saat, loaded)]
    assert more[0] == pytest.approx(more[1], rel=1e-4)


@pytest.mark.slow
def test_weights_of_a_saat_model_return_from_a_checkpoint(split, tmp_path):
    saat, other = make(SAAT, split, num_steps=1), make(SAAT, split, num_steps=1)
    for model in (saat, other):
        model.compile(optimizer="sgd")
    saat.fit(evaluation_batches(split, 24), shuffle=False, verbose=0)
    saat.save_weights(tmp_path / "saat.weights.h5")
    assert np.abs(saat.code_bank.codes.numpy() - other.code_bank.codes.numpy()).max() > 0
    other.load_weights(tmp_path / "saat.weights.h5")
    for ours, theirs in zip(saat.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_training": "eval"}, "inner_training"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"num_steps": 0}, "num_steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
    ],
)
def test_options_out_of_range_are_refused(split, options, message):
    with pytest.raises(ValueError, match=message):
        make(SAAT, split, **options)


def test_encoder_and_bank_of_different_lengths_are_refused(split):
    with pytest.raises(ValueError, match="16 and 8 bits"):
        SAAT(HashingModel("small_cnn", 16, 16), CodeBank.from_labels(split.labels, 8), DPH())
