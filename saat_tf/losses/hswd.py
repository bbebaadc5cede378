"""HSWD: HashNet with bits that are to be distributed like those of random codes."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashnet import HashNet
from saat_tf.random_numbers import signs
from saat_tf.replicas import gather


def wasserstein_loss(relaxed_codes: tf.Tensor, random_codes: tf.Tensor) -> tf.Tensor:
    """Compute mean_ik ( sort(h)_ik - sort(r)_ik )^2, each bit sorted over the batch.

    It is the squared 2-Wasserstein distance between the values of a bit and those of as many random codes, averaged
    over the bits: the sliced distance with the coordinate axes as directions.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        random_codes: r, float (B, K) of -1/+1.

    Returns:
        Scalar in [0, 4].

    Example:
        >>> float(wasserstein_loss(tf.constant([[1.0], [-1.0]]), tf.constant([[-1.0], [1.0]])))
        0.0
    """
    # Each value meets the random one of its rank. To sort the values too would send their slopes through the host.
    values, random_values = tf.transpose(tf.stop_gradient(relaxed_codes)), tf.sort(tf.transpose(random_codes))  # (K, B)
    order = tf.argsort(values, stable=True)
    ranks = tf.argsort(tf.cast(order, tf.float32))  # GPUs sort floats, and leave int32 to the host
    return tf.reduce_mean(tf.square(relaxed_codes - tf.transpose(tf.gather(random_values, ranks, batch_dims=1))))


@keras.saving.register_keras_serializable(package="saat_tf")
class HSWD(HashNet):
    """HashNet's loss plus quantization * `wasserstein_loss`, with new random codes in each step.

    Args:
        quantization: weight of the second term; 0.1 in the paper's code and in the SAAT authors' comparison.
        seed: seed of the random codes; with the count of steps it names those of a step.

    References:
        Doan, Yang, Li, "One Loss for Quantization: Deep Hashing with Discrete Wasserstein Distributional Matching",
        CVPR 2022.
    """

    def __init__(self, *, quantization: float = 0.1, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantization = quantization
        self.seed = seed

    def random_codes(self, shape: tf.Tensor) -> tf.Tensor:
        """Return this step's random codes: float of `shape`, every entry -1 or +1 with even chances."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.steps, tf.int64)])
        return signs(shape, seed)

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        likelihood = super().call(relaxed_codes, labels, code_bank)
        relaxed_codes = gather(relaxed_codes)  # the distribution over the whole batch
        return likelihood + self.quantization * wasserstein_loss(
            relaxed_codes, self.random_codes(tf.shape(relaxed_codes))
        )

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "quantization": self.quantization, "seed": self.seed}
