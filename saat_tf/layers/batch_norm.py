"""Batch norm whose statistics and slopes are one operation each."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="saat_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for images (B, H, W, C), faster in training.

        y = gamma (x - mean(x)) / sqrt(var(x) + epsilon) + beta,   over B, H, W, with the biased variance

    Keras composes it and its gradient of some twenty passes over the activations; TensorFlow has one operation for
    each. Values, gradients, weights, moving statistics and file format are those of Keras' layer, up to rounding. In
    inference, and where statistics are taken over several replicas, it is that layer.

    Args:
        **kwargs: those of `keras.layers.BatchNormalization`; it takes channels last, a scale and a center, no renorm.

    Returns:
        float (B, H, W, C), of the type of the input.

    Example:
        >>> y = BatchNormalization()(tf.random.stateless_normal((8, 4, 4, 3), (0, 0), mean=5.0), training=True)
        >>> abs(float(tf.reduce_mean(y))) < 1e-5
        True

    References:
        Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
        Shift", ICML 2015.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalize `inputs` (B, H, W, C), and in training take them into the moving statistics."""
        if not (training and self.trainable) or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        images = tf.cast(inputs, tf.float32)
        y, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(images[..., 0]), tf.float32)
        variance = unbiased * tf.maximum(count - 1.0, 1.0) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.stop_gradient(value) * (1.0 - self.momentum))
        return tf.cast(y, self.compute_dtype)
