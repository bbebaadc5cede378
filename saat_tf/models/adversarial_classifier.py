"""Adversarial training of a classifier, whose backbone is what remains."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.labels import checked_classes
from saat_tf.models.adversarial_step import AdversarialStep
from saat_tf.models.classifier import Classifier


@keras.saving.register_keras_serializable(package="saat_tf")
class AdversarialClassifier(AdversarialStep):
    """Train a classifier on adversarial images: min_w max_{|x' - x| <= epsilon} -log p_y(x'; w).

    For each batch (x, y, index):

        1. x' = the inner attack, up the cross-entropy -log p_y(x')
        2. x' <- x + s (x' - x), s = min(1, step / ramp_steps), which grows from step to step
        3. L = mean(-log p_y(x')), one optimizer step

    The inner attacks raise mean_k h_k t_k. With h = log p and t = -onehot(y) that is the cross-entropy over C, so they
    are those of the hashing models, as they are. Fit it on images and class numbers, with an index or without.

    Args:
        encoder: the classifier to train.
        inner: the inner attack: one of `saat_tf.models.inner`.
        ramp_steps: steps until perturbations have their whole size; 0 for the whole size from the first step. A network
            that was not trained against attacks can end in a constant answer where they have their whole size at once.
        **options: those of `AdversarialStep`: epsilon, inner_training and seed.

    Raises:
        ValueError: `ramp_steps` is negative.

    Example:
        >>> from saat_tf.models.inner import NFGSM
        >>> training = AdversarialClassifier(Classifier("small_cnn", num_classes=3, image_size=32), inner=NFGSM())
        >>> training.compile(optimizer="sgd")

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, equation 2.1.
        Salman et al., "Do Adversarially Robust ImageNet Models Transfer Better?", NeurIPS 2020.
    """

    LOSSES: tuple[str, ...] = ("loss", "adversarial_accuracy")

    encoder: Classifier

    def __init__(self, encoder: Classifier, *, ramp_steps: int = 0, **options: Any) -> None:
        super().__init__(encoder, **options)
        if ramp_steps < 0:
            raise ValueError(f"`ramp_steps` must be at least 0. Received: {ramp_steps}.")
        self.ramp_steps = ramp_steps

    def learn_batch(self, images: tf.Tensor, classes: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on images (B, S, S, 3) of the class numbers `classes`, int32 (B,)."""
        labels = tf.one_hot(classes, self.encoder.num_classes)
        adversarial_images = self.ramped(self.perturb(images, -labels, index), images)
        with tf.GradientTape() as tape:
            tape.watch(adversarial_images)
            losses = self.step_losses(self.encoder(adversarial_images, training=True), classes)
        self.learn(tape, losses["loss"], images, adversarial_images)
        return self.report(images, **losses)

    def test_batch(self, images: tf.Tensor, classes: tf.Tensor) -> dict:
        """Report loss and accuracy of images (B, S, S, 3) of int32 `classes` (B,), attacked by `perturb_to_test`."""
        labels = tf.one_hot(classes, self.encoder.num_classes)
        log_probabilities = self.encoder(self.perturb_to_test(images, -labels), training=False)
        return self.report(images, **self.step_losses(log_probabilities, classes))

    def step_losses(self, log_probabilities: tf.Tensor, classes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the cross-entropy and the accuracy of float (B, C) for int32 `classes` (B,)."""
        labels = tf.one_hot(classes, self.encoder.num_classes)
        loss = -tf.reduce_mean(tf.reduce_sum(labels * log_probabilities, axis=1))
        hits = tf.cast(tf.argmax(log_probabilities, axis=1, output_type=classes.dtype) == classes, tf.float32)
        return {"loss": loss, "adversarial_accuracy": tf.reduce_mean(hits)}

    def checked_targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Return class numbers as int32 (B,), or raise `ValueError` where they are others."""
        return checked_classes(labels, self.encoder.num_classes)

    def ramped(self, adversarial_images: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Return x + s (x' - x), where s is the share of their whole size that this step's perturbations have."""
        if not self.ramp_steps:
            return adversarial_images
        step = tf.cast(self.optimizer.iterations, tf.float32) + 1.0
        return images + tf.minimum(step / self.ramp_steps, 1.0) * (adversarial_images - images)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "ramp_steps": self.ramp_steps}
