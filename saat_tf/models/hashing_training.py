"""Plain hashing training: the model that SAAT starts from, and compares with."""

import keras
import tensorflow as tf

from saat_tf.models.code_training import CodeTraining


@keras.saving.register_keras_serializable(package="saat_tf")
class HashingTraining(CodeTraining):
    """Train an encoder on a hashing loss, keeping the bank up to date.

    Call `adapt` with the training set, or construct it with a bank; `CodeTraining` says what `fit` takes. `encoder` is
    what remains.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: the loss to minimize; by default `DPH`.

    Example:
        >>> import numpy as np
        >>> from saat_tf import HashingModel
        >>> training = HashingTraining(HashingModel("small_cnn", code_length=16, image_size=16))
        >>> training.compile(optimizer="sgd")
        >>> images, labels = np.full((4, 16, 16, 3), 0.5, np.float32), np.eye(4)
        >>> training.adapt(images, labels)
        >>> sorted(training.fit(images, labels, verbose=0).history)
        ['hashing_loss', 'loss']
    """

    LOSSES = ("loss", "hashing_loss")

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on images (B, S, S, 3), labels (B, C) and index (B,)."""
        with tf.GradientTape() as tape:
            relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=True)
            self.code_bank.update(index, relaxed_codes)
            loss = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        self.descend(tape, loss, images)
        return self.report(images, loss=loss, hashing_loss=loss)

    def test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Report the loss of images (B, S, S, 3) with labels (B, C) against the bank."""
        relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=False)
        loss = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        return self.report(images, loss=loss, hashing_loss=loss)
