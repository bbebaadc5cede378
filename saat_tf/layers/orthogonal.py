"""Layers of Lipschitz constant 1 in L2: a constraint that keeps kernels orthogonal, and an activation."""

import keras
import tensorflow as tf

ITERATIONS = 15


@keras.saving.register_keras_serializable(package="saat_tf")
class Orthogonal(keras.constraints.Constraint):
    """Keep a kernel at the nearest matrix W with W^T W = 1, or W W^T = 1 where it is wider than high.

    The kernel of a convolution is one matrix on a patch, (height x width x channels, filters): where patches do not
    overlap, the convolution is orthogonal too. Newton and Schulz' iteration X <- (3 X - X X^T X) / 2 gives the polar
    factor from any X of norm at most 1; here X begins as W over the root of |W|_1 |W|_inf.

    Returns:
        Called on a kernel, float (..., filters): the orthogonal one.

    Example:
        >>> kernel = Orthogonal()(tf.constant([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
        >>> kernel.numpy().round(4).tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]

    References:
        Bjorck and Bowie, "An Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix", SIAM Journal
        on Numerical Analysis 1971; Anil et al., "Sorting Out Lipschitz Function Approximation", ICML 2019.
    """

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        """Return the nearest orthogonal kernel."""
        value = tf.convert_to_tensor(value)
        matrix = tf.reshape(value, (-1, value.shape[-1]))
        sums = tf.reduce_max(tf.reduce_sum(tf.abs(matrix), 0)) * tf.reduce_max(tf.reduce_sum(tf.abs(matrix), 1))
        matrix = tf.math.divide_no_nan(matrix, tf.sqrt(sums))
        tall = matrix.shape[0] >= matrix.shape[1]
        for _ in range(ITERATIONS):
            if tall:
                product = matrix @ tf.matmul(matrix, matrix, transpose_a=True)
            else:
                product = tf.matmul(matrix, matrix, transpose_b=True) @ matrix
            matrix = 1.5 * matrix - 0.5 * product
        return tf.reshape(matrix, tf.shape(value))


@keras.saving.register_keras_serializable(package="saat_tf")
class MaxMin(keras.layers.Layer):
    """Sort pairs of channels: the first half of the channels become the larger, the second half the smaller ones.

    Unlike ReLU it keeps the length of gradients, which orthogonal layers are for.

    Returns:
        float tensor (..., C), C even.

    Raises:
        ValueError: C is odd.

    Example:
        >>> MaxMin()(tf.constant([[1.0, 5.0, 3.0, 4.0]])).numpy().tolist()
        [[3.0, 5.0, 1.0, 4.0]]

    References:
        Anil et al., "Sorting Out Lipschitz Function Approximation", ICML 2019 (GroupSort of two).
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Sort the pairs of `inputs` (..., C)."""
        if inputs.shape[-1] % 2:
            raise ValueError(f"MaxMin sorts pairs of channels. Received: {inputs.shape[-1]} channels.")
        first, second = tf.split(inputs, 2, axis=-1)
        return tf.concat([tf.maximum(first, second), tf.minimum(first, second)], axis=-1)
