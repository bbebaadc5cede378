"""Adversarial training of a classifier, whose backbone is what remains."""

import keras
import tensorflow as tf

from saat_tf.models.classifier import Classifier
from saat_tf.models.crafting import Crafting


@keras.saving.register_keras_serializable(package="saat_tf")
class AdversarialClassifier(Crafting):
    """Train a classifier on adversarial images: min_w max_{|x' - x| <= epsilon} -log p_y(x'; w).

    For each batch (x, y, index):

        1. x' = the inner attack, up the cross-entropy -log p_y(x')
        2. L = mean(-log p_y(x')), one optimizer step

    The inner attacks raise mean_k h_k t_k. With h = log p and t = -onehot(y) that is the cross-entropy over C, so they
    are those of the hashing models, as they are. Fit it on a data set of (images, class numbers, index).

    Args:
        encoder: the classifier to train.
        inner: how images are crafted: one of `saat_tf.models.inner`.
        **options: those of `Crafting`: epsilon, inner_training and seed.

    Example:
        >>> from saat_tf.models.inner import NFGSM
        >>> training = AdversarialClassifier(Classifier("small_cnn", num_classes=3, image_size=32), inner=NFGSM())
        >>> training.compile(optimizer="sgd")

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, equation 2.1.
        Salman et al., "Do Adversarially Robust ImageNet Models Transfer Better?", NeurIPS 2020.
    """

    LOSSES = ("loss", "adversarial_accuracy")

    encoder: Classifier

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict:
        """Do one step on (images (B, S, S, 3), class numbers int32 (B,), index (B,))."""
        images, classes, index = data
        labels = tf.one_hot(classes, self.encoder.num_classes)
        adversarial_images = self.perturb(images, -labels, index)
        with tf.GradientTape() as tape:
            tape.watch(adversarial_images)
            log_probabilities = self.encoder(adversarial_images, training=True)
            loss = -tf.reduce_mean(tf.reduce_sum(labels * log_probabilities, axis=1))
        self.learn(tape, loss, images, adversarial_images)
        hits = tf.cast(tf.argmax(log_probabilities, axis=1, output_type=classes.dtype) == classes, tf.float32)
        return self.report(images, loss=loss, adversarial_accuracy=tf.reduce_mean(hits))
