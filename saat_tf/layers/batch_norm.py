"""Batch norm whose statistics and slopes are one operation each."""

import keras
import tensorflow as tf

from saat_tf.replicas import several


@keras.saving.register_keras_serializable(package="saat_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for images (B, H, W, C), faster in training.

        y = gamma (x - mean(x)) / sqrt(var(x) + epsilon) + beta,   over B, H, W, with the biased variance

    Keras composes it and its gradient of some twenty passes over the activations; TensorFlow has one operation for
    each. Values, gradients, weights, moving statistics and file format are those of Keras' layer, up to rounding. In
    inference it is that layer. Over several replicas, where `synchronized`, their statistics are added in one exchange,
    and their slopes in another; Keras makes three of each.

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
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        images = tf.cast(inputs, tf.float32)
        context = several() if self.synchronized else None
        y, mean, variance = self._alone(images) if context is None else self._together(images, context)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.stop_gradient(value) * (1.0 - self.momentum))
        return tf.cast(y, self.compute_dtype)

    def _alone(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the normalized images, and mean and biased variance (C,) of these alone."""
        y, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(images[..., 0]), tf.float32)
        return y, mean, unbiased * tf.maximum(count - 1.0, 1.0) / count

    def _together(
        self, images: tf.Tensor, context: tf.distribute.ReplicaContext
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the same over the images of all replicas.

        Squares are taken around the moving mean, which all share: around zero they would cancel where the mean is far.
        The slopes are written out, since those of an exchange that TensorFlow derives take several.
        """
        origin = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean))
        axes = [0, 1, 2]

        def sum_up(values: tf.Tensor) -> tf.Tensor:
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        @tf.custom_gradient
        def normalize(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple:
            mean, variance = tf.nn.moments(x, axes)
            count, away = tf.cast(tf.size(x[..., 0]), tf.float32), mean - origin
            sums = sum_up(tf.concat([count * away, count * (variance + tf.square(away)), count[None]], axis=0))
            total = sums[-1]
            away, squares = tf.split(sums[:-1] / total, 2)
            mean, variance = origin + away, tf.maximum(squares - tf.square(away), 0.0)
            inverse = tf.math.rsqrt(variance + self.epsilon)

            def slopes(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                normal = (x - mean) * inverse
                along_beta, along_gamma = tf.reduce_sum(upstream, axes), tf.reduce_sum(upstream * normal, axes)
                of_mean, of_scale = tf.split(sum_up(tf.concat([along_beta, along_gamma], axis=0)) / total, 2)
                return gamma * inverse * (upstream - of_mean - normal * of_scale), along_gamma, along_beta

            return ((x - mean) * (inverse * gamma) + beta, mean, variance), slopes

        return normalize(images, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta))
