"""DSDH: DPSH's likelihood, with codes that also have to tell the classes apart by a linear map."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.losses.dpsh import dpsh_loss
from saat_tf.losses.hashing_loss import HashingLoss

# Passes over the bits; the authors' code makes 10 at most.
SWEEPS = 10


def class_projection(code_products: tf.Tensor, code_labels: tf.Tensor, ridge: float) -> tf.Tensor:
    """Solve W = argmin sum_j |y_j - W^T b_j|^2 + ridge |W|^2 = (B^T B + ridge I)^-1 B^T Y.

    Args:
        code_products: B^T B, float (K, K), of codes B (N, K).
        code_labels: B^T Y, float (K, C), with labels Y (N, C).
        ridge: above 0.

    Returns:
        W, float32 (K, C). It is solved in float64: two equal bits and a small ridge leave float32 no digit.

    Example:
        >>> class_projection(tf.constant([[3.0]]), tf.constant([[2.0]]), ridge=1.0).numpy().tolist()
        [[0.5]]
    """
    products, targets = tf.cast(code_products, tf.float64), tf.cast(code_labels, tf.float64)
    identity = tf.eye(tf.shape(products)[0], dtype=tf.float64)
    return tf.cast(tf.linalg.solve(products + ridge * identity, targets), tf.float32)


def discrete_codes(
    relaxed_codes: tf.Tensor, labels: tf.Tensor, projection: tf.Tensor, quantization: float
) -> tf.Tensor:
    """Lower quantization * |b - h|^2 + |y - W^T b|^2 over b in {-1, +1}^K, one bit at a time, from b = sign(h).

    Given the other bits, b_k = sign( quantization h_k + (W y)_k - sum_{l != k} (W W^T)_kl b_l ) is best. Bits are
    visited in turn, at most ten times each, so the objective never rises.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        labels: y, float (B, C) of 0/1.
        projection: W, float (K, C).
        quantization: eta, at least 0.

    Returns:
        b, float (B, K), every entry -1 or +1.

    Example:
        >>> discrete_codes(tf.constant([[0.1, -0.1]]), tf.ones((1, 1)), tf.ones((2, 1)), quantization=0.0).numpy()
        array([[1., 1.]], dtype=float32)
    """
    pull = quantization * relaxed_codes + tf.matmul(labels, projection, transpose_b=True)  # (B, C) @ (C, K) -> (B, K)
    products = tf.matmul(projection, projection, transpose_b=True)  # (K, C) @ (C, K) -> (K, K)
    coupling = tf.linalg.set_diag(products, tf.zeros_like(products[0]))
    # (B, K) -> (K, B), so that a bit is a row
    return tf.transpose(_visit_bits(tf.transpose(pull), coupling, tf.transpose(sign(relaxed_codes))))


@tf.function(reduce_retracing=True)
def _visit_bits(pull: tf.Tensor, coupling: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """Set one bit after the other to its best value, from `codes` (K, B), until a whole pass changes none."""

    def visit(k: tf.Tensor, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        bit = sign(pull[k] - tf.linalg.matvec(codes, coupling[k], transpose_a=True))  # (K, B)^T @ (K,) -> (B,)
        return k + 1, tf.tensor_scatter_nd_update(codes, [[k]], bit[None])

    def sweep(sweeps: tf.Tensor, _: tf.Tensor, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        _, visited = tf.while_loop(lambda k, _: k < tf.shape(codes)[0], visit, (tf.constant(0), codes))
        return sweeps + 1, tf.reduce_any(visited != codes), visited

    # Whether a bit has changed is asked once a pass: a GPU has to answer it to the host.
    return tf.while_loop(
        lambda sweeps, has_changed, _: (sweeps < SWEEPS) & has_changed,
        sweep,
        (tf.constant(0), tf.constant(True), codes),
    )[2]


@keras.saving.register_keras_serializable(package="saat_tf")
class DSDH(HashingLoss):
    """`dpsh_loss` between a batch and the whole bank, with b that fits the labels by a linear map W as well.

    The paper minimizes

        sum_ij log(1 + e^t_ij) - s_ij t_ij + eta sum_i |b_i - u_i|^2 + mu sum_i |y_i - W^T b_i|^2 + nu |W|^2

    over the network, W and b in turn. Here each step solves W from the signs of the whole bank, finds b of the batch
    from W, and returns what depends on the network: the first two sums, divided by B N.

    Args:
        quantization: eta; 55 in the authors' code, for thousands of training items: see `DPSH`.
        classification: mu; 1 in the authors' code.
        ridge: nu; 0.1 in the authors' code.

    References:
        Li et al., "Deep Supervised Discrete Hashing", NIPS 2017.

    Differs from the authors' code: W is solved from the whole bank where they take the batch, as the paper's W step
    does; b starts at sign(h) where they start at 0; h is the tanh of the logits, as in the CgAT authors' comparison.
    """

    def __init__(
        self, *, quantization: float = 55.0, classification: float = 1.0, ridge: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if classification <= 0 or ridge <= 0:
            raise ValueError(
                f"`classification` and `ridge` must be above 0. Received: {classification} and {ridge}. Use DPSH for "
                "a loss without the linear map."
            )
        self.quantization = quantization
        self.classification = classification
        self.ridge = ridge

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        bank_codes = tf.convert_to_tensor(code_bank.codes)
        codes = sign(bank_codes)
        projection = class_projection(
            tf.matmul(codes, codes, transpose_a=True),  # (K, N) @ (N, K) -> (K, K)
            tf.matmul(code_bank.code_sums(), code_bank.label_sets, transpose_a=True),  # (K, M) @ (M, C) -> (K, C)
            self.ridge / self.classification,
        )
        constant_codes = tf.stop_gradient(relaxed_codes)
        hash_codes = discrete_codes(constant_codes, labels, projection, self.quantization / self.classification)
        return dpsh_loss(relaxed_codes, bank_codes, code_bank.relevance(labels), hash_codes, self.quantization)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "quantization": self.quantization,
            "classification": self.classification,
            "ridge": self.ridge,
        }
