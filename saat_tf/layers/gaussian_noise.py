"""Gaussian noise that is the same with and without XLA."""

import keras
import tensorflow as tf

from saat_tf.random_numbers import normal


@keras.saving.register_keras_serializable(package="saat_tf")
class GaussianNoise(keras.layers.GaussianNoise):
    """`keras.layers.GaussianNoise` with noise drawn by `saat_tf.random_numbers`.

    In training it adds noise, as randomized smoothing needs it; otherwise it does nothing.

    Args:
        **kwargs: those of `keras.layers.GaussianNoise`; `stddev` is the standard deviation, 0 for none.

    Returns:
        In training x + n, n ~ N(0, stddev^2); otherwise x.

    Example:
        >>> GaussianNoise(0.25)(tf.ones((2, 3))).numpy().tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Add noise to `inputs` in training."""
        if not training or self.stddev == 0:
            return inputs
        return inputs + normal(tf.shape(inputs), self.seed_generator.next(), self.stddev)
