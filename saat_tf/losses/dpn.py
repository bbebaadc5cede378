"""DPN: a hinge that polarises every bit towards the target code of the image's classes."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.csq import assigned_centers
from saat_tf.losses.hashing_loss import HashingLoss


def balanced_codes(num_classes: int, code_length: int, seed: int) -> np.ndarray:
    """Draw a random code for each class, half of whose bits, rounded down, are -1.

    Args:
        num_classes: C.
        code_length: K.
        seed: seed of the draw.

    Returns:
        float32 (C, K), every entry -1 or +1.

    Example:
        >>> balanced_codes(3, 8, seed=0).sum(axis=1).tolist()
        [0.0, 0.0, 0.0]
    """
    code = np.ones(code_length, np.float32)
    code[: code_length // 2] = -1
    return np.random.default_rng(seed).permuted(np.tile(code, (num_classes, 1)), axis=1)


def dpn_loss(relaxed_codes: tf.Tensor, target_codes: tf.Tensor, margin: float) -> tf.Tensor:
    """Compute mean_ik max(0, margin - h_ik t_ik).

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        target_codes: t, float (B, K) of -1/+1.
        margin: m; from 1 on no bit is ever beyond it, and the slope is the same for all.

    Returns:
        Scalar, at least 0.

    Example:
        >>> float(dpn_loss(tf.constant([[0.5, 0.5]]), tf.constant([[1.0, -1.0]]), margin=1.0))
        1.0
    """
    return tf.reduce_mean(tf.nn.relu(margin - relaxed_codes * target_codes))


@keras.saving.register_keras_serializable(package="saat_tf")
class DPN(HashingLoss):
    """`dpn_loss` towards the bitwise majority of the target codes of each image's labels.

    Args:
        num_classes: C.
        code_length: K.
        margin: m; 1 in the SAAT authors' comparison.
        seed: seed of the target codes and of the code that breaks ties.

    References:
        Fan et al., "Deep Polarized Network for Supervised Learning of Accurate Binary Hashing Codes", IJCAI 2020.

    Differs from the authors' code: h is the tanh of the logits, as in the SAAT authors' comparison; DPN itself uses
    the logits. Target codes stay as they were drawn (the paper's random assignment, without adaptive updating).
    """

    def __init__(
        self, num_classes: int, code_length: int, *, margin: float = 1.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.code_length = code_length
        self.margin = margin
        self.seed = seed
        self.class_codes = tf.constant(balanced_codes(num_classes, code_length, seed))
        self.tie_code = tf.constant(np.random.default_rng(seed + 1).choice(np.array([-1, 1], np.float32), code_length))

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C); the bank is not read."""
        return dpn_loss(relaxed_codes, assigned_centers(labels, self.class_codes, self.tie_code), self.margin)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "margin": self.margin,
            "seed": self.seed,
        }
