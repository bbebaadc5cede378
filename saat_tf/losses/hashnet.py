"""HashNet: a balanced pairwise likelihood under a tanh that grows sharper during training."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss
from saat_tf.losses.pairs import mean_over_replicas

# alpha is (1 + GROWTH * steps)^POWER, set anew after each EVERY steps: the HashNet authors' schedule.
GROWTH, POWER, EVERY = 0.005, 0.5, 200


def hashnet_loss(relaxed_codes: tf.Tensor, bank_codes: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Compute 1/|S| sum_ij w_ij ( log(1 + e^t_ij) - s_ij t_ij ), t_ij = 10/K h_i.u_j.

    S are the pairs of the batch with the bank, S1 the relevant and S0 the other ones; w_ij = |S|/|S1| where s_ij = 1,
    else |S|/|S0|. So each kind weighs the same: the loss is the mean over S1 plus the mean over S0.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        bank_codes: u, float (N, K) in [-1, 1].
        relevance: s, float (B, N) of 0/1: 1 where the two share a label.

    Returns:
        Scalar, at least 0. A kind without pairs adds 0.

    Example:
        >>> codes = tf.constant([[1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(hashnet_loss(codes, codes, tf.eye(2))), 6)  # 2 log(1 + e^-10)
        9.1e-05
    """
    t = tf.matmul(relaxed_codes, bank_codes, transpose_b=True)  # (B, K) @ (K, N) -> (B, N)
    t *= 10.0 / tf.cast(tf.shape(relaxed_codes)[1], t.dtype)
    likelihood = tf.nn.sigmoid_cross_entropy_with_logits(labels=relevance, logits=t)
    return mean_over_replicas(likelihood, relevance) + mean_over_replicas(likelihood, 1.0 - relevance)


@keras.saving.register_keras_serializable(package="saat_tf")
class HashNet(HashingLoss):
    """`hashnet_loss` between a batch and the whole bank, with h = tanh(alpha z) and an alpha that grows.

    alpha is (1 + 0.005 t)^0.5 after t training steps, set anew every 200. The count of steps is state of the
    training: `advance` alone changes it, and it is saved with a checkpoint.

    References:
        Cao et al., "HashNet: Deep Learning to Hash by Continuation", ICCV 2017; the schedule and 10/K from the
        authors' code and the SAAT authors' comparison.

    Differs from the authors' code: this alpha belongs to the loss, so that neither an attack nor an evaluation, which
    choose an alpha of their own, touches it. As in the SAAT authors' comparison, relevance is 0 or 1, without the
    paper's factor for the share of common labels, and the pairs are those of the batch with the bank.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = self.add_weight(
            name="steps", dtype="int64", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def alpha(self) -> tf.Tensor:
        """Return the scale of the tanh after the steps so far: float scalar, at least 1."""
        steps = tf.convert_to_tensor(self.steps)
        return tf.pow(1.0 + GROWTH * tf.cast(steps - steps % EVERY, self.compute_dtype), POWER)

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        return hashnet_loss(relaxed_codes, tf.convert_to_tensor(code_bank.codes), code_bank.relevance(labels))

    def advance(self) -> None:
        """Count one more training step."""
        self.steps.assign_add(1)
