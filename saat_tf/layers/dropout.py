"""Dropout that drops the same values with and without XLA."""

import keras
import tensorflow as tf

from saat_tf.random_numbers import uniform


@keras.saving.register_keras_serializable(package="saat_tf")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with a mask drawn by `saat_tf.random_numbers`, whose integers agree with and without XLA.

    Args:
        **kwargs: those of `keras.layers.Dropout`.

    Returns:
        In training, 0 with probability `rate` and else x / (1 - rate); otherwise x.

    Example:
        >>> sorted({*Dropout(0.5, seed=1)(tf.ones((100,)), training=True).numpy().tolist()})
        [0.0, 2.0]

    References:
        Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop values of `inputs` in training."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return tf.zeros_like(inputs)
        shape = tf.shape(inputs)
        if self.noise_shape is not None:
            shape = tf.stack([shape[i] if size is None else size for i, size in enumerate(self.noise_shape)])
        kept = uniform(shape, self.seed_generator.next()) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros((), inputs.dtype))
