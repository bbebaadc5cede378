"""GreedyHash: classify the signed code itself, its slope passed straight through the sign."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss
from saat_tf.losses.orthohash import soft_label_loss


@tf.custom_gradient
def straight_through_sign(values: tf.Tensor) -> tuple:
    """Return sign(values), with the slope of the identity.

    Args:
        values: float tensor of any shape.

    Returns:
        Tensor of the same shape and dtype, every entry -1 or +1.

    Example:
        >>> straight_through_sign(tf.constant([-0.3, 0.0])).numpy().tolist()
        [-1.0, 1.0]
    """
    return sign(values), lambda upstream: upstream


def greedy_hash_loss(
    relaxed_codes: tf.Tensor, labels: tf.Tensor, projection: tf.Tensor, quantization: float
) -> tf.Tensor:
    """Compute the cross-entropy of W^T sign(h) with the labels + quantization * mean_ik | |h_ik| - 1 |^3.

    The slope of the first term with respect to sign(h) is taken for that with respect to h.

    Args:
        relaxed_codes: h, float (B, K).
        labels: y, float (B, C) of 0/1; a row's labels share its target evenly, a row without labels has none.
        projection: W, float (K, C).
        quantization: weight of the second term, at least 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> loss = greedy_hash_loss(tf.constant([[1.0, -1.0]]), tf.eye(2)[:1], tf.zeros((2, 2)), quantization=0.1)
        >>> round(float(loss), 4)  # log 2
        0.6931
    """
    class_logits = tf.matmul(straight_through_sign(relaxed_codes), projection)  # (B, K) @ (K, C) -> (B, C)
    distance = tf.reduce_mean(tf.pow(tf.abs(tf.abs(relaxed_codes) - 1.0), 3.0))
    return soft_label_loss(class_logits, labels) + quantization * distance


@keras.saving.register_keras_serializable(package="saat_tf")
class GreedyHash(HashingLoss):
    """`greedy_hash_loss` with a linear classifier W that is trained beside the encoder.

    Args:
        num_classes: C.
        code_length: K.
        quantization: weight of the second term; 0.1 in the authors' code for CIFAR-10 and in the CgAT authors'
            comparison.
        seed: seed of W's first values.

    References:
        Su et al., "Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN", NeurIPS 2018.

    Differs from the authors' code: h is the tanh of the logits, as in the CgAT authors' comparison, where GreedyHash
    itself uses the logits; an image with several labels is drawn to all of them, where theirs takes the first.
    """

    def __init__(
        self, num_classes: int, code_length: int, *, quantization: float = 0.1, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.code_length = code_length
        self.quantization = quantization
        self.seed = seed
        initializer = keras.initializers.GlorotUniform(seed)
        self.projection = self.add_weight(name="projection", shape=(code_length, num_classes), initializer=initializer)

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C); the bank is not read."""
        return greedy_hash_loss(relaxed_codes, labels, tf.convert_to_tensor(self.projection), self.quantization)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "quantization": self.quantization,
            "seed": self.seed,
        }
