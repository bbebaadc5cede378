"""What the training models of codes share: a bank of codes and a hashing loss."""

import itertools
from typing import Any

import tensorflow as tf

from saat_tf.labels import LabeledFit
from saat_tf.layers import CodeBank
from saat_tf.losses import HashingLoss
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import distribute, whole_batch


class CodeTraining(LabeledFit, TrainingModel):
    """Base of `HashingTraining` and `AdversarialTraining`.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set.
        hashing_loss: the hashing loss.

    Raises:
        ValueError: encoder and bank differ in code length.
    """

    PARTS = ("encoder", "code_bank", "hashing_loss")

    def __init__(self, encoder: HashingModel, code_bank: CodeBank, hashing_loss: HashingLoss, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        if encoder.code_length != code_bank.code_length:
            raise ValueError(
                f"Encoder and code bank must have one code length. Received: {encoder.code_length} and "
                f"{code_bank.code_length} bits."
            )
        self.code_bank = code_bank
        self.hashing_loss = hashing_loss

    def prepare(self, dataset: tf.data.Dataset) -> None:
        """Fill the bank."""
        self.fill_bank(dataset)

    def fill_bank(self, dataset: tf.data.Dataset) -> None:
        """Set the bank to the encoder's codes, in inference mode, of a data set of (images, labels, index)."""
        strategy = self.distribute_strategy
        num_batches = int(dataset.cardinality())

        def fill(images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> None:
            with whole_batch(index):
                self.code_bank.update(index, self.encoder(images, alpha=self.hashing_loss.alpha(), training=False))

        step = tf.function(lambda *batch: strategy.run(fill, batch), reduce_retracing=True)
        for batch in itertools.islice(distribute(dataset, strategy), num_batches):
            step(*batch)

    def descend(
        self, tape: tf.GradientTape, loss: tf.Tensor, images: tf.Tensor, *watched: tf.Tensor
    ) -> list[tf.Tensor]:
        """Apply one step of the optimizer, and count it in the hashing loss."""
        slopes = super().descend(tape, loss, images, *watched)
        self.hashing_loss.advance()
        return slopes
