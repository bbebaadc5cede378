"""Adversarial classification: its attack climbs the cross-entropy, its step descends it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import alignment
from saat_tf.models import AdversarialClassifier, Classifier
from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free, Steps
from saat_tf.threat_model import ThreatModel

SIZE, CLASSES, BATCH, EPSILON = 16, 3, 4, 8 / 255


@pytest.fixture
def batch():
    draw = np.random.default_rng(0)
    images = draw.random((BATCH, SIZE, SIZE, 3), np.float32)
    return tf.constant(images), tf.constant([0, 2, 1, 2]), tf.range(BATCH, dtype=tf.int64)


def training_of(inner, **options):
    keras.utils.set_random_seed(0)
    training = AdversarialClassifier(Classifier("small_cnn", CLASSES, SIZE), inner=inner, epsilon=EPSILON, **options)
    training.compile(optimizer=keras.optimizers.SGD(0.1))
    training.optimizer.build(training.trainable_variables)
    return training


def cross_entropy(classifier, images, classes, training=False):
    """By Keras, of the logits."""
    logits = classifier.head(classifier.features(images, training))
    return keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)


def test_log_probabilities_are_those_of_the_linear_head(batch):
    classifier = training_of(NFGSM()).encoder
    kernel, bias = (weight.numpy().astype(np.float64) for weight in classifier.head.weights)
    logits = classifier.features(batch[0]).numpy() @ kernel + bias
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(classifier(batch[0]), expected, atol=1e-5)


def test_alignment_with_minus_the_label_is_the_cross_entropy_over_the_classes(batch):
    images, classes, _ = batch
    classifier = training_of(NFGSM()).encoder
    gain = alignment(classifier(images), -tf.one_hot(classes, CLASSES))
    np.testing.assert_allclose(gain * CLASSES, cross_entropy(classifier, images, classes), rtol=1e-5)


def test_n_fgsm_takes_one_step_up_the_cross_entropy(batch):
    images, classes, index = batch
    training = training_of(NFGSM(), inner_training="inference")
    perturbed = training.perturb(images, -tf.one_hot(classes, CLASSES), index)
    noisy = ThreatModel(2 * EPSILON).random_start(images, training.step_seed())
    with tf.GradientTape() as tape:
        tape.watch(noisy)
        loss = cross_entropy(training.encoder, noisy, classes)
    slopes = tape.gradient(loss, noisy).numpy()
    expected = np.clip(noisy + EPSILON * np.sign(slopes), 0, 1)
    clear = np.abs(slopes) > 1e-6 * np.abs(slopes).max()  # of others rounding decides the sign
    np.testing.assert_allclose(perturbed.numpy()[clear], expected[clear], atol=1e-6)
    assert clear.mean() > 0.99


def test_a_step_descends_the_cross_entropy_of_the_perturbed_images(batch):
    images, classes, _ = batch
    training, twin = (training_of(NFGSM()) for _ in range(2))
    perturbed = twin.perturb(images, -tf.one_hot(classes, CLASSES), batch[2])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(twin.encoder, perturbed, classes, training=True))
    slopes = tape.gradient(loss, twin.encoder.trainable_variables)
    expected = [
        v.numpy() - 0.1 * slope.numpy() for v, slope in zip(twin.encoder.trainable_variables, slopes, strict=True)
    ]
    found = training.train_step(batch)
    for variable, value in zip(training.encoder.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-5, err_msg=variable.path)
    for variable, other in zip(
        training.encoder.non_trainable_variables, twin.encoder.non_trainable_variables, strict=True
    ):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-6, err_msg=variable.path)
    assert float(found["loss"]) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(("step", "share"), [(0, 0.25), (1, 0.5), (3, 1.0), (7, 1.0)])
def test_perturbations_grow_to_their_whole_size(batch, step, share):
    training = training_of(NFGSM(), ramp_steps=4)
    training.optimizer.iterations.assign(step)
    images = batch[0]
    perturbed = np.clip(images + EPSILON, 0, 1)
    expected = images + share * (perturbed - images)
    np.testing.assert_allclose(training.ramped(perturbed, images), expected, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "inner",
    [
        Steps(num_steps=2, step_size=4 / 255),
        NFGSM(),
        YOPO(step_size=2 / 255),
        Free(batch_size=BATCH, image_size=SIZE),
        FGSMPrior(num_items=BATCH, image_size=SIZE),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_every_inner_attack_of_the_hashing_models_trains_a_classifier(batch, inner):
    training = training_of(inner)
    training.make_train_function()
    batches = tf.data.Dataset.from_tensors(batch).repeat(60)
    iterator = iter(batches)
    losses = []
    for _ in range(60):
        training.reset_metrics()
        losses.append(float(training.train_function(iterator)["loss"]))
    assert losses[-1] < 0.2 * losses[0]  # four images are memorized, whatever is done to them within the ball
    assert float(training.metrics[1].result()) == 1.0


def test_a_training_model_is_made_again_from_its_configuration(batch):
    training = training_of(NFGSM(), inner_training="inference", seed=5)
    again = AdversarialClassifier.from_config(training.get_config())
    assert (again.inner, again.inner_training, again.seed) == (NFGSM(), "inference", 5)
    assert again.threat_model == training.threat_model and again.encoder.num_classes == CLASSES


def test_a_negative_ramp_is_refused():
    with pytest.raises(ValueError, match=r"at least 0. Received: -1"):
        training_of(NFGSM(), ramp_steps=-1)


@pytest.mark.parametrize("num_classes", [0, 1])
def test_less_than_two_classes_are_refused(num_classes):
    with pytest.raises(ValueError, match=rf"at least 2. Received: {num_classes}"):
        Classifier("small_cnn", num_classes, SIZE)
