"""Central similarity quantization: every class has a center far from all others, every image is drawn to its own."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss

# Probabilities are kept this far from 0, where a saturated tanh puts them and the logarithm has no value.
MIN_PROBABILITY = 1e-6


def class_centers(num_classes: int, code_length: int, seed: int) -> np.ndarray:
    """Choose a center code for each class.

    Rows of the Hadamard matrix H and then of -H are K/2 or more bits apart; they exist where K is a power of two and
    C <= 2K. Otherwise the centers are random codes.

    Args:
        num_classes: C.
        code_length: K.
        seed: seed of the random codes.

    Returns:
        float32 (C, K), every entry -1 or +1.

    Example:
        >>> class_centers(3, 2, seed=0).tolist()
        [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    is_power_of_two = code_length & (code_length - 1) == 0
    if not is_power_of_two or num_classes > 2 * code_length:
        return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (num_classes, code_length))
    hadamard = np.ones((1, 1), np.float32)
    while len(hadamard) < code_length:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    return np.concatenate([hadamard, -hadamard])[:num_classes]


def assigned_centers(labels: tf.Tensor, class_centers: tf.Tensor, tie_code: tf.Tensor) -> tf.Tensor:
    """Return the bitwise majority of the centers of each row's labels; tied bits are those of `tie_code`.

    Args:
        labels: float (B, C) of 0/1. A row without labels is all ties.
        class_centers: float (C, K) of -1/+1.
        tie_code: float (K,) of -1/+1.

    Returns:
        float (B, K), every entry -1 or +1.

    Example:
        >>> centers = tf.constant([[1.0, 1.0], [1.0, -1.0]])
        >>> assigned_centers(tf.constant([[1.0, 1.0]]), centers, tf.constant([1.0, -1.0])).numpy()
        array([[ 1., -1.]], dtype=float32)
    """
    votes = tf.matmul(labels, class_centers)  # (B, C) @ (C, K) -> (B, K)
    return tf.where(votes == 0, tie_code, tf.sign(votes))


def csq_loss(relaxed_codes: tf.Tensor, assigned_centers: tf.Tensor, quantization: float) -> tf.Tensor:
    """Compute mean_ik -log((1 + h_ik c_ik) / 2) + quantization * mean_ik (|h_ik| - 1)^2.

    The first term is the binary cross-entropy between bits of probability (1 + h) / 2 and the bits of the center.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        assigned_centers: c, float (B, K) of -1/+1.
        quantization: weight of the second term, at least 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> float(csq_loss(tf.ones((1, 8)), tf.ones((1, 8)), quantization=0.05))
        0.0
    """
    probability = tf.maximum((1.0 + relaxed_codes * assigned_centers) / 2.0, MIN_PROBABILITY)
    central = -tf.reduce_mean(tf.math.log(probability))
    return central + quantization * tf.reduce_mean(tf.square(tf.abs(relaxed_codes) - 1.0))


@keras.saving.register_keras_serializable(package="saat_tf")
class CSQ(HashingLoss):
    """`csq_loss` towards the majority of the centers of each image's labels.

    Args:
        num_classes: C.
        code_length: K.
        quantization: weight of the quantization term; 0.05 in the SAAT authors' comparison.
        seed: seed of the code that breaks ties, and of the centers where no Hadamard matrix serves.

    References:
        Yuan et al., "Central Similarity Quantization for Efficient Image and Video Retrieval", CVPR 2020.
    """

    def __init__(
        self, num_classes: int, code_length: int, *, quantization: float = 0.05, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.code_length = code_length
        self.quantization = quantization
        self.seed = seed
        self.class_centers = tf.constant(class_centers(num_classes, code_length, seed))
        self.tie_code = tf.constant(np.random.default_rng(seed + 1).choice(np.array([-1, 1], np.float32), code_length))

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C); the bank is not read."""
        targets = assigned_centers(labels, self.class_centers, self.tie_code)
        return csq_loss(relaxed_codes, targets, self.quantization)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "quantization": self.quantization,
            "seed": self.seed,
        }
