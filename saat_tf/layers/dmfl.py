"""Discriminative mainstay feature learning."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers.code_bank import CodeBank
from saat_tf.mainstay import mainstay_codes_from_sums


@keras.saving.register_keras_serializable(package="saat_tf")
class DMFL(keras.layers.Layer):
    """Give each label set its mainstay code against a bank; the formula is in `saat_tf.mainstay.mainstay_codes`.

    No gradient flows into the bank or the codes: the mainstay code is a target.

    Args:
        code_bank: the codes and labels of the training set, read at each call.

    Returns:
        float32 (B, K), every entry -1 or +1.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(2, dtype="float32"), code_length=8)
        >>> bank.update(tf.constant([0, 1]), tf.stack([tf.ones(8), -tf.ones(8)]))
        >>> DMFL(bank)(tf.constant([[0.0, 1.0]])).numpy()[0, :3].tolist()
        [-1.0, -1.0, -1.0]
    """

    def __init__(self, code_bank: CodeBank, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.code_bank = code_bank

    @tf.function(reduce_retracing=True, autograph=False)
    def call(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the mainstay code of each row of 0/1 `labels` (B, C)."""
        self.code_bank.check_classes(labels)
        return mainstay_codes_from_sums(labels, self.code_bank.sums())

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "code_bank": keras.saving.serialize_keras_object(self.code_bank)}

    @classmethod
    def from_config(cls, config: dict) -> "DMFL":
        """Rebuild the layer with its bank."""
        return cls(**{**config, "code_bank": keras.saving.deserialize_keras_object(config["code_bank"])})
