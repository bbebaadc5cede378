"""DPSH: the likelihood of all pairs, with codes drawn to their signs."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss


def dpsh_loss(
    relaxed_codes: tf.Tensor, bank_codes: tf.Tensor, relevance: tf.Tensor, hash_codes: tf.Tensor, quantization: float
) -> tf.Tensor:
    """Compute 1/(BN) [ sum_ij ( log(1 + e^t_ij) - s_ij t_ij ) + quantization * sum_ik (b_ik - h_ik)^2 ], t = h.u / 2.

    The first sum is the negative log likelihood of pairs that are relevant with probability sigmoid(t). N divides the
    second one as well: as a weight of mean_ik (b_ik - h_ik)^2, quantization is worth quantization * K / N.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        bank_codes: u, float (N, K) in [-1, 1].
        relevance: s, float (B, N) of 0/1: 1 where the two share a label.
        hash_codes: b, float (B, K) of -1/+1, which no gradient flows into.
        quantization: eta, at least 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> codes = tf.ones((1, 2))
        >>> round(float(dpsh_loss(codes, codes, tf.ones((1, 1)), codes, quantization=50.0)), 4)  # log(1 + e) - 1
        0.3133
    """
    t = tf.matmul(relaxed_codes, bank_codes, transpose_b=True) / 2.0  # (B, K) @ (K, N) -> (B, N)
    likelihood = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=relevance, logits=t))
    distance = tf.reduce_sum(tf.square(tf.stop_gradient(hash_codes) - relaxed_codes))
    return likelihood + quantization * distance / tf.cast(tf.size(t), t.dtype)


@keras.saving.register_keras_serializable(package="saat_tf")
class DPSH(HashingLoss):
    """`dpsh_loss` between a batch and the whole bank, with b = sign(h).

    Args:
        quantization: eta; 50 in the SAAT authors' comparison, where the sums are divided by B N as here. It is made
            for thousands of training items: for hundreds, 1 leaves the first sum its say.

    References:
        Li, Wang, Kang, "Feature Learning based Deep Supervised Hashing with Pairwise Labels", IJCAI 2016.

    Differs from the authors' code: h is the tanh of the logits, as in the SAAT authors' comparison; DPSH itself uses
    the logits.
    """

    def __init__(self, *, quantization: float = 50.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantization = quantization

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        bank_codes = tf.convert_to_tensor(code_bank.codes)
        relevance = code_bank.relevance(labels)
        return dpsh_loss(relaxed_codes, bank_codes, relevance, sign(relaxed_codes), self.quantization)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "quantization": self.quantization}
