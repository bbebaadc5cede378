"""ProS-GAN's prototype network: prototype codes, and a semantic representation that still knows its labels."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.attacks.prototype_fit import Budget, checked, descend, distinct_label_sets, shares_label
from saat_tf.attacks.prototype_net import SEMANTIC_UNITS, PrototypeNet, quantization_term
from saat_tf.progress import Track, silent


@keras.saving.register_keras_serializable(package="saat_tf")
class SemanticPrototypeNet(PrototypeNet):
    """A `PrototypeNet` with a second head, 512 -> C and a sigmoid, that reads the labels back.

    The second head keeps in the semantic representation what the generator needs to know of a label set.

    Args, errors and what a call returns: those of `PrototypeNet`.

    Example:
        >>> SemanticPrototypeNet(num_classes=10, code_length=16).recovered_labels(tf.eye(10)).shape
        TensorShape([10, 10])

    References:
        Wang et al., "Prototype-supervised Adversarial Network for Targeted Attack of Deep Hashing", CVPR 2021,
        arXiv 2105.07553.
    """

    def __init__(self, num_classes: int, code_length: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(num_classes, code_length, seed, **kwargs)
        self.classifier = self.dense(SEMANTIC_UNITS, num_classes, 3, name="classifier", activation="sigmoid")

    def recovered_labels(self, labels: tf.Tensor) -> tf.Tensor:
        """Return what the second head reads back: labels (B, C) of 0/1 -> float32 (B, C) in [0, 1]."""
        return self.classifier(self.semantics(labels))


def likelihood_loss(relaxed_codes: tf.Tensor, train_codes: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Compute -mean_bi( s_bi t_bi - log(1 + exp t_bi) ) with t_bi = h_b.b_i / 2: the pairwise likelihood.

    Args:
        relaxed_codes: h, float32 (B, K) in [-1, 1].
        train_codes: b, float32 (N, K) of -1/+1.
        relevance: s, (B, N) of 0/1 or bool: which pairs share a label.

    Returns:
        Scalar, at least 0.

    Example:
        >>> round(float(likelihood_loss(tf.zeros((1, 4)), tf.ones((2, 4)), [[1, 0]])), 4)
        0.6931
    """
    halves = tf.matmul(relaxed_codes, train_codes, transpose_b=True) / 2.0  # (B, K) @ (K, N) -> (B, N)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(relevance, halves.dtype), halves))


def fit_semantic_prototype_net(
    train_codes: np.ndarray,
    train_labels: np.ndarray,
    *,
    epochs: int = 100,
    steps_per_epoch: int = 300,
    batch_size: int = 64,
    seed: int = 0,
    track: Track = silent,
) -> SemanticPrototypeNet:
    """Fit ProS-GAN's prototype network to the codes of a training set.

    The loop of `fit_prototype_net` on another loss: `likelihood_loss`, plus the mean squared error of the recovered
    labels, plus `quantization_term`. The defaults are the published budget.

    Args, errors: those of `fit_prototype_net`.

    Returns:
        The fitted network.

    Example:
        >>> codes = np.float32([[1, 1, 1, 1], [-1, -1, -1, -1]])
        >>> net = fit_semantic_prototype_net(codes, np.eye(2), epochs=1, steps_per_epoch=20)
        >>> net.prototype_codes(np.eye(2)).numpy().mean(axis=1).tolist()
        [1.0, -1.0]

    References:
        arXiv 2105.07553 and its authors' code. Differs from that code: label sets are drawn from the training set's
        and not from the database's, and the empty set is no target.
    """
    train_codes, train_labels = checked(train_codes, train_labels)
    net = SemanticPrototypeNet(train_labels.shape[1], train_codes.shape[1], seed=seed)

    def loss(labels: tf.Tensor) -> tf.Tensor:
        relaxed_codes = net(labels)
        likelihood = likelihood_loss(relaxed_codes, train_codes, shares_label(labels, train_labels))
        recovery = tf.reduce_mean(tf.square(net.recovered_labels(labels) - labels))
        return likelihood + recovery + quantization_term(relaxed_codes)

    budget = Budget(epochs, steps_per_epoch, batch_size, seed)
    descend(net.trainable_variables, loss, distinct_label_sets(train_labels), budget, track)
    return net
