"""Base class of the hashing losses."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank


class HashingLoss(keras.layers.Layer):
    """A loss that teaches relaxed codes which items belong together.

    It is a layer, so that what a loss learns or counts is trained, saved and restored with the training model that
    contains it. It is no part of the encoder. A subclass implements `call` and `get_config`, and registers itself with
    Keras. Call it as `loss(relaxed_codes, labels, code_bank=bank)`.
    """

    def __init__(self, dtype: str = "float32", **kwargs: Any) -> None:
        super().__init__(dtype=dtype, **kwargs)
        self.built = True

    def alpha(self) -> float | tf.Tensor:
        """Return alpha of the relaxed codes tanh(alpha z) that the loss and the bank are to see in this step."""
        return 1.0

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss; nothing that the loss contains changes.

        Args:
            relaxed_codes: tanh(alpha z) with the alpha of `alpha()`, float (B, K) in [-1, 1].
            labels: float (B, C) of 0/1.
            code_bank: relaxed codes and labels of the training set, those of this batch among them; no gradient flows
                into it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def advance(self) -> None:
        """Take note that a training step has been done. The training model calls it; most losses need not know."""
        return  # AutoGraph cannot read a function that is a docstring alone.
