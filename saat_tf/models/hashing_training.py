"""Plain hashing training: the model that SAAT starts from, and compares with."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import HashingLoss
from saat_tf.models.code_training import CodeTraining
from saat_tf.models.hashing_model import HashingModel


@keras.saving.register_keras_serializable(package="saat_tf")
class HashingTraining(CodeTraining):
    """Train an encoder on a hashing loss, keeping the bank up to date.

    Fit it on a data set of (images, labels, index). `encoder` is what remains.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set.
        hashing_loss: the loss to minimize.

    Example:
        >>> import numpy as np
        >>> from saat_tf.losses import DPH
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> training = HashingTraining(encoder, CodeBank.from_labels(np.eye(4), code_length=16), DPH())
        >>> training.compile(optimizer="sgd")
    """

    LOSSES: tuple[str, ...] = ("hashing_loss",)

    def __init__(self, encoder: HashingModel, code_bank: CodeBank, hashing_loss: HashingLoss, **kwargs: Any) -> None:
        super().__init__(encoder, code_bank, hashing_loss, **kwargs)

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on images (B, S, S, 3), labels (B, C) and index (B,)."""
        with tf.GradientTape() as tape:
            relaxed_codes = self.encoder(images, alpha=self.hashing_loss.alpha(), training=True)
            self.code_bank.update(index, relaxed_codes)
            loss = self.hashing_loss(relaxed_codes, labels, code_bank=self.code_bank)
        self.descend(tape, loss, images)
        return self.report(images, hashing_loss=loss)
