"""THA's prototype network: a hash code for any label set, learned from the training set's codes."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.attacks.prototype_fit import Budget, checked, descend, distinct_label_sets, shares_label
from saat_tf.codes import sign
from saat_tf.progress import Track, silent

HIDDEN_UNITS, SEMANTIC_UNITS = 4096, 512
QUANTIZATION_WEIGHT = 1e-4
# The exponential of this is 0 in float32, and unlike that of -inf its slope is 0, not NaN.
NO_PAIR = -1e4


@keras.saving.register_keras_serializable(package="saat_tf")
class PrototypeNet(keras.Model):
    """Map a label set to a relaxed prototype code: labels C -> 4096, ReLU -> 512 -> K, tanh.

    The 512 numbers before the last layer are the label set's semantic representation, which ProS-GAN's generator reads.
    Fit one with `fit_prototype_net`. Always float32, whatever the global policy: a prototype is a target, not a load.

    Args:
        num_classes: C, at least 1.
        code_length: K, at least 1.
        seed: seed of the initial weights; None draws from Keras's global seed.

    Returns:
        Called on labels (B, C) of 0/1: relaxed prototype codes, float32 (B, K) in [-1, 1].

    Raises:
        ValueError: `num_classes` or `code_length` is below 1.

    Example:
        >>> PrototypeNet(num_classes=10, code_length=16).prototype_codes(tf.eye(10)).shape
        TensorShape([10, 16])

    References:
        Wang et al., "Targeted Attack and Defense for Deep Hashing", SIGIR 2021; the code of the authors of SAAT.
    """

    def __init__(self, num_classes: int, code_length: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if num_classes < 1 or code_length < 1:
            raise ValueError(
                f"`num_classes` and `code_length` must be at least 1. Received: {num_classes} and {code_length}."
            )
        self.num_classes = num_classes
        self.code_length = code_length
        self.seed = seed
        self.hidden = self.dense(num_classes, HIDDEN_UNITS, 0, name="hidden", activation="relu")
        self.semantic = self.dense(HIDDEN_UNITS, SEMANTIC_UNITS, 1, name="semantic")
        self.hashing = self.dense(SEMANTIC_UNITS, code_length, 2, name="hashing", activation="tanh")
        self.built = True

    def dense(self, num_inputs: int, units: int, number: int, **options: Any) -> keras.layers.Dense:
        """Return a built layer whose initial weights depend on `seed` and the layer's `number` alone."""
        initializer = keras.initializers.GlorotUniform(None if self.seed is None else 4 * self.seed + number)
        layer = keras.layers.Dense(units, kernel_initializer=initializer, dtype="float32", **options)
        layer.build((None, num_inputs))
        return layer

    def semantics(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the semantic representation: labels (B, C) of 0/1 -> float32 (B, 512)."""
        return self.semantic(self.hidden(tf.cast(labels, tf.float32)))

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        """Return relaxed prototype codes: labels (B, C) of 0/1 -> float32 (B, K) in [-1, 1]."""
        return self.hashing(self.semantics(labels))

    def prototype_codes(self, labels: tf.Tensor) -> tf.Tensor:
        """Return prototype codes: labels (B, C) of 0/1 -> float32 (B, K) of -1/+1.

        Raises:
            ValueError: `labels` is not a matrix of C columns.
        """
        labels = tf.convert_to_tensor(labels)
        if labels.shape.rank != 2 or labels.shape[1] != self.num_classes:
            raise ValueError(
                f"`labels` must be (items, {self.num_classes}), the classes that the network was fitted on. "
                f"Received: shape {tuple(labels.shape)}."
            )
        return sign(self(labels))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "seed": self.seed,
        }


def circle_loss(relaxed_codes: tf.Tensor, train_codes: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Compute the circle loss over all pairs of a prototype code and a training code.

    With s_bi = h_b.b_i / K, positive pairs P (those that share a label) and negative pairs N,

        L = softplus( log sum_N exp( (2 + s) s )  +  log sum_P exp( -(2 - s) s ) ) / B

    where the factors 2 + s and 2 - s are held constant: a pair that is more wrong pulls harder. 0 if a side is empty.

    Args:
        relaxed_codes: h, float32 (B, K) in [-1, 1].
        train_codes: b, float32 (N, K) of -1/+1.
        relevance: (B, N) of 0/1 or bool: which pairs are positive.

    Returns:
        Scalar, at least 0.

    Example:
        >>> codes = tf.constant([[1.0, 1.0], [-1.0, -1.0]])
        >>> right, wrong = (float(circle_loss(codes[:1], codes, [pairs])) for pairs in ([1, 0], [0, 1]))
        >>> right < wrong
        True

    References:
        Sun et al., "Circle Loss", CVPR 2020, with margin m = 0, scale 1, and optima at 2 and -2 as in the code of
        SAAT's authors. Differs from that code: it takes only pairs whose training item comes after the prototype
        in its batch (an upper triangle that is made for pairs within one batch); here all pairs count.
    """
    similarity = tf.matmul(relaxed_codes, train_codes, transpose_b=True)  # (B, K) @ (K, N) -> (B, N)
    similarity /= tf.cast(tf.shape(relaxed_codes)[1], similarity.dtype)
    held, positive = tf.stop_gradient(similarity), tf.cast(relevance, tf.bool)
    negative_terms = tf.where(positive, NO_PAIR, (2.0 + held) * similarity)
    positive_terms = tf.where(positive, -(2.0 - held) * similarity, NO_PAIR)
    total = tf.reduce_logsumexp(negative_terms) + tf.reduce_logsumexp(positive_terms)
    return tf.nn.softplus(total) / tf.cast(tf.shape(relaxed_codes)[0], similarity.dtype)


def quantization_term(relaxed_codes: tf.Tensor) -> tf.Tensor:
    """Compute 1e-4 / B * sum_bk (h_bk - sign h_bk)^2 of `relaxed_codes` (B, K), the sign held constant."""
    gaps = tf.square(relaxed_codes - tf.stop_gradient(sign(relaxed_codes)))
    return QUANTIZATION_WEIGHT * tf.reduce_mean(tf.reduce_sum(gaps, axis=1))  # (B, K) -> (B,) -> scalar


def prototype_loss(relaxed_codes: tf.Tensor, train_codes: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Compute the loss that THA's prototype network is fitted on: `circle_loss` plus `quantization_term`."""
    return circle_loss(relaxed_codes, train_codes, relevance) + quantization_term(relaxed_codes)


def fit_prototype_net(
    train_codes: np.ndarray,
    train_labels: np.ndarray,
    *,
    epochs: int = 100,
    steps_per_epoch: int = 300,
    batch_size: int = 32,
    seed: int = 0,
    track: Track = silent,
) -> PrototypeNet:
    """Fit THA's prototype network to the codes of a training set.

    Each step draws `batch_size` of the distinct label sets and descends on `prototype_loss` against all training codes:
    Adam, learning rate 1e-4 (a tenth of it after half the steps, a hundredth after three quarters), betas 0.5 and
    0.999. The defaults are the published budget; a tenth of the epochs is enough for a few thousand items.

    Args:
        train_codes: (N, K) of -1/+1, the hash codes of the training set under the model to attack.
        train_labels: (N, C) of 0/1.
        epochs: rounds of `steps_per_epoch`, at least 1.
        steps_per_epoch: at least 1.
        batch_size: label sets a step, at least 1.
        seed: of the initial weights and of the draws; the same seed gives the same network.
        track: shows progress, one item an epoch.

    Returns:
        The fitted network.

    Raises:
        ValueError: codes or labels of other shapes or values, no labeled item, or a number below 1.

    Example:
        >>> codes = np.float32([[1, 1, 1, 1], [-1, -1, -1, -1]])
        >>> net = fit_prototype_net(codes, np.eye(2), epochs=1, steps_per_epoch=20)
        >>> net.prototype_codes(np.eye(2)).numpy().mean(axis=1).tolist()
        [1.0, -1.0]

    References:
        Wang et al., "Targeted Attack and Defense for Deep Hashing", SIGIR 2021. Differs from the code of SAAT's
        authors: label sets are drawn from the training set's and not from the database's, and the empty set is no
        target.
    """
    train_codes, train_labels = checked(train_codes, train_labels)
    net = PrototypeNet(train_labels.shape[1], train_codes.shape[1], seed=seed)

    def loss(labels: tf.Tensor) -> tf.Tensor:
        return prototype_loss(net(labels), train_codes, shares_label(labels, train_labels))

    budget = Budget(epochs, steps_per_epoch, batch_size, seed)
    descend(net.trainable_variables, loss, distinct_label_sets(train_labels), budget, track)
    return net
