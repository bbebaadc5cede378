"""What a hashing loss is."""

import abc

import tensorflow as tf

from saat_tf.layers import CodeBank


class HashingLoss(abc.ABC):
    """A loss that teaches relaxed codes which items belong together.

    A subclass implements `__call__` and `get_config`, and registers itself with Keras so that a training model that
    holds it can be saved.
    """

    @abc.abstractmethod
    def __call__(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss.

        Args:
            relaxed_codes: float (B, K) in [-1, 1].
            labels: float (B, C) of 0/1.
            code_bank: relaxed codes and labels of the training set; no gradient flows into it.
        """

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "HashingLoss":
        """Rebuild the loss from `get_config`."""
        return cls(**config)
